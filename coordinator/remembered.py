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
_PROBES: Final = 4


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
    """Remembers the last `capacity` to twice `capacity` ids in 2 bytes each: two Bloom filters.

    A purge may remove a million sessions at once, too many to keep their hashes. The price is that
    up to 1 unknown id in 200 is taken for a purged one, which only names a miss wrongly. Takes no
    memory before the first id.
    """

    def __init__(self, capacity: int = PURGED_IDS) -> None:
        """
        :param capacity: a power of two.
        """
        self._capacity = capacity
        self._mask = capacity * _BITS_AN_ID - 1
        self._young = bytearray()
        self._old = bytearray()
        self._added = 0

    def add(self, id_: bytes) -> None:
        if self._added % self._capacity == 0:
            self._old, self._young = self._young, bytearray((self._mask + 1) // 8)
        self._added += 1
        young = self._young
        for bit in self._bits(id_):
            young[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, id_: bytes) -> bool:
        if not self._added:
            return False
        bits = self._bits(id_)
        return self._all_set(self._young, bits) or self._all_set(self._old, bits)

    def _bits(self, id_: bytes) -> list[int]:
        # Double hashing: Kirsch and Mitzenmacher, "Less Hashing, Same Performance" (2008).
        mark = hash(id_)
        step = mark >> 32 | 1
        return [mark + probe * step & self._mask for probe in range(_PROBES)]

    @staticmethod
    def _all_set(filter_: bytearray, bits: list[int]) -> bool:
        return bool(filter_) and all(filter_[bit >> 3] >> (bit & 7) & 1 for bit in bits)
