"""A small TLS client on Python's ssl: one visit is connect, handshake, GET /json, orderly close."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.certificates import Certificate

__all__ = [
    "TIMEOUT",
    "VERSIONS",
    "TlsStream",
    "Visit",
    "client_context",
    "close_orderly",
    "offer_group",
    "visit",
]

TIMEOUT: Final = 5.0
"""Seconds for any single step of a client: longer than any promise of the server."""

VERSIONS: Final = {"TLSv1.3": ssl.TLSVersion.TLSv1_3, "TLSv1.2": ssl.TLSVersion.TLSv1_2}


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of a visit.

    :ivar facts: the server's own account (``/json``).
    :ivar session: to offer at the next visit, with the same context.
    :ivar resumed: the client's account.
    :ivar handshake_seconds: from connect to the handshake's end.
    :ivar seconds: all of it.
    """

    facts: dict[str, Any]
    session: ssl.SSLSession | None
    resumed: bool
    handshake_seconds: float
    seconds: float

    @property
    def worker(self) -> str:
        """The worker that answered."""
        name: str = self.facts["worker"]
        return name


def client_context(
    certificate: Certificate, version: str | None = None, *, alpn: list[str] | None = None
) -> ssl.SSLContext:
    """A context that verifies the server, held to one version of TLS or to none.

    Python ties a session to its context: use one context for the visits that are to resume.
    """
    context = certificate.trust()
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return context


def offer_group(context: ssl.SSLContext, name: str) -> None:
    """Have a client send a key share of this group, by OpenSSL's name of it.

    Python before 3.12 knows NIST curves only; its OpenSSL sends X25519 if it is told nothing.
    """
    try:
        context.set_ecdh_curve(name)
    except ssl.SSLError:
        if name != "X25519":
            raise


class TlsStream:
    """A connection with its handshake done. A context manager that closes it orderly."""

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext,
        *,
        session: ssl.SSLSession | None = None,
        server_name: str = "localhost",
        timeout: float = TIMEOUT,
    ) -> None:
        started = time.monotonic()
        plain = socket.create_connection(address, timeout=timeout)
        # As browsers and curl do. A TLS 1.2 resumption ends with the client's Finished; without
        # this, its request would wait 40 ms for the server's delayed acknowledgement of that.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.tls = context.wrap_socket(plain, server_hostname=server_name, session=session)
        except BaseException:
            plain.close()
            raise
        self.handshake_seconds = time.monotonic() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str) -> bytes:
        """GET over the connection, which stays open, and the answer's body.

        :raises AssertionError: it is not a 200.
        """
        self.tls.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = http.client.HTTPResponse(self.tls)
        answer.begin()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        return body

    def facts(self) -> dict[str, Any]:
        """The server's account of this connection."""
        decoded: dict[str, Any] = json.loads(self.get("/json"))
        return decoded

    def close(self) -> None:
        """close_notify both ways, then close; once more does nothing."""
        if self.tls.fileno() >= 0:
            close_orderly(self.tls)


def close_orderly(tls: ssl.SSLSocket) -> None:
    """Send close_notify and wait for the peer's; a peer that is gone already is no error."""
    try:
        tls.unwrap()
    except OSError:
        pass
    finally:
        tls.close()


def visit(
    address: tuple[str, int],
    context: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
    *,
    server_name: str = "localhost",
    timeout: float = TIMEOUT,
) -> Visit:
    """One visit. The session is read after the answer, when the tickets have arrived.

    :raises OSError: the server was not there, or the handshake or the request failed.
    """
    started = time.monotonic()
    stream = TlsStream(address, context, session=session, server_name=server_name, timeout=timeout)
    with stream:
        facts = stream.facts()
        given = stream.tls.session
        resumed = bool(stream.tls.session_reused)
    return Visit(facts, given, resumed, stream.handshake_seconds, time.monotonic() - started)
