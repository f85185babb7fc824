"""Purging what is kept nowhere: tickets are refused by the time of their issue. Pure.

A *watermark* is a moment and what it concerns: everything, or tickets of one scope, server name,
certificate, issuing worker, or several of these at once. For the broker's thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from coordinator.errors import MessageError
from coordinator.protocol import ERROR_REFUSED, ERROR_SHAPE, FINGERPRINT_BYTES, SCOPE_BYTES

__all__ = ["MAX_WATERMARKS", "TicketFilter", "Watermarks"]

MAX_WATERMARKS: Final = 1024
"""Each is compared with every ticket that is offered."""

_LONGEST_LIFE_MS: Final = 604_800_000
"""No ticket lives longer (RFC 8446 §4.6.1), so no watermark is of use for longer."""
_MAX_CHARS: Final = 255
_MAX_MS: Final = 2**53


@dataclass(frozen=True, slots=True)
class TicketFilter:
    """Which tickets are meant: those that fit all that is not None.

    :ivar certificate: SHA-256 of the leaf, in DER.
    :ivar worker: id of the worker that issued them.
    """

    scope: bytes | None = None
    server_name: str | None = None
    certificate: bytes | None = None
    worker: str | None = None


class Watermarks:
    """The latest moment for each filter, as Unix time in milliseconds."""

    def __init__(self) -> None:
        self._before: dict[TicketFilter, int] = {}

    def __len__(self) -> int:
        return len(self._before)

    def set(self, which: TicketFilter, before_ms: int) -> bool:
        """Refuse tickets issued before a moment; whether they were not refused already.

        :raises MessageError: ``refused``: there are too many watermarks.
        """
        if before_ms <= self._before.get(which, 0):
            return False
        if which == TicketFilter():
            # It takes in all that came before it.
            self._prune(before_ms)
        if which not in self._before and len(self._before) >= MAX_WATERMARKS:
            self._prune(before_ms - _LONGEST_LIFE_MS)
            if len(self._before) >= MAX_WATERMARKS:
                text = f"there are {MAX_WATERMARKS} purges to remember already: purge all instead"
                raise MessageError(ERROR_REFUSED, text)
        self._before[which] = before_ms
        return True

    def merge(self, told: Any) -> bool:
        """Take over what a worker knows from an earlier coordinator; whether any was new.

        :raises MessageError: ``shape``.
        """
        news = False
        for which, before in _read(told):
            try:
                news |= self.set(which, before)
            except MessageError:
                # Rather refuse too many tickets than one too few.
                news |= self.set(TicketFilter(), before)
        return news

    def wire(self) -> list[list[Any]]:
        """As workers are told: [moment, scope, server name, certificate, worker]."""
        return [
            [before, which.scope, which.server_name, which.certificate, which.worker]
            for which, before in self._before.items()
        ]

    def _prune(self, before_ms: int) -> None:
        self._before = {w: moment for w, moment in self._before.items() if moment > before_ms}


def _read(told: Any) -> list[tuple[TicketFilter, int]]:
    if not isinstance(told, list) or len(told) > MAX_WATERMARKS:
        raise MessageError(ERROR_SHAPE, f"watermarks are a list of at most {MAX_WATERMARKS}")
    return [_one(item) for item in told]


def _one(item: Any) -> tuple[TicketFilter, int]:
    if not isinstance(item, Sequence) or len(item) != 5:
        raise MessageError(ERROR_SHAPE, "a watermark has 5 fields")
    before, scope, server_name, certificate, worker = item
    right = (
        type(before) is int
        and 0 < before < _MAX_MS
        and _bytes_or_none(scope, SCOPE_BYTES)
        and _bytes_or_none(certificate, FINGERPRINT_BYTES)
        and _text_or_none(server_name)
        and _text_or_none(worker)
    )
    if not right:
        raise MessageError(ERROR_SHAPE, "a watermark is [ms, scope, name, certificate, worker]")
    return TicketFilter(scope, server_name, certificate, worker), before


def _bytes_or_none(value: Any, length: int) -> bool:
    return value is None or (isinstance(value, bytes) and len(value) == length)


def _text_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and 1 <= len(value) <= _MAX_CHARS)
