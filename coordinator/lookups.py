"""What happens to a message of the *sessions* endpoint: puts, then lookups, then answers. Pure.

Answers are collected, so that one reply carries all that a reader is owed. Readers collect their
puts likewise. A lookup that nobody's puts have answered for :data:`RECALL_AFTER` makes the desk
*recall* what the readers collect: each is asked once, and its next message is its answer. It also
knows the readers, so that each is told of a purge and says when it has heard of it.
"""

from __future__ import annotations

from typing import Final

from coordinator.parking import Parked, ParkingTable
from coordinator.protocol import Answer, Lookup, LookupOp, SessionsRequest
from coordinator.sessions import MissReason, SessionCache
from coordinator.strikes import StrikeRegister

__all__ = ["RECALL_AFTER", "SessionDesk"]

RECALL_AFTER: Final = 0.002
"""Seconds. Under load the put comes with another lookup sooner than that, for nothing."""


MAX_READERS: Final = 8192
"""How many are told of a purge and asked for puts; beyond it, those there for longest are not."""


class SessionDesk:
    """The session cache and the lookups that wait for it. For the broker's thread only."""

    def __init__(self, cache: SessionCache, parking: ParkingTable, strikes: StrikeRegister) -> None:
        self.cache = cache
        self.parking = parking
        self.strikes = strikes
        self._answers: dict[bytes, list[Answer]] = {}
        # Reader → the mark it knows. One that is dropped comes back with its next message.
        self._readers: dict[bytes, int] = {}
        self._untold: set[bytes] = set()
        # Readers that were asked for their puts since their last message.
        self._recalled: set[bytes] = set()
        self._recall_at: float | None = None
        self._recalls: list[bytes] = []

    def handle(self, asker: bytes, request: SessionsRequest, now: float) -> None:
        """Carry out one message.

        Its puts come before its lookups, and wake whoever waits for them.

        :param asker: routing id of its reader.
        """
        put = self.cache.put
        parking = self.parking
        worker, age, mark = request.worker, request.age, request.mark
        certificates = request.certificates
        self._recalled.discard(asker)
        if mark is not None:
            self._heard_of(asker, mark)
        for scope, id_, value, server_name, client in request.puts:
            certificate = certificates.get(scope)
            put(scope, id_, value, server_name, worker, now, age, mark, certificate, client)
            if len(parking):
                for parked in parking.awaited(scope, id_):
                    self._wake(parked, id_, now)
        for lookup in request.lookups:
            if lookup.op is LookupOp.STRIKE:
                self._strike(asker, lookup, now)
            else:
                self._look_up(asker, lookup, now)

    def tick(self, now: float) -> None:
        """Answer the lookups that have waited long enough, and recall puts for the others."""
        for parked in self.parking.due(now):
            # An id may have come under another scope meanwhile.
            lookup = parked.lookup
            reasons = [self.cache.why_not(lookup.scope, id_) for id_ in lookup.ids]
            self._miss(parked.asker, lookup, _first_definite(reasons))
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
        for reader in self._readers:
            if reader not in self._recalled:
                self._recalled.add(reader)
                self._recalls.append(reader)

    # ---- purges ----

    def tell_readers(self) -> None:
        """A purge has begun: every reader is to be told its mark."""
        self._untold.update(self._readers)

    def take_untold(self) -> set[bytes]:
        """The readers to be told the mark now; the caller sends it."""
        untold = self._untold
        if untold:
            self._untold = set()
        return untold

    def readers_behind(self) -> int:
        """How many readers have not said that they know the latest mark."""
        mark = self.cache.history.mark
        return sum(known != mark for known in self._readers.values())

    def forget_readers_behind(self) -> None:
        """Those that do not answer are not waited for again, until they are heard from."""
        mark = self.cache.history.mark
        self._readers = {reader: known for reader, known in self._readers.items() if known == mark}
        self._recalled.intersection_update(self._readers)

    def _heard_of(self, reader: bytes, mark: int) -> None:
        readers = self._readers
        if readers.get(reader) != mark:
            readers[reader] = mark
            if len(readers) > MAX_READERS:
                forgotten = next(iter(readers))
                del readers[forgotten]
                self._recalled.discard(forgotten)
        if mark != self.cache.history.mark:
            self._untold.add(reader)

    # ---- lookups ----

    def _look_up(self, asker: bytes, lookup: Lookup, now: float) -> None:
        find = self.cache.take if lookup.op is LookupOp.TAKE else self.cache.get
        waiting = []
        reasons = []
        for id_ in lookup.ids:
            found = find(lookup.scope, id_, now)
            if not isinstance(found, MissReason):
                self._hit(asker, lookup, id_, found)
                return
            reasons.append(found)
            if found is MissReason.UNKNOWN and id_ not in waiting:
                waiting.append(id_)
        if waiting and self.parking.park(asker, lookup, waiting, now):
            # One in the past is of lookups that were answered in time.
            if self._recall_at is None or self._recall_at <= now:
                self._recall_at = now + RECALL_AFTER
            return
        self._miss(asker, lookup, _first_definite(reasons))

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


def _first_definite(reasons: list[MissReason]) -> MissReason:
    """Of several ids' reasons, the first that says something."""
    return next((r for r in reasons if r is not MissReason.UNKNOWN), MissReason.UNKNOWN)
