"""The strike register."""

from __future__ import annotations

import os
import sys

from coordinator.strikes import STRIKE_BYTES, Refused, StrikeRegister

WALL = 1_700_000_000.0
SCOPE = b"s" * 32


def register(capacity: int = 100) -> StrikeRegister:
    return StrikeRegister(capacity=capacity, now=1000.0, wall=WALL)


def ms(seconds: float) -> int:
    """Unix milliseconds so long after the register's start."""
    return int((WALL + seconds) * 1000)


def strike(
    of: StrikeRegister,
    number: int,
    at: float,
    *,
    issued: float = 0.0,
    expires: float = 600.0,
    scope: bytes = SCOPE,
) -> Refused | None:
    id_ = number.to_bytes(32, "big")
    return of.strike(scope, id_, ms(issued), ms(expires), 1000.0 + at)


def test_the_first_use_wins_and_no_other() -> None:
    used = register()
    assert strike(used, 1, 1.0) is None
    assert [strike(used, 1, at) for at in (1.0, 2.0, 599.0)] == [Refused.USED] * 3
    assert strike(used, 2, 1.0) is None
    assert strike(used, 1, 1.0, scope=b"t" * 32) is None
    assert (used.accepted, used.refused[Refused.USED], len(used)) == (3, 3, 3)


def test_what_is_forgotten_has_expired() -> None:
    used = register()
    strike(used, 1, 1.0, expires=100.0)
    now = 1.0
    while now < 300.0:
        used.sweep(1000.0 + now)
        assert strike(used, 1, now, expires=100.0) is not None, now
        now += 1.0
    assert len(used) == 0
    assert strike(used, 1, now, expires=100.0) is Refused.EXPIRED


def test_it_refuses_rather_than_forgets_when_it_is_full() -> None:
    used = register(capacity=2)
    assert [strike(used, number, 1.0) for number in (1, 2, 3)] == [None, None, Refused.FULL]
    assert strike(used, 1, 1.0) is Refused.USED
    used.sweep(1000.0 + 700.0)
    assert strike(used, 3, 700.0, expires=900.0) is None


def test_a_ticket_from_before_its_start_may_have_been_used() -> None:
    used = register()
    assert strike(used, 1, 1.0, issued=-0.001) is Refused.FORGOTTEN
    assert strike(used, 1, 1.0, issued=0.0) is None


def test_it_shows_what_it_holds() -> None:
    used = register(capacity=7)
    strike(used, 1, 1.0)
    strike(used, 1, 1.0)
    view = used.view()
    assert (view["entries"], view["max_entries"], view["accepted"]) == (1, 7, 1)
    assert view["refused"] == {"used": 1, "expired": 0, "forgotten": 0, "full": 0}


def test_an_entry_takes_no_more_than_is_charged() -> None:
    """The set's slots, and an int for each mark, rounded up to 16 bytes by CPython's allocator."""
    for size in (3000, 30_000, 78_700, 157_300):
        marks = {hash(os.urandom(32)) for _ in range(size)}
        rounded = (sys.getsizeof(2**62) + 15) // 16 * 16
        assert sys.getsizeof(marks) / size + rounded < STRIKE_BYTES, size
