"""Orders to a :class:`~shard.fleet.Fleet` that take a while, and when each is over. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shard.fleet_actions import Done, Ticket
from shard.post import BOOT_FAILURES, Post

__all__ = ["Roll", "Scale"]


@dataclass(frozen=True, slots=True)
class Roll:
    """Bring every slot to a new generation.

    :ivar before: the generation to go back to.
    """

    ticket: Ticket
    before: int
    generation: int

    def conclude(self, slots: Mapping[int, Post]) -> Done | None:
        """How it ended; None while it goes on."""
        posts = slots.values()
        if (reason := _broken(posts)) is not None:
            detail = f"a new worker does not start ({reason}); the old ones stay"
            return Done(self.ticket, ok=False, detail=detail)
        if all(post.ready() and post.serves(self.generation) for post in posts):
            return Done(self.ticket, ok=True, detail=f"{_workers(len(posts))} replaced")
        return None


@dataclass(frozen=True, slots=True)
class Scale:
    """Fill new slots, or none if there are fewer now."""

    ticket: Ticket
    slots: range

    def conclude(self, slots: Mapping[int, Post]) -> Done | None:
        """How it ended; None while it goes on."""
        posts = [slots[slot] for slot in self.slots if slot in slots]
        if (reason := _broken(posts)) is not None:
            detail = f"a new worker does not start: {reason}"
            return Done(self.ticket, ok=False, detail=detail)
        if all(post.ready() for post in posts):
            return Done(self.ticket, ok=True, detail=_workers(len(slots)))
        return None


def _broken(posts: Iterable[Post]) -> str | None:
    """Why the first of those that cannot be filled cannot be; None if there is none."""
    return next((post.last_reason for post in posts if post.failures >= BOOT_FAILURES), None)


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
