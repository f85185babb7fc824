"""A place that a process is to fill, and how soon it is filled again after it fell empty. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from shard.fleet_actions import Ticket

__all__ = ["BOOT_FAILURES", "Member", "Post", "State"]

BOOT_FAILURES: Final = 3
"""So many processes of a kind fail before one was ever ready: it is not going to work."""
YOUNG: Final = 2.0
"""A process that dies within so many seconds of being ready counts as failing."""
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 5.0
"""Seconds. The first replacement is immediate, the second waits FIRST_DELAY, then it doubles."""


class State(Enum):
    """Of a process that exists."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"


@dataclass(slots=True)
class Member:
    """A process that exists.

    :ivar deadline: when it is killed, unless its state changes before.
    :ivar reason: what it said, or what was done to it, before it ended.
    """

    name: str
    slot: int | None
    generation: int
    drain_timeout: float
    deadline: float
    state: State = State.STARTING
    ready_at: float = 0.0
    reason: str | None = None
    killed: bool = False


@dataclass(slots=True)
class Post:
    """A slot, or the coordinator's place (``slot`` None).

    :ivar successor: what is to take over from `current` once it is ready.
    :ivar failures: deaths in a row of processes that were not ready, or only just.
    :ivar retry_at: no process is started before.
    :ivar replace: the order to replace `current` whatever its generation.
    """

    slot: int | None
    current: Member | None = None
    successor: Member | None = None
    failures: int = 0
    retry_at: float = 0.0
    filled_before: bool = False
    replace: Ticket | None = None
    last_reason: str = ""

    def ready(self) -> bool:
        """Whether somebody serves here."""
        return self.current is not None and self.current.state is State.READY

    def serves(self, generation: int) -> bool:
        """Whether whoever is here belongs to `generation`."""
        return self.current is not None and self.current.generation == generation

    def died(self, member: Member, reason: str, now: float) -> None:
        """A process of this post ended though nobody told it to."""
        if member.state is State.STARTING or now - member.ready_at < YOUNG:
            self.failures += 1
        else:
            self.failures = 0
        delay = 0.0
        if self.failures > 1:
            delay = min(FIRST_DELAY * 2 ** (self.failures - 2), LONGEST_DELAY)
        self.retry_at, self.last_reason = now + delay, reason

    def forgive(self, now: float) -> None:
        """Something changed: try again at once."""
        self.failures, self.retry_at = 0, now
