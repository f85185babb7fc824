"""What is remembered of sessions that are gone, so that a miss can say why. Pure.

Bounded in memory whatever clients offer, and by hashes only: CPython's SipHash with a random key,
64 bits, so nobody outside can choose ids that collide.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PURGED_IDS", "PurgedIds", "RecentIds"]

PURGED_IDS: Final = 1 << 20
"""How many purged ids are remembered at least: as many as a cache has by default."""
_BITS_AN_ID: Final = 16
_TWO_BITS: Final = [1 << (number & 63) | 1 << (number >> 6) for number in range(4096)]


class RecentIds:
    """Remembers the last `capacity` / 2 to `capacity` ids, about 90 bytes each.

    A false memory is as likely as 1 in 10¹⁴.
    """

    def __init__(self, capacity: int) -> None:
        self._half = max(1, capacity // 2)
        self._young: set[int] = set()
        self._old: set[int] = set()

    def add(self, id_: bytes) -> None:
        self._young.add(hash(id_))
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()

    def __contains__(self, id_: bytes) -> bool:
        mark = hash(id_)
        return mark in self._young or mark in self._old


class PurgedIds:
    """Remembers the last `capacity` to twice `capacity` ids in 2 bytes each.

    A purge may remove a million sessions at once, too many to keep their hashes. So these are two
    Bloom filters, of blocks of one word (Putze, Sanders and Singler, "Cache-, Hash- and
    Space-Efficient Bloom Filters", 2007), as setting one word takes the least time. The price is
    that up to 1 unknown id in 100 is taken for a purged one, which only names a miss wrongly. No
    memory is taken before the first id.
    """

    def __init__(self, capacity: int = PURGED_IDS) -> None:
        """
        :param capacity: a power of two, 4 or more.
        """
        self._capacity = capacity
        self._words = capacity * _BITS_AN_ID // 64
        self._young = self._old = memoryview(b"")
        self._added = 0

    def add(self, id_: bytes) -> None:
        if self._added % self._capacity == 0:
            self._old, self._young = self._young, self._empty()
        self._added += 1
        mark = hash(id_)
        bits = _TWO_BITS[mark >> 32 & 4095] | _TWO_BITS[mark >> 44 & 4095]
        self._young[mark & self._words - 1] |= bits

    def __contains__(self, id_: bytes) -> bool:
        if not self._added:
            return False
        mark = hash(id_)
        bits = _TWO_BITS[mark >> 32 & 4095] | _TWO_BITS[mark >> 44 & 4095]
        word = mark & self._words - 1
        if self._young[word] & bits == bits:
            return True
        return len(self._old) > 0 and self._old[word] & bits == bits

    def _empty(self) -> memoryview:
        # Of memory that the kernel zeroes page by page, as they are touched.
        return memoryview(bytearray(8 * self._words)).cast("Q")
