"""Lookups that wait for a session which is still on its way here. Pure.

A client may come back to another worker before the worker that issued its ticket has handed the
session over: workers collect puts for some milliseconds, as a message costs more than its content.
A lookup that finds nothing therefore waits a little longer than puts are collected, and is answered
the instant the put arrives, from whomever.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from coordinator.protocol import Lookup

__all__ = ["Parked", "ParkingTable"]


@dataclass(slots=True, eq=False)
class Parked:
    """A lookup that waits.

    :ivar asker: routing id of its reader.
    :ivar waiting: the ids that may still come, in the client's order.
    """

    asker: bytes
    lookup: Lookup
    deadline: float
    waiting: list[bytes]
    answered: bool = field(default=False)


class ParkingTable:
    """Parked lookups, bounded in number, in the order in which they came.

    The bound holds because a client chooses the ids it offers: one that invents them must not make
    anything grow. For the broker's thread only.

    :ivar parked: how many lookups were ever parked.
    :ivar overflowed: how many were not, because the table was full.
    """

    def __init__(self, *, park: float, limit: int = 4096) -> None:
        """
        :param park: seconds a lookup waits at most; 0 parks nothing.
        :param limit: how many may wait at a time.
        """
        self.park_seconds = park
        self.limit = limit
        self.parked = 0
        self.overflowed = 0
        # `park` is the same for all, so this is also the order of deadlines.
        self._queue: deque[Parked] = deque()
        self._by_id: dict[tuple[bytes, bytes], list[Parked]] = {}

    def __len__(self) -> int:
        """How many are in the table: those that wait, and some that were answered just now."""
        return len(self._queue)

    def park(self, asker: bytes, lookup: Lookup, waiting: list[bytes], now: float) -> bool:
        """Let a lookup wait for the ids in `waiting`; False if it cannot."""
        if self.park_seconds <= 0:
            return False
        if len(self._queue) >= self.limit:
            self.overflowed += 1
            return False
        parked = Parked(asker, lookup, now + self.park_seconds, waiting)
        self._queue.append(parked)
        for id_ in waiting:
            self._by_id.setdefault((lookup.scope, id_), []).append(parked)
        self.parked += 1
        return True

    def awaited(self, scope: bytes, id_: bytes) -> list[Parked]:
        """Who waits for this session, first come first; they no longer do.

        The caller answers each with :meth:`answer`, or leaves it to wait for its other ids.
        """
        if not self._by_id:
            return []
        awaiting = self._by_id.pop((scope, id_), [])
        for parked in awaiting:
            parked.waiting.remove(id_)
        return awaiting

    def answer(self, parked: Parked) -> None:
        """`parked` was answered: it waits for nothing more."""
        parked.answered = True
        self._forget(parked)

    def due(self, now: float) -> list[Parked]:
        """Those who waited in vain: out of the table, to be answered without a session."""
        over = []
        while self._queue and (self._queue[0].answered or self._queue[0].deadline <= now):
            parked = self._queue.popleft()
            if not parked.answered:
                self._forget(parked)
                over.append(parked)
        return over

    def next_deadline(self) -> float | None:
        """When :meth:`due` has something to return; None while nobody waits."""
        while self._queue and self._queue[0].answered:
            self._queue.popleft()
        return self._queue[0].deadline if self._queue else None

    def _forget(self, parked: Parked) -> None:
        for id_ in parked.waiting:
            key = (parked.lookup.scope, id_)
            awaiting = self._by_id[key]
            awaiting.remove(parked)
            if not awaiting:
                del self._by_id[key]
        parked.waiting.clear()
