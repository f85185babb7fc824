"""The session cache (PolarSSL's ``ssl_cache_context``): one per deployment, here.

Pure: it reads no clock and does no I/O. It belongs to one thread, the broker's; nobody else
touches it, which is what makes :meth:`SessionCache.take` atomic across all workers and hosts.

A session is found under its *scope* and id. Scope is a hash of everything a session must not
cross (certificate, trust settings, listener), so a session is never found under another one.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

__all__ = ["ENTRY_OVERHEAD", "MissReason", "SessionCache"]

ENTRY_OVERHEAD: Final = 512
"""Bytes charged for an entry beyond its value and server name: key, tuple, number, the worker's
name, the ordered dictionary's node, hash slots just after a resize, and malloc's rounding. CPython
3.11 was seen to use 330 to 480: least with many sessions a message in a table that is about to
grow, most with one session a message in one that just grew (``tests/bench/sessions_cache.py``).
"""

REMEMBERED: Final = 32_768
"""How many used, expired and evicted ids are remembered, each kind for itself (≤ 3 MB a kind)."""

_Entry = tuple[bytes, str | None, str, float]
"""Value, server name, storing worker, expiry. A bare tuple, as it is built for every put."""


class MissReason(StrEnum):
    """Why there is no session."""

    UNKNOWN = "unknown"
    """Never stored, purged, not stored yet, or so long gone that it was forgotten."""
    EXPIRED = "expired"
    USED = "used"
    """It was taken before: one ticket, one use (RFC 8446 §8.1)."""
    EVICTED = "evicted"
    """It made room for newer ones: the bounds are too small for the traffic."""


class _RecentKeys:
    """Remembers the last `capacity` / 2 to `capacity` keys, by their hash.

    The hash is CPython's SipHash with a random key, 64 bits: a false memory is as likely as 1 in
    10¹⁴ and costs one resumption.
    """

    def __init__(self, capacity: int) -> None:
        self._half = max(1, capacity // 2)
        self._young: set[int] = set()
        self._old: set[int] = set()

    def add(self, key: bytes) -> None:
        self._young.add(hash(key))
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()

    def __contains__(self, key: bytes) -> bool:
        mark = hash(key)
        return mark in self._young or mark in self._old

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()


class SessionCache:
    """Sessions bounded by bytes and by entries at every moment; least recently used goes first.

    Every operation is O(1), but for evictions, of which a put needs as many as its size asks for.

    :ivar hits: lookups that found a session.
    :ivar misses: lookups that did not, by reason. A lookup that is answered later counts then.
    :ivar stored: sessions put.
    :ivar refused: puts of sessions that are larger than the whole cache, or used already.
    :ivar evicted: sessions that made room.
    :ivar expired: sessions removed because their time was over.
    :ivar purged: sessions removed by :meth:`purge`.
    """

    def __init__(
        self, *, ttl: float, max_bytes: int, max_entries: int, remembered: int = REMEMBERED
    ) -> None:
        """
        :param ttl: seconds a session lives, counted from its put.
        :param max_bytes: bound on the sum of value, server name and :data:`ENTRY_OVERHEAD`.
        :param max_entries: bound on their number, 1 or more.
        :param remembered: how many ids of each kind of loss are remembered.
        """
        self.ttl = ttl
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0
        self._used = _RecentKeys(remembered)
        self._expired = _RecentKeys(remembered)
        self._evicted = _RecentKeys(remembered)
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
        return len(self._entries)

    def __iter__(self) -> Iterator[bytes]:
        """Keys, least recently used first."""
        return iter(self._entries)

    def put(
        self,
        scope: bytes,
        id_: bytes,
        value: bytes,
        server_name: str | None,
        worker: str,
        now: float,
    ) -> bool:
        """Store a session, in place of one with the same scope and id.

        :param now: seconds of a clock that never goes back.
        :returns: False if it is refused: larger than the cache, or used already.
        """
        key = scope + id_
        entries = self._entries
        if key in self._used:
            self.refused += 1
            return False
        if key in entries:
            self._remove(key)
        size = ENTRY_OVERHEAD + len(value)
        if server_name is not None:
            size += sys.getsizeof(server_name)
        if size > self.max_bytes:
            self.refused += 1
            return False
        room = self.max_bytes - size
        while self._bytes > room or len(entries) >= self.max_entries:
            self._evict(now)
        entries[key] = (value, server_name, worker, now + self.ttl)
        self._bytes += size
        self.stored += 1
        return True

    def get(self, scope: bytes, id_: bytes, now: float) -> bytes | MissReason:
        """The session's value, which stays: TLS 1.2 session ids (RFC 5246 §7.3).

        Counts nothing: one lookup may ask for several ids, see :meth:`count`.
        """
        key = scope + id_
        entry = self._entries.get(key)
        if entry is None:
            return self._why(key)
        if entry[3] <= now:
            self._expire(key)
            return MissReason.EXPIRED
        self._entries.move_to_end(key)
        return entry[0]

    def take(self, scope: bytes, id_: bytes, now: float) -> bytes | MissReason:
        """The session's value, removed in the same step: TLS 1.3 tickets.

        Of any number of takes of one id, at most one gets it (RFC 8446 §8.1, appendix C.4).
        Counts nothing: see :meth:`count`.
        """
        key = scope + id_
        entry = self._entries.get(key)
        if entry is None:
            return self._why(key)
        if entry[3] <= now:
            self._expire(key)
            return MissReason.EXPIRED
        self._remove(key)
        self._used.add(key)
        return entry[0]

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
        while removed < limit and self._entries:
            key = next(iter(self._entries))
            if self._entries[key][3] > now:
                break
            self._expire(key)
            removed += 1
        return removed

    def purge(self) -> int:
        """Remove every session; returns how many there were. Their ids are then unknown."""
        count = len(self._entries)
        self.purged += count
        self._entries.clear()
        self._bytes = 0
        self._expired.clear()
        self._evicted.clear()
        # What was used stays used: a put of it that is still under way must not revive it.
        return count

    def _why(self, key: bytes) -> MissReason:
        if key in self._used:
            return MissReason.USED
        if key in self._expired:
            return MissReason.EXPIRED
        if key in self._evicted:
            return MissReason.EVICTED
        return MissReason.UNKNOWN

    def _evict(self, now: float) -> None:
        key = next(iter(self._entries))
        if self._entries[key][3] <= now:
            self._expire(key)
            return
        self._remove(key)
        self._evicted.add(key)
        self.evicted += 1

    def _expire(self, key: bytes) -> None:
        self._remove(key)
        self._expired.add(key)
        self.expired += 1

    def _remove(self, key: bytes) -> None:
        value, server_name, _, _ = self._entries.pop(key)
        self._bytes -= ENTRY_OVERHEAD + len(value)
        if server_name is not None:
            self._bytes -= sys.getsizeof(server_name)
