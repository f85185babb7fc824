"""What a reader decides about sessions: when to send puts, whom to ask for, whom to give up on.

Pure: `now` (seconds of a monotonic clock) and frames are passed in, frames and decisions come out.
One instance belongs to one reader thread. It names a waiting connection by a token that is never
used again, so that a late answer cannot reach another client.

* **Puts are collected**, as what costs is a lone message, not an entry: they leave after
  :data:`FLUSH_AFTER` seconds, but :data:`FLUSH_EVERY` seconds after the message before, or when
  there are :data:`FLUSH_ENTRIES`. A lookup takes the waiting puts along. A coordinator that
  is asked for what it does not have *recalls* them: they leave at once, or, if there are none, the
  next ones leave after :data:`RECALLED_FLUSH_AFTER`.
* **Lookups have a deadline** after which the handshake goes on in full.
* **A circuit breaker** keeps a lost coordinator from costing every client that deadline: after
  :data:`BREAKER_DEADLINES` of them in a row nobody is asked for, but for one probe every
  :data:`PROBE_INTERVAL` seconds; an answer closes it. Meanwhile the newest puts are held back,
  within bounds, for the coordinator's return.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Final, Generic, TypeVar

from coordinator.errors import MessageError
from coordinator.protocol import (
    MAX_IDS,
    MAX_LOOKUPS,
    MAX_VALUE_BYTES,
    Lookup,
    LookupOp,
    Put,
    Recall,
    Refusal,
    decode_answers,
    encode_sessions,
)

__all__ = [
    "BREAKER_DEADLINES",
    "FLUSH_AFTER",
    "FLUSH_ENTRIES",
    "FLUSH_EVERY",
    "HELD_BYTES",
    "HELD_ENTRIES",
    "PROBE_INTERVAL",
    "RECALLED_FLUSH_AFTER",
    "Breaker",
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
HELD_ENTRIES: Final = 1024
HELD_BYTES: Final = 4 * 1024 * 1024
"""Bounds of the puts held back while the breaker is not closed; the oldest are dropped."""

_MESSAGE_PUT_BYTES: Final = 1024 * 1024
_MESSAGE_PUTS: Final = 1024
_PUT_OVERHEAD: Final = 512
"""Bytes of a put besides its value, generously: scope, id, server name (255 characters)."""
_REASONS: Final = 32
"""Distinct miss reasons counted by name; a coordinator that sends more is counted as "other"."""

Found = tuple[bytes, bytes]
"""(id, value) of a session."""

Owner = TypeVar("Owner")


class Breaker(Enum):
    """State of the circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """A probe is under way; everyone else is a miss."""


class Resumption(Generic[Owner]):
    """Sessions of one reader's connections. Reader thread only; counters may be read anywhere.

    :ivar due: when :meth:`expired` or :meth:`messages` next has something; infinity if never.
    :ivar hits: lookups answered with a session.
    :ivar misses: lookups without one, by reason; ``deadline`` and ``breaker`` are ours, the others
        the coordinator's.
    """

    __slots__ = (
        "_deadlines_in_a_row",
        "_flush_at",
        "_lookups",
        "_next_token",
        "_outstanding",
        "_probe",
        "_probe_at",
        "_put_bytes",
        "_puts",
        "_recalled",
        "_sent_at",
        "_timeout",
        "_worker",
        "breaker",
        "due",
        "hits",
        "late",
        "malformed",
        "misses",
        "opened",
        "puts_dropped",
        "puts_sent",
        "refused",
    )

    def __init__(self, worker: str, lookup_timeout: float) -> None:
        """
        :param worker: the worker's id, told to the coordinator with every message.
        :param lookup_timeout: seconds a handshake waits for an answer.
        """
        self._worker = worker
        self._timeout = lookup_timeout
        self._puts: deque[Put] = deque()
        self._put_bytes = 0
        self._flush_at = math.inf
        self._sent_at = -math.inf
        self._recalled = False
        self._lookups: list[Lookup] = []
        # Every deadline is the same time away, so insertion order is deadline order.
        self._outstanding: dict[int, tuple[float, Owner, Sequence[bytes]]] = {}
        self._next_token = 1
        self._deadlines_in_a_row = 0
        self._probe = 0
        self._probe_at = 0.0
        self.breaker = Breaker.CLOSED
        self.due = math.inf
        self.hits = 0
        self.misses: dict[str, int] = {}
        self.late = 0
        self.malformed = 0
        self.refused = 0
        self.opened = 0
        self.puts_dropped = 0
        self.puts_sent = 0

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
    ) -> None:
        """Sessions were given to a client: have them stored, a little later."""
        puts = self._puts
        for id_, value in entries:
            if len(value) > MAX_VALUE_BYTES:
                self.puts_dropped += 1
                continue
            puts.append(Put(scope, id_, value, server_name))
            self._put_bytes += len(value) + _PUT_OVERHEAD
        if self.breaker is not Breaker.CLOSED:
            while len(puts) > HELD_ENTRIES or self._put_bytes > HELD_BYTES:
                self._put_bytes -= len(puts.popleft().value) + _PUT_OVERHEAD
                self.puts_dropped += 1
        elif len(puts) >= FLUSH_ENTRIES or self._put_bytes >= _MESSAGE_PUT_BYTES:
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
        :returns: the token under which the answer is awaited, or 0: nobody is asked, go on in full.
        """
        probing = False
        if self.breaker is not Breaker.CLOSED:
            if self._probe or now < self._probe_at:
                self._missed("breaker")
                return 0
            probing = True
        token = self._next_token
        self._next_token = token + 1
        if probing:
            self.breaker = Breaker.HALF_OPEN
            self._probe = token
        op = LookupOp.TAKE if single_use else LookupOp.GET
        self._lookups.append(Lookup(token, op, scope, tuple(ids[:MAX_IDS])))
        self._outstanding[token] = (now + self._timeout, owner, ids)
        self.due = now
        return token

    def not_resumed(self, reason: str) -> None:
        """A session that was found, and counted as a hit, may not be resumed any more."""
        self._missed(reason)

    def forget(self, token: int) -> None:
        """The connection that waited under `token` is gone: its answer is of no use to anyone."""
        self._outstanding.pop(token, None)
        if token == self._probe:
            # Nobody will tell how it went; the next client probes.
            self._probe = 0
        self._lookups = [lookup for lookup in self._lookups if lookup.token != token]

    def messages(self, now: float) -> list[bytes]:
        """The frames to send now, in order. Call it at the end of a round, once :attr:`due`; with
        infinity, what is collected leaves whatever the time.
        """
        frames: list[bytes] = []
        lookups = self._lookups
        puts = self._puts
        if lookups or now >= self._flush_at:
            while True:
                batch = self._batch()
                asked = lookups[:MAX_LOOKUPS]
                if not batch and not asked:
                    break
                frames.append(encode_sessions(self._worker, batch, asked))
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
            _, owner, ids = waiting
            if answer.id is not None and answer.value is not None and answer.id in ids:
                self.hits += 1
                resumed.append((owner, (answer.id, answer.value)))
            else:
                self._missed(answer.reason or "malformed")
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
            _, owner, _ = outstanding.pop(token)
            given_up.append(owner)
            self._missed("deadline")
            self._deadline_passed(token, now)
        if given_up:
            self._lookups = [item for item in self._lookups if item.token in outstanding]
        return given_up

    def coordinator_answers(self, now: float) -> None:
        """The control endpoint answered: probe with the next client, and send the puts held."""
        if self.breaker is Breaker.CLOSED:
            return
        self._probe_at = now
        if self._puts:
            self._flush_at = self.due = now

    def _recall(self, now: float) -> None:
        self._recalled = True
        if self._puts and self.breaker is Breaker.CLOSED:
            self._flush_at = self.due = now

    def _batch(self) -> list[Put]:
        """The next message's puts, taken from those waiting."""
        puts = self._puts
        if len(puts) <= _MESSAGE_PUTS and self._put_bytes <= _MESSAGE_PUT_BYTES:
            batch = list(puts)
            puts.clear()
            self._put_bytes = 0
        else:
            batch = []
            size = 0
            while puts and len(batch) < _MESSAGE_PUTS and size < _MESSAGE_PUT_BYTES:
                put = puts.popleft()
                batch.append(put)
                size += len(put.value) + _PUT_OVERHEAD
            self._put_bytes -= size
        self.puts_sent += len(batch)
        return batch

    def _answered(self, now: float) -> None:
        self._deadlines_in_a_row = 0
        if self.breaker is not Breaker.CLOSED:
            self.breaker = Breaker.CLOSED
            self._probe = 0
            if self._puts:
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

    def _missed(self, reason: str) -> None:
        misses = self.misses
        if reason not in misses and len(misses) >= _REASONS:
            reason = "other"
        misses[reason] = misses.get(reason, 0) + 1

    def _set_due(self) -> None:
        if self._lookups:
            # An answer was taken in the round in which these were wanted: they leave in it all the
            # same.
            self.due = 0.0
            return
        due = self._flush_at
        outstanding = self._outstanding
        if outstanding:
            due = min(due, outstanding[next(iter(outstanding))][0])
        self.due = due
