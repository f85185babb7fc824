"""The session cache (PolarSSL's ``ssl_cache_context``): one per deployment, here.

Pure: it reads no clock and does no I/O. It belongs to one thread, the broker's; nobody else
touches it, which is what makes :meth:`SessionCache.take` atomic across all workers and hosts.

A session is found by its id, and only under the *scope* it was stored with: a hash of everything a
session must not cross (certificate names, trust settings, listener).

The table is cut into parts of some thousand sessions, by id. One large table would be copied as a
whole whenever it grows, which takes 130 ms at 700,000 sessions; and a purge looks at one part at a
time, so that no lookup waits for all of it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from typing import Final

from coordinator.purges import Origin, PurgeFilter, PurgeHistory, PurgeRule
from coordinator.remembered import PurgedIds, RecentIds

__all__ = ["ENTRY_OVERHEAD", "PART_ENTRIES", "PURGE_STEP", "MissReason", "SessionCache"]

ENTRY_OVERHEAD: Final = 400
"""Bytes charged for an entry beyond its value and server name: id, tuple, number, the ordered
dictionary's node, hash slots just after a resize, and malloc's rounding. CPython 3.11 was seen to
use 320 to 350 (``tests/bench/sessions_cache.py``).
"""

REMEMBERED: Final = 32_768
"""How many used, expired and evicted ids are remembered, each kind for itself (≤ 3 MB a kind)."""

PART_ENTRIES: Final = 1024
"""Sessions in a part on average, in a full cache; to look at all of them takes 1 ms."""
PURGE_STEP: Final = 250
"""Sessions removed in one step of a purge, at 2 to 4 µs each."""
_MAX_PARTS: Final = 4096
_MAX_ORIGINS: Final = 4096

_Entry = tuple[bytes, str | None, Origin, float, str | None]
"""Value, server name, origin, when it was issued, client. A bare tuple of what refers to nothing,
so that the cyclic garbage collector does not look at it again."""
_Part = OrderedDict[bytes, _Entry]


class MissReason(StrEnum):
    """Why there is no session."""

    UNKNOWN = "unknown"
    """Never stored, not stored yet, or so long gone that it was forgotten."""
    EXPIRED = "expired"
    USED = "used"
    """It was taken before: one ticket, one use (RFC 8446 §8.1)."""
    EVICTED = "evicted"
    """It made room for newer ones: the bounds are too small for the traffic."""
    SCOPE = "scope"
    """It is there, and was made under another certificate, listener or setting."""
    PURGED = "purged"


class SessionCache:
    """Sessions bounded by bytes and by entries at every moment; least recently used goes first.

    Which that is, is told within a part: exactly in a cache of up to 1024 sessions, and closely in
    a larger one, as ids are random. Every operation is O(1), but for evictions, of which a put
    needs as many as its size asks for.

    :ivar history: the purges so far.
    :ivar hits: lookups that found a session.
    :ivar misses: lookups that did not, by reason. A lookup that is answered later counts then.
    :ivar stored: sessions put.
    :ivar refused: puts of sessions that are larger than the whole cache, over their time, used
        already, or there under another scope.
    :ivar evicted: sessions that made room.
    :ivar expired: sessions removed because their time was over.
    :ivar purged: sessions purged, those included that were under way.
    """

    def __init__(
        self,
        *,
        ttl: float,
        max_bytes: int,
        max_entries: int,
        remembered: int = REMEMBERED,
        first_mark: int = 1,
    ) -> None:
        """
        :param ttl: seconds a session lives, counted from its issue.
        :param max_bytes: bound on the sum of value, server name and :data:`ENTRY_OVERHEAD`.
        :param max_entries: bound on their number, 1 or more.
        :param remembered: how many ids of each kind of loss are remembered.
        :param first_mark: see :class:`PurgeHistory`.
        """
        self.ttl = ttl
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.history = PurgeHistory(first_mark)
        self._part_mask = _parts(min(max_entries, max_bytes // ENTRY_OVERHEAD)) - 1
        self._parts: list[_Part] = [OrderedDict() for _ in range(self._part_mask + 1)]
        self._count = 0
        self._bytes = 0
        self._origins: dict[Origin, Origin] = {}
        self._origin: Origin = (b"", "", None, 0)
        self._used = RecentIds(remembered)
        self._expired = RecentIds(remembered)
        self._evicted = RecentIds(remembered)
        self._purged = PurgedIds()
        self._rule: PurgeRule | None = None
        self._unpurged = 0
        self._doomed: list[bytes] = []
        self._swept = 0
        self.hits = 0
        self.misses: dict[MissReason, int] = dict.fromkeys(MissReason, 0)
        self.stored = 0
        self.refused = 0
        self.evicted = 0
        self.expired = 0
        self.purged = 0

    @property
    def bytes_charged(self) -> int:
        """What is charged now, at most :attr:`max_bytes`."""
        return self._bytes

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        """Ids, part by part, the least recently used of a part first."""
        return chain.from_iterable(self._parts)

    def put(
        self,
        scope: bytes,
        id_: bytes,
        value: bytes,
        server_name: str | None,
        worker: str,
        now: float,
        age: float = 0.0,
        mark: int | None = None,
        certificate: bytes | None = None,
        client: str | None = None,
    ) -> MissReason | None:
        """Store a session, in place of one with the same scope and id.

        :param now: seconds of a clock that never goes back.
        :param age: seconds since it was issued, or a little more.
        :param mark: of the purges, as its worker knew it then; None: it was issued just now.
        :param certificate: SHA-256 of the certificate under which it was made.
        :param client: the client's identity, from its certificate.
        :returns: None if it is stored; otherwise why a lookup does not find it.
        """
        history = self.history
        number = history.number
        issued = now - age
        if (
            mark is not None
            and mark != history.mark
            and id_ not in self._used
            and history.purged(
                (scope, worker, certificate, history.known_to(mark)), server_name, client, issued
            )
        ):
            self.purged += 1
            self._purged.add(id_)
            return MissReason.PURGED
        size = ENTRY_OVERHEAD + len(value)
        if server_name is not None:
            size += sys.getsizeof(server_name)
        if client is not None:
            size += sys.getsizeof(client)
        part = self._parts[hash(id_) & self._part_mask]
        before = part.get(id_)
        if before is not None or age >= self.ttl or size > self.max_bytes or id_ in self._used:
            why = self._refusal(id_, before, scope, age, size)
            if why is not None:
                self.refused += 1
                return why
            self._remove(part, id_)
        room = self.max_bytes - size
        while self._bytes > room or self._count >= self.max_entries:
            self._evict(part, now)
        origin = self._origin
        if (
            origin[0] != scope
            or origin[1] != worker
            or origin[2] != certificate
            or origin[3] != number
        ):
            origin = self._origin = self._interned((scope, worker, certificate, number))
        part[id_] = (value, server_name, origin, issued, client)
        self._bytes += size
        self._count += 1
        self.stored += 1
        return None

    def get(self, scope: bytes, id_: bytes, now: float) -> bytes | MissReason:
        """The session's value, which stays: TLS 1.2 session ids (RFC 5246 §7.3).

        Counts nothing: one lookup may ask for several ids, see :meth:`count`.
        """
        part = self._parts[hash(id_) & self._part_mask]
        entry = part.get(id_)
        if entry is None:
            return self._why(id_)
        if (entry[3] <= now - self.ttl or self._rule is not None or entry[2][0] != scope) and (
            reason := self._unusable(part, id_, entry, scope, now)
        ) is not None:
            return reason
        part.move_to_end(id_)
        return entry[0]

    def take(self, scope: bytes, id_: bytes, now: float) -> bytes | MissReason:
        """The session's value, removed in the same step: TLS 1.3 tickets.

        Of any number of takes of one id, at most one gets it (RFC 8446 §8.1, appendix C.4).
        Counts nothing: see :meth:`count`.
        """
        part = self._parts[hash(id_) & self._part_mask]
        entry = part.get(id_)
        if entry is None:
            return self._why(id_)
        if (entry[3] <= now - self.ttl or self._rule is not None or entry[2][0] != scope) and (
            reason := self._unusable(part, id_, entry, scope, now)
        ) is not None:
            return reason
        self._remove(part, id_)
        self._used.add(id_)
        return entry[0]

    def why_not(self, scope: bytes, id_: bytes) -> MissReason:
        """Why a lookup that waited for this session in vain gets none."""
        entry = self._parts[hash(id_) & self._part_mask].get(id_)
        if entry is not None and entry[2][0] != scope:
            return MissReason.SCOPE
        return self._why(id_)

    def count(self, found: bytes | MissReason) -> None:
        """Count the outcome of one lookup."""
        if isinstance(found, MissReason):
            self.misses[found] += 1
        else:
            self.hits += 1

    def sweep(self, now: float, limit: int) -> int:
        """Remove sessions whose time is over, so that secrets do not outlive it for nothing.

        It looks at the least recently used ones only: a session that was used again may stay for
        up to twice its life, though no lookup finds it.

        :param limit: remove at most so many in this call.
        :returns: how many it removed.
        """
        removed = 0
        issued_until = now - self.ttl
        for _ in self._parts:
            part = self._parts[self._swept]
            while part:
                if removed == limit:
                    return removed
                id_ = next(iter(part))
                if part[id_][3] > issued_until:
                    break
                self._expire(part, id_)
                removed += 1
            self._swept = self._swept + 1 & self._part_mask
        return removed

    def begin_purge(self, what: PurgeFilter, now: float) -> None:
        """From here on no lookup finds a session that `what` is for, unless it is stored later by
        a worker that knows of this purge; :meth:`purge_step` removes them. One at a time.
        """
        assert self._rule is None
        self._rule = self.history.begin(what, now)
        self._unpurged = len(self._parts)

    def purge_step(self) -> bool:
        """Go on with the purge under way: look through a part, or remove some of what is in it.

        :returns: whether there is more to do.
        """
        rule = self._rule
        if rule is None:
            return False
        covers = rule.covers
        if not self._doomed:
            self._unpurged -= 1
            part = self._parts[self._unpurged]
            self._doomed = [i for i, e in part.items() if covers(e[2], e[1], e[4], e[3])]
        part = self._parts[self._unpurged]
        for id_ in self._doomed[-PURGE_STEP:]:
            # It may have gone since, or there may be another one in its place.
            entry = part.get(id_)
            if entry is not None and covers(entry[2], entry[1], entry[4], entry[3]):
                self._purge(part, id_)
        del self._doomed[-PURGE_STEP:]
        if not self._unpurged and not self._doomed:
            self._rule = None
        return self._rule is not None

    def scopes(self) -> dict[bytes, set[bytes]]:
        """The scopes of sessions stored lately, and the certificates in them."""
        found: dict[bytes, set[bytes]] = {}
        for scope, _, certificate, _ in self._origins:
            found.setdefault(scope, set()).update([] if certificate is None else [certificate])
        return found

    def _why(self, id_: bytes) -> MissReason:
        if id_ in self._used:
            return MissReason.USED
        if id_ in self._expired:
            return MissReason.EXPIRED
        if id_ in self._evicted:
            return MissReason.EVICTED
        if id_ in self._purged:
            return MissReason.PURGED
        return MissReason.UNKNOWN

    def _refusal(
        self, id_: bytes, before: _Entry | None, scope: bytes, age: float, size: int
    ) -> MissReason | None:
        """Why a session cannot be stored in place of `before`; None if it can."""
        if id_ in self._used:
            return MissReason.USED
        if before is not None and before[2][0] != scope:
            return MissReason.SCOPE
        if age >= self.ttl:
            self._expired.add(id_)
            return MissReason.EXPIRED
        if size > self.max_bytes:
            self._evicted.add(id_)
            return MissReason.EVICTED
        return None

    def _unusable(
        self, part: _Part, id_: bytes, entry: _Entry, scope: bytes, now: float
    ) -> MissReason | None:
        """Why this entry is not the answer; None if it is."""
        if entry[3] <= now - self.ttl:
            self._expire(part, id_)
            return MissReason.EXPIRED
        if self._rule is not None and self._rule.covers(entry[2], entry[1], entry[4], entry[3]):
            self._purge(part, id_)
            return MissReason.PURGED
        return None if entry[2][0] == scope else MissReason.SCOPE

    def _interned(self, origin: Origin) -> Origin:
        origins = self._origins
        if len(origins) >= _MAX_ORIGINS and origin not in origins:
            origins.clear()  # those in use stay alive, each on its own
        return origins.setdefault(origin, origin)

    def _evict(self, part: _Part, now: float) -> None:
        """Make room, by the part's own oldest if it has any."""
        if not part:
            part = next(filter(None, self._parts))
        id_ = next(iter(part))
        entry = part[id_]
        if entry[3] <= now - self.ttl:
            self._expire(part, id_)
        elif self._rule is not None and self._rule.covers(entry[2], entry[1], entry[4], entry[3]):
            self._purge(part, id_)
        else:
            self._remove(part, id_)
            self._evicted.add(id_)
            self.evicted += 1

    def _expire(self, part: _Part, id_: bytes) -> None:
        self._remove(part, id_)
        self._expired.add(id_)
        self.expired += 1

    def _purge(self, part: _Part, id_: bytes) -> None:
        self._remove(part, id_)
        self._purged.add(id_)
        self.purged += 1

    def _remove(self, part: _Part, id_: bytes) -> None:
        value, server_name, _, _, client = part.pop(id_)
        self._count -= 1
        self._bytes -= ENTRY_OVERHEAD + len(value)
        if server_name is not None:
            self._bytes -= sys.getsizeof(server_name)
        if client is not None:
            self._bytes -= sys.getsizeof(client)


def _parts(entries: int) -> int:
    """How many parts so many sessions need: a power of two."""
    parts = 1
    while parts < _MAX_PARTS and parts * PART_ENTRIES < entries:
        parts *= 2
    return parts
