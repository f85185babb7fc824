"""What a reader decides about sessions: when to send puts, whom to ask for, whom to give up on.

Pure: `now` (seconds of a monotonic clock) and frames are passed in, frames and decisions come out.
One instance belongs to one reader thread. It names a waiting connection by a token that is never
used again, so that a late answer cannot reach another client.

* **Puts are collected**, as what costs is a lone message, not an entry: they leave after
  :data:`FLUSH_AFTER` seconds, but :data:`FLUSH_EVERY` seconds after the message before, or when
  there are :data:`FLUSH_ENTRIES`. A lookup takes the waiting puts along. A coordinator that
  is asked for what it does not have *recalls* them: they leave at once, or, if there are none, the
  next ones leave after :data:`RECALLED_FLUSH_AFTER`.
* **Purges**: each message says which *mark* of purges was known when its puts were issued. A new
  one comes from the coordinator; what was issued before leaves at once, under the old one.
* **Lookups have a deadline** after which the handshake goes on in full.
* **A circuit breaker** keeps a lost coordinator from costing every client that deadline: after
  :data:`BREAKER_DEADLINES` of them in a row nobody is asked for, but for one probe every
  :data:`PROBE_INTERVAL` seconds; an answer closes it. Meanwhile the newest puts are held back,
  within bounds, for the coordinator's return.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

from coordinator.errors import MessageError
from coordinator.protocol import (
    MAX_IDS,
    MAX_LOOKUPS,
    Lookup,
    LookupOp,
    Mark,
    Put,
    Recall,
    Refusal,
    decode_answers,
    encode_sessions,
)
from shard.breaker import Breaker
from shard.lookup_counts import NO_NAME, LookupCounts
from shard.put_queue import PutQueue

__all__ = [
    "BREAKER_DEADLINES",
    "FLUSH_AFTER",
    "FLUSH_ENTRIES",
    "FLUSH_EVERY",
    "PROBE_INTERVAL",
    "RECALLED_FLUSH_AFTER",
    "Found",
    "Resumption",
]

FLUSH_AFTER: Final = 0.005
"""Seconds a put waits for company."""
FLUSH_EVERY: Final = 0.02
"""Seconds between two messages of puts that nobody asked for; a worker that is killed takes the
sessions of this time with it."""
RECALLED_FLUSH_AFTER: Final = 0.002
"""Seconds a put waits that the coordinator has asked for before it was there; well under the time
for which it parks a lookup."""
FLUSH_ENTRIES: Final = 128
BREAKER_DEADLINES: Final = 3
PROBE_INTERVAL: Final = 0.25
"""Seconds."""

Found = tuple[bytes, bytes]
"""(id, value) of a session."""

Owner = TypeVar("Owner")


class Resumption(Generic[Owner]):
    """Sessions of one reader's connections. Reader thread only; counters may be read anywhere.

    :ivar due: when :meth:`expired` or :meth:`messages` next has something; infinity if never.
    :ivar puts: the sessions collected.
    :ivar counts: lookups by server name, as `names` has it. Of the reasons why there is no session
        ``deadline``, ``breaker`` and ``foreign`` are ours, the others the coordinator's.
    """

    __slots__ = (
        "_certificates",
        "_deadlines_in_a_row",
        "_flush_at",
        "_lookups",
        "_mark",
        "_names",
        "_next_token",
        "_outstanding",
        "_probe",
        "_probe_at",
        "_ready",
        "_recalled",
        "_sent_at",
        "_timeout",
        "_worker",
        "breaker",
        "counts",
        "due",
        "late",
        "malformed",
        "opened",
        "puts",
        "refused",
    )

    def __init__(
        self,
        worker: str,
        lookup_timeout: float,
        certificates: Mapping[bytes, bytes],
        names: Mapping[bytes, str],
    ) -> None:
        """
        :param worker: the worker's id, told to the coordinator with every message.
        :param lookup_timeout: seconds a handshake waits for an answer.
        :param certificates: scope → SHA-256 of its certificate.
        :param names: scope → the name under which its lookups are counted.
        """
        self._worker = worker
        self._certificates = certificates
        self._names = names
        self.counts: dict[str, LookupCounts] = {}
        self._mark = 0
        self._ready: list[bytes] = []
        self._timeout = lookup_timeout
        self.puts = PutQueue()
        self._flush_at = math.inf
        self._sent_at = -math.inf
        self._recalled = False
        self._lookups: list[Lookup] = []
        # Every deadline is the same time away, so insertion order is deadline order.
        self._outstanding: dict[int, tuple[float, Owner, Sequence[bytes], LookupCounts]] = {}
        self._next_token = 1
        self._deadlines_in_a_row = 0
        self._probe = 0
        self._probe_at = 0.0
        self.breaker = Breaker.CLOSED
        self.due = math.inf
        self.late = 0
        self.malformed = 0
        self.refused = 0
        self.opened = 0

    @property
    def outstanding(self) -> int:
        """Lookups whose answer is awaited."""
        return len(self._outstanding)

    def issued(
        self,
        scope: bytes,
        server_name: str | None,
        entries: Sequence[tuple[bytes, bytes]],
        now: float,
        client: str | None = None,
    ) -> None:
        """Sessions were given to a client: have them stored, a little later.

        :param client: its identity, from its certificate.
        """
        puts = self.puts
        for id_, value in entries:
            puts.add(Put(scope, id_, value, server_name, client), now)
        if self.breaker is not Breaker.CLOSED:
            puts.trim()
        elif len(puts) >= FLUSH_ENTRIES or puts.full:
            self._flush_at = self.due = now
        elif self._flush_at == math.inf and puts:
            if self._recalled:
                self._flush_at = now + RECALLED_FLUSH_AFTER
            else:
                self._flush_at = max(now + FLUSH_AFTER, self._sent_at + FLUSH_EVERY)
            self.due = min(self.due, self._flush_at)

    def wanted(
        self,
        owner: Owner,
        single_use: bool,
        scope: bytes,
        ids: Sequence[bytes],
        now: float,
    ) -> int:
        """A client offers sessions.

        :param owner: what :meth:`received` and :meth:`expired` name in their answer.
        :param single_use: a TLS 1.3 ticket, to be taken (RFC 8446 §8.1).
        :param ids: empty if none that it offers can be one of ours.
        :returns: the token under which the answer is awaited, or 0: nobody is asked, go on in full.
        """
        if not ids:
            self._counts(scope).missed("foreign")
            return 0
        op = LookupOp.TAKE if single_use else LookupOp.GET
        return self._ask(owner, Lookup(self._next_token, op, scope, tuple(ids[:MAX_IDS])), now)

    def offered(
        self,
        owner: Owner,
        scope: bytes,
        id_: bytes,
        issued_ms: int,
        expires_ms: int,
        now: float,
    ) -> int:
        """A client offers a sealed ticket that may be used once: as :meth:`wanted`. What is found
        then has no value, as the client has brought it.

        :param issued_ms: Unix time in milliseconds, as is `expires_ms`.
        """
        token, op = self._next_token, LookupOp.STRIKE
        return self._ask(owner, Lookup(token, op, scope, (id_,), issued_ms, expires_ms), now)

    def _counts(self, scope: bytes) -> LookupCounts:
        name = self._names.get(scope, NO_NAME)
        if name not in self.counts:
            self.counts[name] = LookupCounts()
        return self.counts[name]

    def _ask(self, owner: Owner, lookup: Lookup, now: float) -> int:
        counts = self._counts(lookup.scope)
        probing = False
        if self.breaker is not Breaker.CLOSED:
            if self._probe or now < self._probe_at:
                counts.missed("breaker")
                return 0
            probing = True
        token = lookup.token
        self._next_token = token + 1
        if probing:
            self.breaker = Breaker.HALF_OPEN
            self._probe = token
        self._lookups.append(lookup)
        self._outstanding[token] = (now + self._timeout, owner, lookup.ids, counts)
        self.due = now
        return token

    def not_resumed(self, scope: bytes, reason: str) -> None:
        """A session that was found, and counted as a hit, may not be resumed any more."""
        self._counts(scope).missed(reason)

    def forget(self, token: int) -> None:
        """The connection that waited under `token` is gone: its answer is of no use to anyone."""
        self._outstanding.pop(token, None)
        if token == self._probe:
            # Nobody will tell how it went; the next client probes.
            self._probe = 0
        self._lookups = [lookup for lookup in self._lookups if lookup.token != token]

    def messages(self, now: float, *, last: bool = False) -> list[bytes]:
        """The frames to send now, in order. Call it at the end of a round, once :attr:`due`.

        :param last: nothing follows: what is collected leaves whatever the time.
        """
        frames, self._ready = self._ready, []
        lookups = self._lookups
        puts = self.puts
        if lookups or last or now >= self._flush_at:
            while True:
                asked = lookups[:MAX_LOOKUPS]
                if not puts and not asked:
                    break
                frames.append(self._message(asked, now))
                lookups = lookups[MAX_LOOKUPS:]
                if not puts and not lookups:
                    break
            if frames:
                self._sent_at = now
                self._recalled = False
            self._lookups = []
            self._flush_at = math.inf
        self._set_due()
        return frames

    def received(self, frame: bytes, now: float) -> list[tuple[Owner, Found | None]]:
        """Whom a frame from the coordinator answers, and with what. It may be anything."""
        try:
            answers = decode_answers(frame)
        except MessageError:
            self.malformed += 1
            return []
        if isinstance(answers, Refusal):
            self.refused += 1
            return []
        if isinstance(answers, Mark):
            self._adopt(answers.mark, now)
            return []
        if isinstance(answers, Recall):
            self._recall(now)
            return []
        resumed: list[tuple[Owner, Found | None]] = []
        for answer in answers:
            waiting = self._outstanding.pop(answer.token, None)
            if waiting is None:
                self.late += 1
                continue
            self._answered(now)
            _, owner, ids, counts = waiting
            if answer.id is not None and answer.value is not None and answer.id in ids:
                counts.hits += 1
                resumed.append((owner, (answer.id, answer.value)))
            else:
                counts.missed(answer.reason or "malformed")
                resumed.append((owner, None))
        self._set_due()
        return resumed

    def expired(self, now: float) -> list[Owner]:
        """Who has waited long enough and goes on with a full handshake."""
        given_up: list[Owner] = []
        outstanding = self._outstanding
        while outstanding:
            token = next(iter(outstanding))
            if outstanding[token][0] > now:
                break
            _, owner, _, counts = outstanding.pop(token)
            given_up.append(owner)
            counts.missed("deadline")
            self._deadline_passed(token, now)
        if given_up:
            self._lookups = [item for item in self._lookups if item.token in outstanding]
        return given_up

    def coordinator_answers(self, now: float) -> None:
        """The control endpoint answered: probe with the next client, and send the puts held."""
        if self.breaker is Breaker.CLOSED:
            return
        self._probe_at = now
        if self.puts:
            self._flush_at = self.due = now

    def _recall(self, now: float) -> None:
        self._recalled = True
        if self.puts and self.breaker is Breaker.CLOSED:
            self._flush_at = self.due = now

    def hello(self) -> bytes:
        """The first frame on a new connection; the answer is the mark."""
        return encode_sessions(self._worker, (), (), mark=self._mark)

    def _adopt(self, mark: int, now: float) -> None:
        """A purge has begun, or the coordinator is another one."""
        if mark == self._mark:
            return
        while self.puts:
            self._ready.append(self._message((), now))
        self._flush_at = math.inf
        self._mark = mark
        # Says that everything older has been handed over.
        self._ready.append(self.hello())
        self._set_due()

    def _message(self, lookups: Sequence[Lookup], now: float) -> bytes:
        """The next puts of those waiting, and these lookups."""
        age = now - self.puts.oldest
        batch = self.puts.take()
        certificates = self._certificates
        scopes = {put.scope for put in batch}
        return encode_sessions(
            self._worker,
            batch,
            lookups,
            age=age,
            mark=self._mark,
            certificates={scope: certificates[scope] for scope in scopes if scope in certificates},
        )

    def _answered(self, now: float) -> None:
        self._deadlines_in_a_row = 0
        if self.breaker is not Breaker.CLOSED:
            self.breaker = Breaker.CLOSED
            self._probe = 0
            if self.puts:
                self._flush_at = now

    def _deadline_passed(self, token: int, now: float) -> None:
        self._deadlines_in_a_row += 1
        if self.breaker is Breaker.CLOSED:
            if self._deadlines_in_a_row < BREAKER_DEADLINES:
                return
            self.opened += 1
        elif token != self._probe:
            return
        self.breaker = Breaker.OPEN
        self._probe = 0
        self._probe_at = now + PROBE_INTERVAL

    def _set_due(self) -> None:
        if self._lookups or self._ready:
            # An answer was taken in the round in which these were wanted: they leave in it all the
            # same.
            self.due = 0.0
            return
        due = self._flush_at
        outstanding = self._outstanding
        if outstanding:
            due = min(due, outstanding[next(iter(outstanding))][0])
        self.due = due
