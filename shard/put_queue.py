"""Sessions on their way to the coordinator: what a reader collects for its next message. Pure.

For the reader's thread only; the counters may be read anywhere.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from coordinator.protocol import MAX_VALUE_BYTES, Put

__all__ = ["HELD_BYTES", "HELD_ENTRIES", "PutQueue"]

HELD_ENTRIES: Final = 1024
HELD_BYTES: Final = 4 * 1024 * 1024
"""Bounds of what is held back for a coordinator that does not answer; the oldest are dropped."""

_MESSAGE_BYTES: Final = 1024 * 1024
_MESSAGE_PUTS: Final = 1024
_OVERHEAD: Final = 512
"""Bytes of a put besides its value, generously: scope, id, server name (255 characters)."""


class PutQueue:
    """First in, first out.

    :ivar oldest: when the first of those waiting was issued, in the caller's seconds.
    :ivar sent: how many were taken for a message.
    :ivar dropped: how many were too large, or too many to be held back.
    """

    __slots__ = ("_bytes", "_puts", "dropped", "oldest", "sent")

    def __init__(self) -> None:
        self._puts: deque[Put] = deque()
        self._bytes = 0
        self.oldest = 0.0
        self.sent = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._puts)

    @property
    def full(self) -> bool:
        """Whether they are a message's worth of bytes."""
        return self._bytes >= _MESSAGE_BYTES

    def add(self, put: Put, now: float) -> None:
        """Let a session wait; one that is too large to be stored is dropped."""
        size = len(put.value)
        if size > MAX_VALUE_BYTES:
            self.dropped += 1
            return
        if not self._puts:
            self.oldest = now
        self._puts.append(put)
        self._bytes += size + _OVERHEAD

    def trim(self) -> None:
        """Drop the oldest beyond the bounds of what is held back."""
        puts = self._puts
        while len(puts) > HELD_ENTRIES or self._bytes > HELD_BYTES:
            self._bytes -= len(puts.popleft().value) + _OVERHEAD
            self.dropped += 1

    def take(self) -> list[Put]:
        """The next message's, taken from those waiting."""
        puts = self._puts
        if len(puts) <= _MESSAGE_PUTS and self._bytes <= _MESSAGE_BYTES:
            batch = list(puts)
            puts.clear()
            self._bytes = 0
        else:
            batch = []
            size = 0
            while puts and len(batch) < _MESSAGE_PUTS and size < _MESSAGE_BYTES:
                put = puts.popleft()
                batch.append(put)
                size += len(put.value) + _OVERHEAD
            self._bytes -= size
        self.sent += len(batch)
        return batch
