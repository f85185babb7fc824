"""Accepting: one reader's share of the listening sockets.

All workers wait for the same sockets. EPOLLEXCLUSIVE wakes one of them for a connection, always
the first idle one of the kernel's queue, which alone gives one worker most of them. So after each
accept the socket is taken out of the epoll set and added again, which moves this process to the
end of that queue, and no more than one connection is accepted a round.
"""

from __future__ import annotations

import math
import select
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from coordinator.log import get_logger

if TYPE_CHECKING:
    from shard._engine import Connection as EngineConnection
    from shard._engine import Listener, Progress, TlsContext

    Accepted = tuple[EngineConnection, Progress]

__all__ = ["EXHAUSTED_PAUSE", "Acceptor", "Capacity"]

EXHAUSTED_PAUSE: Final = 0.1
"""Seconds without accepting after the system had no descriptor or memory for another socket."""

_LISTEN: Final = select.EPOLLIN | select.EPOLLEXCLUSIVE
_LAST_ACCEPTS: Final = 16

_log = get_logger("reader")


class Capacity:
    """The worker's connection limit, shared by its readers. Any thread."""

    __slots__ = ("_count", "_limit", "_lock", "_waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []

    @property
    def count(self) -> int:
        """Connections open now."""
        return self._count

    def take(self) -> bool:
        """Room for one connection, if there is any."""
        with self._lock:
            if self._count >= self._limit:
                return False
            self._count += 1
            return True

    def give_back(self) -> None:
        """A connection has ended; whoever waits for room is told."""
        with self._lock:
            self._count -= 1
            if not self._waiting:
                return
            waiting, self._waiting = self._waiting, []
        for tell in waiting:
            tell()

    def full(self, tell: Callable[[], None]) -> bool:
        """Whether the limit is reached; if so, `tell` is called once there is room."""
        if self._count < self._limit:
            return False
        with self._lock:
            if self._count < self._limit:
                return False
            self._waiting.append(tell)
            return True


class Acceptor:
    """Reader thread only.

    :ivar resume_at: when :meth:`resume` is to be called; infinity if no time is set.
    :ivar exhausted: times that the system had no descriptor or memory left (EMFILE, ENFILE, …).
    :ivar limited: times that the connection limit was reached.
    """

    __slots__ = (
        "_capacity",
        "_context",
        "_epoll",
        "_listeners",
        "_listening",
        "_room",
        "_stopped",
        "exhausted",
        "limited",
        "resume_at",
    )

    def __init__(
        self,
        epoll: select.epoll,
        listeners: Sequence[Listener],
        context: TlsContext,
        capacity: Capacity,
        room: Callable[[], None],
    ) -> None:
        """
        :param room: called, on any thread, when the connection limit is no longer reached; has
            :meth:`resume` called.
        """
        self._epoll = epoll
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._context = context
        self._capacity = capacity
        self._room = room
        self._listening = False
        self._stopped = False
        self.resume_at = math.inf
        self.exhausted = 0
        self.limited = 0

    def owns(self, fd: int) -> bool:
        """Whether `fd` is one of the listening sockets."""
        return fd in self._listeners

    def accept(self, fd: int, now: float) -> Sequence[Accepted]:
        """A new connection, if one waits and there is room; :meth:`ended` gives its room back."""
        capacity = self._capacity
        if not self._listening or not capacity.take():
            # Another reader of this worker took the last place.
            if self._listening and capacity.full(self._room):
                self.limited += 1
                self.pause()
            return ()
        try:
            accepted = self._listeners[fd].accept(self._context, 1)
        except OSError as error:
            capacity.give_back()
            self.pause()
            self.resume_at = now + EXHAUSTED_PAUSE
            if not self.exhausted:
                _log.warning(
                    "accepting pauses whenever the system has no room for another socket; "
                    "raise the limit of open files or lower server.max_connections",
                    reason=error.strerror,
                )
            self.exhausted += 1
            return ()
        if not accepted:
            capacity.give_back()
            return ()
        if capacity.full(self._room):
            # Leave the queue at once, so that the kernel wakes a worker that has room.
            self.limited += 1
            self.pause()
        else:
            epoll = self._epoll
            epoll.unregister(fd)
            epoll.register(fd, _LISTEN)
        return accepted

    def ended(self) -> None:
        """A connection that :meth:`accept` returned is over."""
        self._capacity.give_back()

    def resume(self) -> None:
        """Accept (again), unless :meth:`stop` was called."""
        self.resume_at = math.inf
        if self._listening or self._stopped:
            return
        self._listening = True
        for fd in self._listeners:
            self._epoll.register(fd, _LISTEN)

    def pause(self) -> None:
        """Accept no more for now."""
        if self._listening:
            self._listening = False
            for fd in self._listeners:
                self._epoll.unregister(fd)

    def stop(self) -> Sequence[Accepted]:
        """Accept no more.

        :returns: the last ones: the kernel may have woken this process alone for them, and then
            nobody else would be until the next client comes.
        """
        was_listening = self._listening
        self.pause()
        self._stopped = True
        last: list[Accepted] = []
        if was_listening:
            for listener in self._listeners.values():
                last += self._last_of(listener)
        return last

    def _last_of(self, listener: Listener) -> list[Accepted]:
        last: list[Accepted] = []
        while len(last) < _LAST_ACCEPTS and self._capacity.take():
            try:
                accepted = listener.accept(self._context, 1)
            except OSError:
                accepted = []
                self.exhausted += 1
            if not accepted:
                self._capacity.give_back()
                break
            last += accepted
        return last
