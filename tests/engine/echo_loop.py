"""The smallest loop that drives engine connections, with a dict for a session cache.

It stands in for the reader thread in tests of the engine alone: no coordinator, no policy.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificates

from shard import _engine
from tests.certificates import Certificate

__all__ = ["EchoLoop", "seed_once", "virtual_host"]

_EDGES = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_HANGUP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


def seed_once() -> None:
    """Instantiate this process's DRBG, if no test has done so yet."""
    if not _engine.drbg_status().seeded:
        _engine.drbg_seed(bytes(range(48)), b"tests")


def virtual_host(
    certificate: Certificate, *, names: tuple[str, ...] = ("localhost",), scope: bytes = bytes(32)
) -> _engine.VirtualHost:
    """A certificate's files as the engine takes them."""
    chain = load_pem_x509_certificates(Path(certificate.cert).read_bytes())
    key = load_pem_private_key(Path(certificate.key).read_bytes(), None)
    return _engine.VirtualHost(
        names=names,
        chain=[item.public_bytes(Encoding.DER) for item in chain],
        key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        scope=scope,
    )


class EchoLoop:
    """Accepts on a loopback port and echoes, in a thread of its own.

    :ivar sessions: what the connections issued, by scope and id; tests may change it.
    :ivar wanted: every lookup that was asked for.
    :ivar offered: every ticket whose first use was asked about.
    :ivar unused: whether it is; replace it to answer otherwise.
    :ivar established: every finished handshake.
    :ivar closed: every end.
    :ivar answer: what a lookup finds; replace it to answer otherwise.
    :ivar respond: what is sent for what came.
    """

    def __init__(self, context: _engine.TlsContext) -> None:
        seed_once()
        self.sessions: dict[tuple[bytes, bytes], bytes] = {}
        self.wanted: list[_engine.SessionWanted] = []
        self.offered: list[_engine.TicketOffered] = []
        self.unused = True
        self.established: list[_engine.Established] = []
        self.closed: list[_engine.Closed] = []
        self.half_closed = 0
        self.keep_open_after_eof = False
        self.answer: Callable[[_engine.SessionWanted], tuple[bytes, bytes] | None] = self.look_up
        self.respond: Callable[[bytes], bytes] = lambda data: data
        self.last_words = b""
        self._asked: _engine.SessionWanted | _engine.TicketOffered | None = None
        self._context = context
        listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = listening.getsockname()
        self._listener = _engine.Listener(listening.detach())
        self._connections: dict[int, _engine.Connection] = {}
        self._epoll = select.epoll()
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="echo-loop")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        self._thread.join()
        for connection in self._connections.values():
            connection.close()
        self._listener.close()
        self._epoll.close()
        self._stopped.close()

    def look_up(self, wanted: _engine.SessionWanted) -> tuple[bytes, bytes] | None:
        """The first offered session that is there; a single-use one is removed."""
        for session_id in wanted.ids:
            key = (wanted.scope, session_id)
            if key in self.sessions:
                value = self.sessions.pop(key) if wanted.single_use else self.sessions[key]
                return session_id, value
        return None

    @property
    def open_connections(self) -> int:
        """Connections that are not over."""
        return len(self._connections)

    def _run(self) -> None:
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._epoll.register(self._stopped.fileno(), select.EPOLLIN)
        while True:
            for fd, events in self._epoll.poll():
                if fd == self._stopped.fileno():
                    return
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._connections:
                    self._ready(self._connections[fd], events)

    def _accept(self) -> None:
        for connection, progress in self._listener.accept(self._context, 16):
            self._connections[connection.fileno()] = connection
            self._epoll.register(connection.fileno(), _EDGES)
            self._handle(connection, progress)

    def _ready(self, connection: _engine.Connection, events: int) -> None:
        if events & select.EPOLLOUT and connection.flush() == 0:
            self._epoll.modify(connection.fileno(), _EDGES)
        progress = connection.advance(bool(events & _HANGUP))
        self._handle(connection, progress)

    def _handle(self, connection: _engine.Connection, progress: _engine.Progress) -> None:
        while not self._step(connection, progress):
            if self._asked is not None:
                asked, self._asked = self._asked, None
                if isinstance(asked, _engine.TicketOffered):
                    progress = connection.resume((asked.id, b"") if self.unused else None)
                else:
                    progress = connection.resume(self.answer(asked))
            elif progress.more:
                progress = connection.advance(False)
            else:
                return

    def _ask(self, asked: _engine.SessionWanted | _engine.TicketOffered) -> None:
        self._asked = asked
        if isinstance(asked, _engine.SessionWanted):
            self.wanted.append(asked)
        else:
            self.offered.append(asked)

    def _step(self, connection: _engine.Connection, progress: _engine.Progress) -> bool:
        """What one step brought; true if the connection is over."""
        for effect in progress.effects:
            if isinstance(effect, _engine.SessionWanted | _engine.TicketOffered):
                self._ask(effect)
            elif isinstance(effect, _engine.SessionsIssued):
                self.sessions.update({(effect.scope, id_): value for id_, value in effect.entries})
            elif isinstance(effect, _engine.Established):
                self.established.append(effect)
        backlog = progress.backlog
        if progress.data:
            backlog = connection.write(self.respond(progress.data))
        for effect in progress.effects:
            if isinstance(effect, _engine.PeerClosed):
                self._peer_closed(connection)
            elif isinstance(effect, _engine.Closed):
                self._over(connection, effect)
                return True
        if backlog:
            self._epoll.modify(connection.fileno(), _EDGES | select.EPOLLOUT)
        return False

    def _peer_closed(self, connection: _engine.Connection) -> None:
        self.half_closed += 1
        connection.write(self.last_words)
        if not self.keep_open_after_eof:
            self._handle(connection, connection.shutdown())

    def _over(self, connection: _engine.Connection, closed: _engine.Closed) -> None:
        self.closed.append(closed)
        self._connections.pop(connection.fileno(), None)
        connection.close()
