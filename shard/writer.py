"""A writer thread: it drains the backlogs of connections whose client reads slowly.

The thread that found a backlog registers the socket here, for one event (EPOLLONESHOT), so a
connection whose writes go straight through costs nothing here. The engine's lock orders a flush
and a write that meet.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import Final

from shard.connection import Connection

__all__ = ["Writer"]

_MAX_EVENTS: Final = 64
_WRITABLE: Final = select.EPOLLOUT | select.EPOLLONESHOT


class Writer:
    """Any thread may :meth:`arm`, :meth:`forget` and :meth:`stop`; the thread runs :meth:`run`.

    :ivar stalled: connections given up because their client read nothing for the idle timeout.
    """

    def __init__(self, name: str, idle_timeout: float) -> None:
        """
        :param idle_timeout: seconds without a byte taken by the socket, after which the connection
            is aborted.
        """
        self._idle_timeout = idle_timeout
        self._lock = threading.Lock()
        self._backlogged: dict[int, Connection] = {}
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._stopping = False
        self.stalled = 0
        self.thread = threading.Thread(target=self.run, name=name, daemon=True)

    def arm(self, connection: Connection) -> None:
        """Flush when the socket is writable. The caller has set ``connection.armed``."""
        connection.progressed = time.monotonic()
        # The lock makes "descriptor, entry, registration" one step: otherwise a connection closed
        # in between could take the entry of the one that was given its descriptor.
        with self._lock:
            fd = connection.engine.fileno()
            if fd < 0:
                return
            idle = not self._backlogged
            self._backlogged[fd] = connection
            try:
                self._epoll.register(fd, _WRITABLE)
            except FileExistsError:
                self._epoll.modify(fd, _WRITABLE)
            except OSError:
                # Closed by its reader since: nothing is left to flush.
                del self._backlogged[fd]
        if idle:
            # It sleeps without a timeout; now there is a deadline to watch.
            os.eventfd_write(self._wakeup, 1)

    def forget(self, connection: Connection) -> None:
        """The connection is closed (which took its descriptor out of the epoll set)."""
        with self._lock:
            if self._backlogged.get(connection.fd) is connection:
                del self._backlogged[connection.fd]

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stopping = True
        os.eventfd_write(self._wakeup, 1)

    def run(self) -> None:
        """The thread's loop."""
        sweep_every = min(1.0, self._idle_timeout / 4)
        sweep_at = time.monotonic() + sweep_every
        while not self._stopping:
            events = self._epoll.poll(sweep_every if self._backlogged else None, _MAX_EVENTS)
            now = time.monotonic()
            for fd, _ in events:
                if fd == self._wakeup:
                    os.eventfd_read(fd)
                    continue
                connection = self._backlogged.get(fd)
                if connection is not None:
                    self._flush(fd, connection, now)
            if now >= sweep_at:
                sweep_at = now + sweep_every
                self._sweep(now)
        self._epoll.close()
        os.close(self._wakeup)

    def _flush(self, fd: int, connection: Connection, now: float) -> None:
        connection.progressed = now
        # Before the flush: whoever writes after it sees that he has to arm again.
        connection.armed = False
        left = connection.engine.flush()
        with self._lock:
            if left:
                connection.armed = True
                try:
                    self._epoll.modify(fd, _WRITABLE)
                except OSError:
                    self._drop(fd, connection)
            elif not connection.armed:
                self._drop(fd, connection)
        connection.wrote = True
        connection.flushed(left)

    def _drop(self, fd: int, connection: Connection) -> None:
        if self._backlogged.get(fd) is connection:
            del self._backlogged[fd]

    def _sweep(self, now: float) -> None:
        since = now - self._idle_timeout
        with self._lock:
            stalled = [item for item in self._backlogged.values() if item.progressed < since]
            for connection in stalled:
                self._drop(connection.fd, connection)
        for connection in stalled:
            self.stalled += 1
            connection.stalled()
