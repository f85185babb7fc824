"""How other threads reach a thread that sleeps in poll: a queue and a wakeup descriptor."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Mailbox"]


class Mailbox:
    """Calls for one thread, the owner. :meth:`call` belongs to any thread, the rest to the owner.

    :ivar ident: the owner's identity, 0 before :meth:`adopt`.
    :ivar calls: (function, argument), for the owner to take from the left and carry out.
    :ivar owner_called: called when the owner itself has called, for an owner that does not look at
        :attr:`calls` before it sleeps.
    """

    __slots__ = ("_closed", "_lock", "_wakeup", "_woken", "calls", "ident", "owner_called")

    def __init__(self) -> None:
        self.ident = 0
        self.calls: deque[tuple[Callable[[Any], None], Any]] = deque()
        self.owner_called: Callable[[], None] | None = None
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._woken = False
        self._closed = False
        # Only for waking, so that nobody writes to a descriptor that was closed and given anew.
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """Readable when another thread has called; then :meth:`woken` is due."""
        return self._wakeup

    def adopt(self) -> None:
        """The calling thread is the owner."""
        self.ident = threading.get_ident()

    def call(self, function: Callable[[Any], None], argument: Any) -> None:
        """Have the owner call ``function(argument)`` soon; never, if it has ended."""
        self.calls.append((function, argument))
        if threading.get_ident() == self.ident:
            if self.owner_called is not None:
                self.owner_called()
        elif not self._woken:
            with self._lock:
                if self._closed:
                    self.calls.clear()
                    return
                self._woken = True
                os.eventfd_write(self._wakeup, 1)

    def woken(self) -> None:
        """Take the wakeup back; call it before taking :attr:`calls`."""
        os.eventfd_read(self._wakeup)
        self._woken = False

    def run(self) -> None:
        """Carry out as many calls as there are now. What they add waits for the next time, so that
        no two of them can keep the owner from everything else.
        """
        calls = self.calls
        for _ in range(len(calls)):
            function, argument = calls.popleft()
            function(argument)

    def close(self) -> None:
        """The owner ends."""
        with self._lock:
            self._closed = True
            os.close(self._wakeup)
            self.calls.clear()
