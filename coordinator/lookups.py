"""What happens to a message of the *sessions* endpoint: puts, then lookups, then answers. Pure.

Answers are collected, so that one reply carries all that a reader is owed.
"""

from __future__ import annotations

from coordinator.parking import Parked, ParkingTable
from coordinator.protocol import Answer, Lookup, LookupOp, SessionsRequest
from coordinator.sessions import MissReason, SessionCache
from coordinator.strikes import StrikeRegister

__all__ = ["SessionDesk"]


class SessionDesk:
    """The session cache and the lookups that wait for it. For the broker's thread only."""

    def __init__(self, cache: SessionCache, parking: ParkingTable, strikes: StrikeRegister) -> None:
        self.cache = cache
        self.parking = parking
        self.strikes = strikes
        self._answers: dict[bytes, list[Answer]] = {}

    def handle(self, asker: bytes, request: SessionsRequest, now: float) -> None:
        """Carry out one message.

        Its puts come before its lookups, and wake whoever waits for them.

        :param asker: routing id of its reader.
        """
        cache = self.cache
        parking = self.parking
        worker = request.worker
        for put in request.puts:
            stored = cache.put(put.scope, put.id, put.value, put.server_name, worker, now)
            if stored and len(parking):
                for parked in parking.awaited(put.scope, put.id):
                    self._wake(parked, put.id, now)
        for lookup in request.lookups:
            if lookup.op is LookupOp.STRIKE:
                self._strike(asker, lookup, now)
            else:
                self._look_up(asker, lookup, now)

    def tick(self, now: float) -> None:
        """Answer the lookups that have waited long enough."""
        for parked in self.parking.due(now):
            self._miss(parked.asker, parked.lookup, MissReason.UNKNOWN)

    def next_deadline(self) -> float | None:
        """When :meth:`tick` has something to do; None if nothing waits."""
        return self.parking.next_deadline()

    def take_answers(self) -> dict[bytes, list[Answer]]:
        """What is to be sent now, by reader; the caller sends it."""
        answers = self._answers
        if answers:
            self._answers = {}
        return answers

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
            return
        self._miss(asker, lookup, first_reason or MissReason.UNKNOWN)

    def _strike(self, asker: bytes, lookup: Lookup, now: float) -> None:
        (id_,) = lookup.ids
        refused = self.strikes.strike(lookup.scope, id_, lookup.issued_ms, lookup.expires_ms, now)
        # The client brings the session itself.
        answer = (
            Answer(lookup.token, id_, b"", None)
            if refused is None
            else Answer(lookup.token, None, None, refused)
        )
        self._answers.setdefault(asker, []).append(answer)

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
