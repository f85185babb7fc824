"""What a worker takes over from a coordinator's ring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from shard.ticket_keys import TicketKeys

EVERYTHING = (None, None, None, None)


@dataclass
class Engine:
    """The engine's ring, with names alone."""

    names: list[bytes] = field(default_factory=list)
    active: bytes | None = None
    sealed: int = 3
    watermarks: list[Any] = field(default_factory=list)
    sweeps: int = 0

    def replace(
        self,
        *,
        kept: Sequence[bytes],
        added: Sequence[tuple[bytes, bytes, float]],
        active: bytes | None,
    ) -> None:
        assert set(kept) <= set(self.names)
        if any(len(key) != 32 for _, key, _ in added):
            raise ValueError("a key: 32 bytes")
        held = [name for name in self.names if name in kept]
        self.names = held + [name for name, _, _ in added if name not in held]
        self.active = active if active in self.names else None

    def set_watermarks(self, watermarks: Sequence[Any]) -> None:
        self.watermarks = list(watermarks)

    def sweep(self) -> None:
        self.sweeps += 1

    def status(self) -> Engine:
        return self


def ring(serial: int, names: str, active: str | None, *watermarks: list[Any]) -> dict[str, Any]:
    return {
        "serial": serial,
        "epochs": [[name.encode(), name.encode() * 32, 100.0] for name in names],
        "active": None if active is None else active.encode(),
        "watermarks": list(watermarks),
    }


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def keys(engine: Engine) -> TicketKeys:
    return TicketKeys(engine)


def held(engine: Engine) -> str:
    return b"".join(sorted(engine.names)).decode()


def test_a_ring_is_taken_over_and_acknowledged(keys: TicketKeys, engine: Engine) -> None:
    assert keys.registration() == {"ticket_keys": {"holds": False, "watermarks": []}}
    assert keys.registered("b1", ring(4, "AB", "A"))
    assert (held(engine), engine.active) == ("AB", b"A")
    assert keys.stats() == {"ticket_keys": {"serial": 4, "sealed": 3}}
    assert engine.sweeps == 1
    assert keys.registration()["ticket_keys"]["holds"] is True


def test_a_change_takes_back_what_the_same_coordinator_told(
    keys: TicketKeys, engine: Engine
) -> None:
    keys.registered("b1", ring(1, "AB", "A"))
    assert keys.told(ring(2, "BC", "B"))
    assert (held(engine), engine.active) == ("BC", b"B")


def test_a_change_that_was_overtaken_changes_nothing(keys: TicketKeys, engine: Engine) -> None:
    keys.registered("b1", ring(5, "B", "B"))
    assert not keys.told(ring(4, "A", "A"))
    assert (held(engine), keys.serial) == ("B", 5)


def test_the_old_ring_goes_on_under_a_new_coordinator(keys: TicketKeys, engine: Engine) -> None:
    keys.registered("b1", ring(9, "AB", "B"))
    keys.registered("b2", ring(1, "C", None))
    assert (held(engine), engine.active, keys.serial) == ("ABC", b"B", 1)
    keys.told(ring(2, "C", "C"))
    assert (held(engine), engine.active) == ("ABC", b"C")
    keys.told(ring(3, "CD", "D"))
    assert held(engine) == "ABCD"


def test_a_purge_of_everything_drops_an_old_ring(keys: TicketKeys, engine: Engine) -> None:
    keys.registered("b1", ring(9, "AB", "B"))
    keys.registered("b2", ring(1, "C", "C", [50, None, "a.example", None, None]))
    assert held(engine) == "ABC"
    keys.told(ring(2, "C", "C", [100, *EVERYTHING]))
    assert held(engine) == "C"
    assert engine.watermarks == [(100, *EVERYTHING)]


def test_watermarks_never_go_back_and_are_handed_on(keys: TicketKeys, engine: Engine) -> None:
    named = [100, None, "a.example", None, None]
    keys.registered("b1", ring(1, "A", "A", named))
    keys.registered("b2", ring(1, "B", "B", [90, None, "a.example", None, None]))
    assert engine.watermarks == [tuple(named)]
    assert keys.registration()["ticket_keys"]["watermarks"] == [named]


@pytest.mark.parametrize(
    "change",
    [
        {"serial": "x"},
        {"serial": None},
        {"epochs": 1},
        {"epochs": [[b"A", b"short", 1.0]]},
        {"epochs": [[b"A", b"A" * 32]]},
        {"watermarks": [[1]]},
        {"watermarks": None},
    ],
)
def test_what_cannot_be_used_is_counted_and_not_acknowledged(
    keys: TicketKeys, change: dict[str, Any]
) -> None:
    assert not keys.registered("b1", ring(4, "A", "A") | change)
    assert (keys.serial, keys.malformed) == (0, 1)


def test_a_coordinator_without_ticket_keys_is_no_error(keys: TicketKeys) -> None:
    assert not keys.registered("b1", None)
    assert keys.malformed == 0
    assert not keys.told([1])
    assert keys.malformed == 1
