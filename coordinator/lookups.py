"""What happens to a message of the *sessions* endpoint: puts, then lookups, then answers. Pure.

Answers are collected, so that one reply carries all that a reader is owed. Readers collect their
puts likewise. A lookup that nobody's puts have answered for :data:`RECALL_AFTER` makes the desk
*recall* what the readers collect: each is asked once, and its next message is its answer.
"""

from __future__ import annotations

from typing import Final

from coordinator.parking import Parked, ParkingTable
from coordinator.protocol import Answer, Lookup, LookupOp, SessionsRequest
from coordinator.sessions import MissReason, SessionCache

__all__ = ["RECALL_AFTER", "SessionDesk"]

RECALL_AFTER: Final = 0.002
"""Seconds. Under load the put comes with another lookup sooner than that, for nothing."""

_MAX_READERS: Final = 16_384
"""Readers that are remembered; beyond it the first ones are not asked."""


class SessionDesk:
    """The session cache and the lookups that wait for it. For the broker's thread only."""

    def __init__(self, cache: SessionCache, parking: ParkingTable) -> None:
        self.cache = cache
        self.parking = parking
        self._answers: dict[bytes, list[Answer]] = {}
        # Whether each reader was asked for its puts since its last message.
        self._recalled: dict[bytes, bool] = {}
        self._recall_at: float | None = None
        self._recalls: list[bytes] = []

    def handle(self, asker: bytes, request: SessionsRequest, now: float) -> None:
        """Carry out one message.

        Its puts come before its lookups, and wake whoever waits for them.

        :param asker: routing id of its reader.
        """
        cache = self.cache
        parking = self.parking
        worker = request.worker
        self._recalled[asker] = False
        if len(self._recalled) > _MAX_READERS:
            del self._recalled[next(iter(self._recalled))]
        for put in request.puts:
            stored = cache.put(put.scope, put.id, put.value, put.server_name, worker, now)
            if stored and len(parking):
                for parked in parking.awaited(put.scope, put.id):
                    self._wake(parked, put.id, now)
        for lookup in request.lookups:
            self._look_up(asker, lookup, now)

    def tick(self, now: float) -> None:
        """Answer the lookups that have waited long enough, and recall puts for the others."""
        for parked in self.parking.due(now):
            self._miss(parked.asker, parked.lookup, MissReason.UNKNOWN)
        if self._recall_at is not None and self._recall_at <= now:
            self._recall_at = None
            if self.parking.next_deadline() is not None:
                self._recall()

    def next_deadline(self) -> float | None:
        """When :meth:`tick` has something to do; None if nothing waits."""
        deadline = self.parking.next_deadline()
        if deadline is None or self._recall_at is None:
            return deadline
        return min(deadline, self._recall_at)

    def take_answers(self) -> dict[bytes, list[Answer]]:
        """What is to be sent now, by reader; the caller sends it."""
        answers = self._answers
        if answers:
            self._answers = {}
        return answers

    def take_recalls(self) -> list[bytes]:
        """Readers to be asked for their puts now; the caller sends it."""
        recalls = self._recalls
        if recalls:
            self._recalls = []
        return recalls

    def _recall(self) -> None:
        for reader, recalled in self._recalled.items():
            if not recalled:
                self._recalled[reader] = True
                self._recalls.append(reader)

    def _look_up(self, asker: bytes, lookup: Lookup, now: float) -> None:
        find = self.cache.take if lookup.op is LookupOp.TAKE else self.cache.get
        waiting = []
        first_reason: MissReason | None = None
        for id_ in lookup.ids:
            found = find(lookup.scope, id_, now)
            if not isinstance(found, MissReason):
                self._hit(asker, lookup, id_, found)
                return
            if found is MissReason.UNKNOWN:
                if id_ not in waiting:
                    waiting.append(id_)
            elif first_reason is None:
                first_reason = found
        if waiting and self.parking.park(asker, lookup, waiting, now):
            # One in the past is of lookups that were answered in time.
            if self._recall_at is None or self._recall_at <= now:
                self._recall_at = now + RECALL_AFTER
            return
        self._miss(asker, lookup, first_reason or MissReason.UNKNOWN)

    def _wake(self, parked: Parked, id_: bytes, now: float) -> None:
        lookup = parked.lookup
        find = self.cache.take if lookup.op is LookupOp.TAKE else self.cache.get
        found = find(lookup.scope, id_, now)
        if not isinstance(found, MissReason):
            self.parking.answer(parked)
            self._hit(parked.asker, lookup, id_, found)
        elif not parked.waiting:
            self.parking.answer(parked)
            self._miss(parked.asker, lookup, found)

    def _hit(self, asker: bytes, lookup: Lookup, id_: bytes, value: bytes) -> None:
        self.cache.count(value)
        self._answers.setdefault(asker, []).append(Answer(lookup.token, id_, value, None))

    def _miss(self, asker: bytes, lookup: Lookup, reason: MissReason) -> None:
        self.cache.count(reason)
        self._answers.setdefault(asker, []).append(Answer(lookup.token, None, None, reason))
