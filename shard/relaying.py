"""The relayed connections of a reader: those whose bytes the engine moves to a backend and back.

Reader thread only. A handler asks for it with :meth:`~shard.connection.Connection.relay`; from
then on it is told what becomes of the backend, and sees no data. Which backend, and what to do
when it is not there, is the handler's affair (:mod:`shard.apps.proxy`).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from shard._engine import BackendClosed, BackendConnected, BackendFailed, Progress, Relay

if TYPE_CHECKING:
    from shard.connection import Connection

__all__ = ["BackendAddress", "RelayHandler", "Relays", "relay_of"]

_EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

BackendAddress = tuple[str, int] | str
"""(IP address, port), or the path of a Unix socket."""


class RelayHandler(Protocol):
    """What a handler of a relayed connection has beside :class:`shard.apps.Handler`'s methods."""

    def backend_connected(self) -> None:
        """The backend is there."""

    def backend_failed(self, detail: str) -> None:
        """The backend cannot be reached: relay to another, now or later, or end the connection."""

    def relay_again(self) -> None:
        """It is time for what :meth:`~shard.connection.Connection.relay_later` was called for."""


class Relays:
    """Reader thread only.

    :ivar by_backend: connections by the descriptor of their backend's socket.
    """

    def __init__(
        self,
        epoll: select.epoll,
        step: Callable[[Connection, Progress], None],
        failed: Callable[[Connection, Exception], None],
        timeout: float,
    ) -> None:
        """
        :param step: carries out what a step of the engine returned.
        :param failed: a callback of a handler raised.
        :param timeout: seconds that connecting to a backend may take.
        """
        self.by_backend: dict[int, Connection] = {}
        self._epoll = epoll
        self._step = step
        self._failed = failed
        self._timeout = timeout
        # Deadlines by descriptor, in their order, as all have the same time.
        self._connecting: dict[int, float] = {}
        self._later: list[tuple[float, Connection]] = []

    def start(self, connection: Connection) -> None:
        """Make it a relayed one."""
        relay: Any = Relay(connection.engine)
        connection.engine = relay
        # Written to from here on by this thread alone, which has to know when there is room.
        self._epoll.modify(connection.fd, _EDGES)

    def connect(
        self, connection: Connection, address: BackendAddress, preface: bytes, now: float
    ) -> None:
        """Begin to connect to a backend.

        :raises OSError: there is nothing at `address`.
        """
        self.forget(connection)
        fd = relay_of(connection).connect(address, preface)
        connection.backend = fd
        self.by_backend[fd] = connection
        self._epoll.register(fd, _EDGES)
        self._connecting[fd] = now + self._timeout

    def connect_later(self, connection: Connection, at: float) -> None:
        """Have the handler's ``relay_again`` called at a time, or somewhat after it."""
        self._later.append((at, connection))

    def push(self, connection: Connection, data: bytes) -> None:
        """Data that came before the relay, with the end of the handshake."""
        self._step(connection, relay_of(connection).push(data))

    def effect(self, connection: Connection, effect: Any) -> None:
        """Carry out an effect of the engine, if it is one of a relay's."""
        kind = type(effect)
        if kind is BackendConnected:
            self._connecting.pop(connection.backend, None)
            self._tell(connection, lambda handler: handler.backend_connected())
        elif kind is BackendFailed:
            self.forget(connection)
            self._tell(connection, lambda handler: handler.backend_failed(effect.detail))
        elif kind is BackendClosed:
            self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """The backend's socket of a connection is closed."""
        fd = connection.backend
        if fd >= 0:
            connection.backend = -1
            del self.by_backend[fd]
            self._connecting.pop(fd, None)

    def sweep(self, now: float) -> None:
        """Give up attempts to connect that have taken too long; make those that are due."""
        due = []
        for fd, deadline in self._connecting.items():
            if deadline > now:
                break
            due.append(self.by_backend[fd])
        for connection in due:
            relay_of(connection).give_up()
            self.forget(connection)
            self._tell(connection, lambda handler: handler.backend_failed("no answer"))
        if self._later:
            later, self._later = self._later, []
            for at, connection in later:
                if at > now:
                    self._later.append((at, connection))
                else:
                    self._tell(connection, lambda handler: handler.relay_again())

    def _tell(self, connection: Connection, call: Callable[[RelayHandler], None]) -> None:
        handler = connection.handler
        if handler is None or connection.closing:
            return
        try:
            call(cast("RelayHandler", handler))
        except Exception as error:  # noqa: BLE001 - counted and logged by failed()
            self._failed(connection, error)


def relay_of(connection: Connection) -> Relay:
    """The engine of a relayed connection."""
    return cast("Relay", connection.engine)
