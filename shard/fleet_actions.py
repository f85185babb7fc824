"""What a :class:`~shard.fleet.Fleet` tells the supervisor to do. Values only."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Action", "Done", "Finish", "Kill", "Serving", "Spawn", "Tell", "Ticket"]

Ticket: TypeAlias = Hashable
"""Names an order to whoever gave it."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process. `slot` is None for the coordinator."""

    name: str
    slot: int | None
    generation: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send an order down the lifeline: ``drain`` or ``stop``."""

    name: str
    order: str


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL: it did not leave in time."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Serving:
    """Every worker is ready for the first time. Comes once."""


@dataclass(frozen=True, slots=True)
class Done:
    """An order is carried out, or will not be."""

    ticket: Ticket
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing runs any more: exit."""

    code: int
    reason: str | None


Action: TypeAlias = Spawn | Tell | Kill | Serving | Done | Finish
