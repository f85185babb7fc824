"""``proxy:HOST:PORT``, ``proxy:unix:/path``: what clients send goes to a backend in the clear.

The engine moves the bytes (:mod:`shard.relaying`); here is decided to which backend, what that is
told of the client, and what is done when it cannot be reached.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final

from cryptography import x509

from shard.connection import Connection
from shard.errors import BackendUnavailableError, ConnectionClosedError
from shard.proxying.header import ClientFacts, header_v1, header_v2
from shard.proxying.pool import Backend, Health, Pool
from shard.proxying.routes import Routes
from shard.proxying.watch import Checker, Resolver
from shard.settings.backend import BackendName, parse_backends
from shard.worker_settings import ProxySettings

__all__ = ["BACK_OFF", "Proxy"]

BACK_OFF: Final = 0.5
"""Seconds before all backends are tried again, at least."""

_OURS: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
"""What says nothing of the backend: this process has no descriptor, memory or port left."""
_HEADERS: Final[dict[str, Callable[[ClientFacts], bytes] | None]] = {
    "off": None,
    "v1": header_v1,
    "v2": header_v2,
}


class Proxy:
    """The application: a factory of one handler for each connection, with the state of the backends
    as this worker sees it. Any thread.
    """

    def __init__(self, app: str, settings: ProxySettings) -> None:
        """
        :param app: ``proxy:`` and backends with commas between them.
        """
        self.retries = settings.retries
        self.header = _HEADERS[settings.send_proxy]
        self._health = Health(
            rise=settings.rise, fall=settings.fall if settings.health_interval else 0
        )
        self._balance = settings.balance
        self._backends: dict[BackendName, Backend] = {}
        fallback = self._pool(app.removeprefix("proxy:"))
        self.routes = Routes(
            fallback, [(route.server_name, self._pool(route.backends)) for route in settings.routes]
        )
        self.backends = tuple(self._backends.values())
        self._resolver = Resolver(self.backends, settings.resolve_interval)
        self._checker = Checker(self.backends, settings.health_interval, settings.connect_timeout)

    def start(self) -> None:
        """Look names up and begin to check. Waits a little for the names."""
        self._resolver.start()
        self._checker.start()

    def stop(self) -> None:
        """End the threads soon."""
        self._resolver.stop()
        self._checker.stop()

    def stats(self) -> dict[str, dict[str, Any]]:
        """For the status, by the backends' names."""
        return {
            str(backend.name): {
                "up": backend.up and bool(backend.addresses),
                "connections": backend.connections,
                "failures": backend.failures,
            }
            for backend in self.backends
        }

    def __call__(self) -> _Proxied:
        return _Proxied(self)

    def _pool(self, names: str) -> Pool:
        backends = []
        for name in parse_backends(names):
            if name not in self._backends:
                self._backends[name] = Backend(name, self._health)
            backends.append(self._backends[name])
        return Pool(backends, self._balance)


class _Proxied:
    """One connection."""

    __slots__ = ("_backend", "_left", "_pool", "_preface", "_proxy", "_transport", "_tried")

    _transport: Connection
    _pool: Pool

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._left = proxy.retries
        self._backend: Backend | None = None
        self._tried: list[Backend] = []
        self._preface = b""

    # -- Callbacks of the transport -------------------------------------------------------------

    def connection_made(self, transport: Connection) -> None:
        self._transport = transport
        facts = transport.established
        self._pool = self._proxy.routes.find(None if facts is None else facts.server_name)
        if self._proxy.header is not None:
            self._preface = self._proxy.header(_facts(transport))
        transport.relay()
        self.relay_again()

    def data_received(self, data: bytes) -> None:
        self._transport.relay_push(data)

    def eof_received(self) -> bool:
        """Of an end that came with the handshake; the relay has taken it for its own."""
        return True

    def pause_writing(self) -> None:
        """Never called: the relay holds the backend back."""

    def resume_writing(self) -> None:
        """Never called."""

    def connection_lost(self, exc: ConnectionClosedError | None) -> None:  # noqa: ARG002
        if self._backend is not None:
            self._backend.given_back()
            self._backend = None

    def backend_connected(self) -> None:
        if self._backend is not None:
            self._backend.connected()
        self._tried.clear()

    def backend_failed(self, detail: str) -> None:
        if self._backend is not None:
            self._backend.failed(detail)
        self._next(detail)

    def _next(self, detail: str) -> None:
        """Try another backend, or all of them again later, or give up."""
        if self._backend is not None:
            self._backend.given_back()
            self._tried.append(self._backend)
            self._backend = None
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
            self._transport.relay_to(address, self._preface)
        except OSError as error:
            if error.errno in _OURS:
                self._next(str(error.strerror))
            else:
                self.backend_failed(str(error.strerror))


def _facts(transport: Connection) -> ClientFacts:
    facts = transport.established
    assert facts is not None, "a handler is made once the handshake is complete"
    certificates = facts.peer_certificates
    return ClientFacts(
        source=transport.get_extra_info("peername"),
        destination=transport.get_extra_info("sockname"),
        version=facts.version,
        cipher=facts.cipher,
        server_name=facts.server_name,
        alpn=facts.alpn,
        certified=bool(certificates),
        resumed=facts.resumed,
        common_name=_common_name(certificates[0]) if certificates else None,
    )


def _common_name(certificate: bytes) -> str | None:
    subject = x509.load_der_x509_certificate(certificate).subject
    named = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(named[0].value) if named else None
