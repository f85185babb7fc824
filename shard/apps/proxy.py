"""``proxy:HOST:PORT``, ``proxy:unix:/path``: what clients send goes to a backend in the clear.

The engine moves the bytes (:mod:`shard.relaying`); here is decided to which backend, and what is
done when it cannot be reached.
"""

from __future__ import annotations

from typing import Final

from shard.connection import Connection
from shard.errors import BackendUnavailableError, ConnectionClosedError
from shard.proxying.pool import Backend, Pool
from shard.settings.backend import parse_backends
from shard.worker_settings import ProxySettings

__all__ = ["BACK_OFF", "Proxy"]

BACK_OFF: Final = 0.5
"""Seconds before a backend is tried again, when there is no other."""


class Proxy:
    """The application: a factory of one handler for each connection. Any thread."""

    def __init__(self, app: str, settings: ProxySettings) -> None:
        """
        :param app: ``proxy:`` and backends with commas between them.
        """
        self.settings = settings
        self.pool = Pool(parse_backends(app.removeprefix("proxy:")))

    def __call__(self) -> _Proxied:
        return _Proxied(self)


class _Proxied:
    """One connection."""

    __slots__ = ("_backend", "_left", "_pool", "_transport", "_tried")

    _transport: Connection
    _pool: Pool

    def __init__(self, proxy: Proxy) -> None:
        self._pool = proxy.pool
        self._left = proxy.settings.retries
        self._backend: Backend | None = None
        self._tried: list[Backend] = []

    # -- Callbacks of the transport -------------------------------------------------------------

    def connection_made(self, transport: Connection) -> None:
        self._transport = transport
        transport.relay()
        self.relay_again()

    def data_received(self, data: bytes) -> None:
        self._transport.relay_push(data)

    def eof_received(self) -> bool:
        """Never called: a relay takes the client's end for its own."""
        return True

    def pause_writing(self) -> None:
        """Never called: the relay holds the backend back."""

    def resume_writing(self) -> None:
        """Never called."""

    def connection_lost(self, exc: ConnectionClosedError | None) -> None:  # noqa: ARG002
        self._give_back()

    def backend_connected(self) -> None:
        self._tried.clear()

    def backend_failed(self, detail: str) -> None:
        backend = self._backend
        if backend is not None:
            self._pool.failed(backend)
            self._tried.append(backend)
            self._give_back()
        if not self._left:
            self._transport.error = BackendUnavailableError(detail=detail)
            self._transport.abort()
            return
        self._left -= 1
        if len(self._tried) < len(self._pool.backends):
            self.relay_again()
        else:
            self._tried.clear()
            self._transport.relay_later(BACK_OFF)

    def relay_again(self) -> None:
        """Relay to the next backend."""
        backend = self._backend = self._pool.take(self._tried)
        address = None if backend is None else backend.address()
        if address is None:
            self.backend_failed("its name is not resolved")
            return
        try:
            self._transport.relay_to(address)
        except OSError as error:
            self.backend_failed(str(error.strerror))

    def _give_back(self) -> None:
        if self._backend is not None:
            self._pool.give_back(self._backend)
            self._backend = None
