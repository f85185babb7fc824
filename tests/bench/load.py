"""The load generator: one process, one epoll loop, many TLS clients in it.

Started by :mod:`tests.bench.generators`; reads one JSON order a line on standard input and answers
each with one JSON line. A client connects, handshakes, (asks and reads the answer,) sends
close_notify, waits for the server's, and closes. It keeps the sessions it is given and offers each
once when the order says so. Every order ends within its deadline.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import ssl
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from enum import Enum, auto
from typing import Final

__all__ = ["Order", "Outcome", "main"]

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for TCP's own handshake."""

REQUEST: Final = b"GET /bytes/16 HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSE_REQUEST: Final = b"GET /bytes/16 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

GROUPS: Final = "X25519:P-256"
"""What clients offer, by OpenSSL's configuration as Python's ssl sets one group at most: a key
share for X25519 alone, so that every server does the same key exchange, and P-256 for the curve of
the certificate in TLS 1.2 (RFC 8422 §5.1)."""

SUITE: Final = "TLS_AES_128_GCM_SHA256"
"""The only TLS 1.3 suite offered: servers prefer different ones, with different hashes."""
SUITE_TLS12: Final = "ECDHE-ECDSA-AES128-GCM-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to do.

    :ivar subject: names the server; sessions are kept apart by it.
    :ivar version: ``TLSv1.3`` or ``TLSv1.2``.
    :ivar resume: offer kept sessions.
    :ivar keep: keep the sessions that are given (taking one out costs the client 0.2 ms).
    :ivar request: send a GET and read its answer; otherwise a handshake alone.
    :ivar server_closes: ask with ``Connection: close``, so that close_notify comes from the server
        first; otherwise from the client.
    :ivar count: connections to make.
    :ivar clients: connections at the same time.
    :ivar deadline: seconds for all of it.
    """

    subject: str
    host: str
    port: int
    version: str
    resume: bool
    keep: bool
    request: bool
    server_closes: bool
    count: int
    clients: int
    deadline: float


@dataclass(slots=True)
class Outcome:
    """What came of it. `unclean` connections were served, but not closed with close_notify."""

    full: int = 0
    resumed: int = 0
    failed: int = 0
    unclean: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    first_error: str | None = None


class Phase(Enum):
    """Where a client is."""

    HANDSHAKE = auto()
    ANSWER = auto()
    TICKETS = auto()
    CLOSE = auto()
    DONE = auto()


def client_context(version: str) -> ssl.SSLContext:
    """No verification of the chain, which is the client's cost alone (the server's signature is
    verified all the same). Groups: :data:`GROUPS`; TLS 1.3: :data:`SUITE`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    wanted = ssl.TLSVersion.TLSv1_3 if version == "TLSv1.3" else ssl.TLSVersion.TLSv1_2
    context.minimum_version = context.maximum_version = wanted
    context.set_ciphers(SUITE_TLS12)
    return context


class Client:
    """One connection: :meth:`advance` it whenever its socket is readable."""

    def __init__(
        self, order: Order, context: ssl.SSLContext, session: ssl.SSLSession | None
    ) -> None:
        plain = socket.create_connection((order.host, order.port), timeout=CONNECT_TIMEOUT)
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._order = order
        self._tls = context.wrap_socket(
            plain, server_hostname="localhost", do_handshake_on_connect=False, session=session
        )
        self._answer = b""
        self.phase = Phase.HANDSHAKE
        self.session: ssl.SSLSession | None = None
        self.resumed = False
        self.clean = False

    def fileno(self) -> int:
        return self._tls.fileno()

    def advance(self) -> None:
        """Go on as far as what has arrived allows.

        :raises OSError: the connection failed (ssl.SSLError is one).
        """
        try:
            if self.phase is Phase.HANDSHAKE:
                self._tls.do_handshake()
                self._established()
            if self.phase is Phase.ANSWER:
                self._read_answer()
            elif self.phase is Phase.TICKETS:
                self._read_tickets()
            if self.phase is Phase.CLOSE:
                self._close_notify()
        except ssl.SSLWantReadError:
            return

    def abandon(self) -> None:
        self._tls.close()

    def _established(self) -> None:
        self.resumed = bool(self._tls.session_reused)
        if self._order.request:
            self._tls.send(CLOSE_REQUEST if self._order.server_closes else REQUEST)
            self.phase = Phase.ANSWER
            raise ssl.SSLWantReadError  # nothing can be there yet
        if self._order.version == "TLSv1.3":
            self.phase = Phase.TICKETS
            raise ssl.SSLWantReadError
        self._enough()

    def _read_answer(self) -> None:
        while True:
            chunk = self._tls.recv(4096)
            self._answer += chunk
            head, blank, body = self._answer.partition(b"\r\n\r\n")
            if blank and len(body) >= 16 and not (chunk and self._order.server_closes):
                if not head.startswith(b"HTTP/1.1 200"):
                    raise ConnectionError(head.split(b"\r\n")[0].decode("latin-1"))
                return self._enough()
            if not chunk:
                raise ConnectionError("closed before the answer was complete")

    def _read_tickets(self) -> None:
        """Tickets are no application data: OpenSSL takes them in and then wants more."""
        try:
            if not self._tls.recv(4096):
                raise ConnectionError("closed before a ticket came")
        except ssl.SSLWantReadError:
            session = self._tls.session
            if session is None or not session.has_ticket:
                raise
        self._enough()

    def _enough(self) -> None:
        if self._order.keep:
            self.session = self._tls.session
        self.phase = Phase.CLOSE

    def _close_notify(self) -> None:
        try:
            self._tls.unwrap()
            self.clean = True
        except ssl.SSLWantReadError:
            raise
        except OSError:
            self.clean = False
        self._tls.close()
        self.phase = Phase.DONE


class Round:
    """One order being carried out."""

    def __init__(
        self, order: Order, context: ssl.SSLContext, sessions: deque[ssl.SSLSession]
    ) -> None:
        self._order = order
        self._context = context
        self._sessions = sessions
        self._left = order.count
        self._open: dict[int, Client] = {}
        self._outcome = Outcome()

    def run(self) -> Outcome:
        started, cpu = time.monotonic(), _own_cpu()
        until = started + self._order.deadline
        with select.epoll() as epoll:
            while self._left or self._open:
                self._start(epoll)
                for fd, _ in epoll.poll(max(0.0, until - time.monotonic())):
                    self._readable(fd)
                if time.monotonic() >= until:
                    self._give_up()
        self._outcome.seconds = time.monotonic() - started
        self._outcome.cpu_seconds = _own_cpu() - cpu
        return self._outcome

    def _start(self, epoll: select.epoll) -> None:
        while self._left and len(self._open) < self._order.clients:
            self._left -= 1
            session = None
            if self._order.resume and self._sessions:
                session = self._sessions.popleft()
            try:
                client = Client(self._order, self._context, session)
                client.advance()  # sends the ClientHello
            except OSError as error:
                self._failed(error)
                continue
            self._open[client.fileno()] = client
            epoll.register(client.fileno(), select.EPOLLIN)

    def _readable(self, fd: int) -> None:
        client = self._open[fd]
        try:
            client.advance()
        except OSError as error:
            self._failed(error)
            client.abandon()
        else:
            if client.phase is not Phase.DONE:
                return
            self._count(client)
        del self._open[fd]  # closing it took it out of the epoll set

    def _count(self, client: Client) -> None:
        if client.resumed:
            self._outcome.resumed += 1
        else:
            self._outcome.full += 1
        if not client.clean:
            self._outcome.unclean += 1
        if client.session is not None:
            self._sessions.append(client.session)

    def _failed(self, error: OSError) -> None:
        self._outcome.failed += 1
        self._outcome.first_error = self._outcome.first_error or f"{type(error).__name__}: {error}"

    def _give_up(self) -> None:
        for client in self._open.values():
            self._failed(TimeoutError(f"in {client.phase.name} at the deadline"))
            client.abandon()
        self._outcome.failed += self._left
        self._left = 0
        self._open.clear()


class Generator:
    """Carries out orders. Keeps the sessions of each subject and version between them."""

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}
        self._sessions: dict[tuple[str, str], deque[ssl.SSLSession]] = {}

    def run(self, order: Order) -> Outcome:
        key = (order.subject, order.version)
        if key not in self._contexts:
            self._contexts[key] = client_context(order.version)
            self._sessions[key] = deque(maxlen=1024)
        return Round(order, self._contexts[key], self._sessions[key]).run()


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Read orders until end of file."""
    generator = Generator()
    for line in sys.stdin:
        outcome = generator.run(Order(**json.loads(line)))
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
