"""The strike register: which single-use tickets have been used. Pure.

It is what lets a ticket work once though no session is kept (RFC 8446 §8.1, §8.2). It belongs to
one thread, the broker's, which makes :meth:`StrikeRegister.strike` atomic across all workers and
hosts. It never forgets a ticket that could still be used: when it is full, tickets are refused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

__all__ = ["STRIKE_BYTES", "Refused", "StrikeRegister"]

STRIKE_BYTES: Final = 160
"""Bytes charged for a used ticket: a 64-bit mark (an int of 48 bytes with malloc's rounding) and
its slots in a set that has just grown (up to 107)."""

_SPAN_MS: Final = 60_000
"""Tickets that expire in the same minute are forgotten together."""


class Refused(StrEnum):
    """Why a ticket may not be used."""

    USED = "used"
    EXPIRED = "expired"
    FORGOTTEN = "forgotten"
    """It is older than this register, which cannot know whether it was used."""
    FULL = "full"
    """The register is: raise ``sessions.max_bytes``, or lower ``sessions.ttl``."""


class StrikeRegister:
    """Tickets used, each until it expires.

    A ticket is remembered by a keyed 64-bit hash (CPython's SipHash): a false memory is as likely
    as 1 in 10¹³ and costs one resumption.

    :ivar accepted: tickets that were used for the first time.
    :ivar refused: tickets that may not be used, by reason.
    """

    def __init__(self, *, capacity: int, now: float, wall: float) -> None:
        """
        :param capacity: how many it remembers.
        :param now: seconds of the clock that :meth:`strike` is given, which never goes back.
        :param wall: Unix time in seconds at that moment. Its later corrections are not followed:
            what has been forgotten must not become young again.
        """
        self.capacity = capacity
        self._offset = wall - now
        self._since_ms = int(wall * 1000)
        self._spans: dict[int, set[int]] = {}
        self._count = 0
        self.accepted = 0
        self.refused: dict[Refused, int] = dict.fromkeys(Refused, 0)

    def __len__(self) -> int:
        return self._count

    def strike(
        self, scope: bytes, id_: bytes, issued_ms: int, expires_ms: int, now: float
    ) -> Refused | None:
        """Use a ticket: None the first time, and the reason against it ever after.

        :param issued_ms: Unix time in milliseconds, as is `expires_ms`.
        """
        reason = self._reason(scope + id_, issued_ms, expires_ms, now)
        if reason is None:
            self.accepted += 1
        else:
            self.refused[reason] += 1
        return reason

    def _reason(self, key: bytes, issued_ms: int, expires_ms: int, now: float) -> Refused | None:
        if expires_ms <= self._wall_ms(now):
            return Refused.EXPIRED
        if issued_ms < self._since_ms:
            return Refused.FORGOTTEN
        # A ticket's expiry is sealed in it, so the same ticket always comes to the same set.
        span = self._spans.get(expires_ms // _SPAN_MS)
        mark = hash(key)
        if span is not None and mark in span:
            return Refused.USED
        if self._count >= self.capacity:
            return Refused.FULL
        if span is None:
            span = self._spans[expires_ms // _SPAN_MS] = set()
        span.add(mark)
        self._count += 1
        return None

    def sweep(self, now: float) -> None:
        """Forget the tickets that have expired."""
        over = self._wall_ms(now) // _SPAN_MS
        for span in [span for span in self._spans if span < over]:
            self._count -= len(self._spans.pop(span))

    def view(self) -> dict[str, Any]:
        """For the status."""
        return {
            "entries": self._count,
            "max_entries": self.capacity,
            "accepted": self.accepted,
            "refused": {str(reason): count for reason, count in self.refused.items()},
        }

    def _wall_ms(self, now: float) -> int:
        return int((now + self._offset) * 1000)
