"""Signals as events of a loop: a descriptor that becomes readable, and what has come."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable
from types import FrameType
from typing import Self

__all__ = ["SignalInbox"]


class SignalInbox:
    """Takes over some signals while it is entered. For the main thread only."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._numbers = tuple(numbers)
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, _noted) for number in self._numbers}
        self._previous = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(self._previous)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._reader.fileno()

    def take(self) -> list[signal.Signals]:
        """What has come since the last call, each once, in the order of arrival."""
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in dict.fromkeys(numbers)]


def _noted(_number: int, _frame: FrameType | None) -> None:
    """A Python handler has to exist for a signal to reach the wakeup descriptor."""
