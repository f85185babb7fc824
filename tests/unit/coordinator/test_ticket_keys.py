"""The ring of ticket keys."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from itertools import count

import pytest

from coordinator.ticket_keys import (
    KEY_BYTES,
    MAX_EPOCHS,
    NAME_BYTES,
    SEALED_ENOUGH,
    Epoch,
    EpochState,
    KeyRing,
)

HOUR = 3600.0


def ring(*, keep: int = 4) -> KeyRing:
    return KeyRing(rotate_every=HOUR, keep=keep, random=secrets.token_bytes)


def started(*, keep: int = 4) -> KeyRing:
    made = ring(keep=keep)
    made.start(0.0, 0.0)
    made.advance(0.0, ())
    return made


def active(of: KeyRing) -> Epoch:
    assert of.active is not None
    return of.active


def states(of: KeyRing, now: float) -> list[str]:
    return [epoch["state"] for epoch in of.view(now, ())]


def run(of: KeyRing, start: float, end: float, acknowledged: Collection[int] = ()) -> None:
    """Advance a second at a time."""
    now = start
    while now < end:
        now += 1.0
        of.advance(now, acknowledged)


def test_the_first_epoch_seals_at_once_where_nobody_has_another() -> None:
    made = ring()
    assert made.message(0.0)["epochs"] == []
    made.start(0.0, 0.0)
    assert made.advance(0.0, ())
    message = made.message(10.0)
    ((name, key, left),) = message["epochs"]
    assert message["active"] == name
    assert (len(name), len(key), left) == (NAME_BYTES, KEY_BYTES, 4 * HOUR - 10.0)
    assert message["serial"] == made.serial
    made.start(1.0, 0.0)
    assert len(made) == 1


def test_the_first_epoch_waits_for_workers_of_an_earlier_coordinator() -> None:
    made = ring()
    made.start(0.0, 2.0)
    made.advance(1.9, ())
    assert made.message(1.9)["active"] is None
    assert made.advance(2.0, ())
    assert made.active is not None


def test_an_epoch_seals_only_when_every_worker_has_it() -> None:
    made = started()
    before = active(made)
    made.rotate(10.0)
    wanted = made.serial
    assert made.active is before
    assert not made.advance(11.0, [wanted, wanted - 1])
    assert made.active is before
    assert made.advance(12.0, [wanted, wanted])
    assert active(made).name != before.name
    assert before.state is EpochState.DECRYPTING


def test_rotation_by_time_tells_an_epoch_before_it_seals() -> None:
    made = started()
    first = active(made)
    run(made, 0.0, HOUR - 61)
    assert states(made, HOUR) == ["active"]
    run(made, HOUR - 61, HOUR - 60, [0])
    assert states(made, HOUR) == ["active", "next"]
    run(made, HOUR - 60, HOUR - 1, [made.serial])
    assert made.active is first
    run(made, HOUR - 1, HOUR, [made.serial])
    assert states(made, HOUR) == ["decrypting", "active"]
    assert made.rotations == 2


def test_as_many_spans_are_kept_as_was_said_and_then_overwritten() -> None:
    made = started(keep=3)
    first = active(made)
    key = first.key
    seen = set()
    for number in range(9):
        run(made, number * HOUR, (number + 1) * HOUR - 62)
        seen.add(len(made))
        if number < 2:
            assert any(key)
    assert max(seen) == 3
    assert not any(key)
    assert first.name not in [name for name, _, _ in made.message(9 * HOUR)["epochs"]]


def test_a_worker_that_acknowledges_nothing_delays_but_ends_nothing() -> None:
    """Its lease decides that; should it never end, a key that nobody seals with ends by itself."""
    made = started(keep=2)
    run(made, 0.0, 5 * HOUR, [0])
    assert made.active is None
    assert made.next is not None
    assert made.advance(5 * HOUR, [made.serial])
    assert made.active is not None


def test_a_ticket_of_the_last_moment_is_good_for_the_spans_after() -> None:
    made = started(keep=4)
    first = active(made)
    assert first.decrypt_until - (first.activate_at + HOUR) == 3 * HOUR


def test_rotation_on_command_uses_the_one_that_is_told_already() -> None:
    made = started()
    told = made.rotate(1.0)
    assert made.rotate(2.0) is told
    assert len(made) == 2


def test_too_many_rotations_are_refused() -> None:
    made = started()
    for number in range(MAX_EPOCHS - 1):
        made.rotate(float(number))
        made.advance(float(number), ())
    assert len(made) == MAX_EPOCHS
    with pytest.raises(ValueError, match="already"):
        made.rotate(100.0)


def test_a_key_that_has_sealed_enough_is_replaced_early() -> None:
    made = started()
    worn = active(made)
    made.report("a", SEALED_ENOUGH - 1)
    made.advance(1.0, ())
    assert made.active is worn
    made.report("b", 1)
    made.advance(2.0, ())
    assert made.active is not worn


def test_forgetting_overwrites_what_only_opens() -> None:
    made = started()
    old = active(made)
    made.rotate(1.0)
    made.advance(1.0, ())
    serial = made.serial
    made.forget()
    assert made.serial > serial
    assert not any(old.key)
    assert states(made, 1.0) == ["active"]


def test_names_are_never_zero_and_never_repeated() -> None:
    numbers = count(1)

    def random(length: int) -> bytes:
        """Zeros at first, then each value twice."""
        number = next(numbers)
        return (number // 3).to_bytes(length, "big")

    made = KeyRing(rotate_every=HOUR, keep=4, random=random)
    made.start(0.0, 0.0)
    made.advance(0.0, ())
    for moment in range(1, 20):
        made.rotate(float(moment))
        made.advance(float(moment), ())
    epochs = made.message(20.0)["epochs"]
    names = [name for name, _, _ in epochs]
    assert len(names) == len(set(names)) == 20
    assert all(any(name) and any(key) for name, key, _ in epochs)


def test_no_key_is_in_a_repr_or_in_the_view() -> None:
    made = started()
    epoch = active(made)
    shown = repr(epoch) + repr(made.view(0.0, [1, 2]))
    assert repr(bytes(epoch.key))[2:12] not in shown
    assert epoch.key.hex()[:16] not in shown
    (line,) = made.view(5.0, [0, made.serial])
    assert line["name"] == epoch.name.hex()[:8]
    assert (line["acknowledged"], line["workers"], line["age_seconds"]) == (1, 2, 5.0)
