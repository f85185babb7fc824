"""A client's connection, as the application sees it: a transport shaped like asyncio's.

It holds the engine's connection (which has the one lock that reader and writer threads meet at)
and what the loops keep about it. Which thread runs what:

====================  ==========================================================================
reader thread         every callback of the handler; what stands under "Reader thread" below
writer thread         :meth:`Connection.flushed`, :meth:`Connection.stalled`
any thread            the public transport methods (``write`` … ``get_extra_info``)
====================  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol

from shard.errors import ConnectionClosedError, IdleTimeoutError
from shard.mailbox import Mailbox
from shard.tls_info import TlsInfo, cipher_bits

if TYPE_CHECKING:
    from shard._engine import Connection as EngineConnection
    from shard._engine import Established
    from shard.apps import Handler
    from shard.relaying import BackendAddress, Relays

__all__ = ["HIGH_WATER", "LOW_WATER", "Connection", "FlushQueue", "Home", "TlsInfo"]

HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024
"""Default marks in bytes of ciphertext, asyncio's own."""


class Home(Protocol):
    """What a connection needs of its reader."""

    resumes_by: str

    worker: str
    mailbox: Mailbox
    now: float
    relays: Relays

    def start_close(self, connection: Connection) -> None:
        """Begin an orderly close. Reader thread."""

    def start_abort(self, connection: Connection) -> None:
        """End it at once. Reader thread."""

    def advance_again(self, connection: Connection) -> None:
        """Give the engine a turn without a new readiness event. Reader thread."""

    def failed(self, connection: Connection, error: Exception) -> None:
        """The handler raised. Reader thread."""


class FlushQueue(Protocol):
    """What a connection needs of its writer."""

    def arm(self, connection: Connection) -> None:
        """Flush the connection's backlog when its socket is writable. Any thread."""

    def forget(self, connection: Connection) -> None:
        """The connection is closed. Any thread."""


class Connection:
    """One client. Made by the reader that accepted it, and never shared between clients
    (PolarSSL's rule for ``ssl_context``).
    """

    __slots__ = (
        "_extra",
        "_high",
        "_home",
        "_low",
        "_mailbox",
        "_write_ended",
        "_writer",
        "active",
        "armed",
        "backend",
        "closing",
        "deadline",
        "edge",
        "engine",
        "error",
        "established",
        "fd",
        "handler",
        "over",
        "paused",
        "progressed",
        "reading",
        "token",
        "wrote",
    )

    def __init__(
        self, engine: EngineConnection, home: Home, writer: FlushQueue, now: float, deadline: float
    ) -> None:
        """
        :param now: seconds of the monotonic clock.
        :param deadline: when the handshake must be complete.
        """
        self.engine = engine
        self.fd = engine.fileno()
        self._home = home
        self._mailbox = home.mailbox
        self._writer = writer
        self._extra: dict[str, Any] = {}
        self._high = HIGH_WATER
        self._low = LOW_WATER
        self._write_ended = False
        # Kept by the reader.
        self.handler: Handler | None = None
        self.established: Established | None = None
        self.active = now
        self.deadline = deadline
        self.token = 0
        self.reading = True
        self.edge = 0
        self.backend = -1
        self.over = False
        self.error: ConnectionClosedError | None = None
        # Set by any thread, acted on by the reader.
        self.closing = False
        self.paused = False
        self.wrote = False
        # Shared with the writer.
        self.armed = False
        self.progressed = now

    def __repr__(self) -> str:
        state = "over" if self.over else "closing" if self.closing else "open"
        return f"<Connection fd={self.fd} {state}>"

    # -- Any thread: writing ------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send, or queue what the socket does not take. Never blocks.

        After the handler's ``pause_writing`` was called it should not write until
        ``resume_writing``; data written all the same is queued without a bound. Written to a
        connection that is closing, data is dropped. A call is one TLS record or more and at most
        one ``send``, so few large writes cost less than many small ones.

        :raises TypeError: `data` is not bytes-like.
        :raises RuntimeError: after :meth:`write_eof`.
        """
        if self.closing or self._write_ended:
            self._refuse_write(data)
            return
        backlog = self.engine.write(data)
        if backlog:
            self.backlogged(backlog)
        else:
            self.wrote = True

    def writelines(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        """:meth:`write` all of them as one."""
        self.write(b"".join(data))

    def write_eof(self) -> None:
        """Send close_notify after what is queued; receiving goes on (RFC 8446 §6.1)."""
        if self.closing or self._write_ended:
            return
        self._write_ended = True
        backlog = self.engine.write_eof()
        if backlog:
            self.backlogged(backlog)

    def can_write_eof(self) -> bool:
        """True: TLS has a half-close."""
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks, in bytes of ciphertext.

        :param high: default: four times `low`, or :data:`HIGH_WATER`.
        :param low: default: `high` / 4.
        :raises ValueError: unless high ≥ low ≥ 0.
        """
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), which is at least 0")
        self._high = high
        self._low = low
        self._on_reader(Connection._check_flow)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), in asyncio's order."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes of ciphertext that the socket has not taken yet."""
        return self.engine.backlog()

    # -- Any thread: reading and closing ------------------------------------------------------

    def pause_reading(self) -> None:
        """Deliver no more data until :meth:`resume_reading`; TCP then holds the client back.

        Called from another thread, a ``data_received`` already under way still happens.
        """
        self.reading = False

    def resume_reading(self) -> None:
        """Go on after :meth:`pause_reading`."""
        if not self.reading:
            self.reading = True
            self._mailbox.call(Connection._reading_resumed, self)

    def is_reading(self) -> bool:
        """Whether data is delivered."""
        return self.reading and not self.closing

    def close(self) -> None:
        """Orderly close: what was written, close_notify, then ``connection_lost(None)``.

        No data is delivered after it. The callback comes later, never from within this call.
        """
        if not self.closing:
            self.closing = True
            self._mailbox.call(self._home.start_close, self)

    def abort(self) -> None:
        """Close at once with a TCP reset; what is queued is lost. ``connection_lost`` gets a
        :class:`~shard.errors.ConnectionAbortedHereError`, later.
        """
        self.closing = True
        self._mailbox.call(self._home.start_abort, self)

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self.closing

    def set_protocol(self, protocol: Handler) -> None:
        """Have another handler called from now on. Reader thread only."""
        self.handler = protocol

    def get_protocol(self) -> Handler | None:
        """The handler that is called."""
        return self.handler

    # -- Any thread: facts --------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts, with asyncio's names where it has one.

        ``peername``, ``sockname``
            (address, port).
        ``cipher``
            (IANA name, version, secret bits), as ``SSLSocket.cipher()``.
        ``compression``
            None: TLS 1.3 has none, and TLS 1.2's is not offered (CRIME).
        ``tls``, ``sslcontext``, ``ssl_object``
            :class:`TlsInfo`. Protocols ask by the last two whether there is TLS, and for ALPN.
        ``peercert``
            The client's certificate in the shape of ``SSLSocket.getpeercert()``; None without one.
        ``peercert_der``
            The client's certificates, DER, leaf first; an empty tuple without one.
        """
        if name in ("peername", "sockname"):
            return getattr(self.engine, name)
        facts = self.established
        if facts is None:
            return default
        if name in ("tls", "sslcontext", "ssl_object"):
            if "tls" not in self._extra:
                self._extra["tls"] = TlsInfo(
                    version=facts.version,
                    cipher=facts.cipher,
                    group=facts.group,
                    resumed=facts.resumed,
                    resumption=self._home.resumes_by if facts.resumed else None,
                    server_name=facts.server_name,
                    alpn=facts.alpn,
                    worker=self._home.worker,
                )
            return self._extra["tls"]
        if name == "cipher":
            return facts.cipher, facts.version, cipher_bits(facts.cipher)
        if name == "peercert":
            if name not in self._extra:
                self._extra[name] = self._peer_certificate(facts)
            return self._extra[name]
        if name == "peercert_der":
            return tuple(facts.peer_certificates)
        return None if name == "compression" else default

    @staticmethod
    def _peer_certificate(facts: Established) -> dict[str, Any] | None:
        if not facts.peer_certificates:
            return None
        from shard.peer_certificate import peer_certificate

        return peer_certificate(facts.peer_certificates[0])

    # -- Any thread: flow control -------------------------------------------------------------

    def backlogged(self, backlog: int) -> None:
        """The socket did not take everything: the writer goes on with it."""
        if not self.armed:
            self.armed = True
            self._writer.arm(self)
        if backlog > self._high and not self.paused:
            self._on_reader(Connection._check_flow)

    # -- Writer thread ------------------------------------------------------------------------

    def flushed(self, left: int) -> None:
        """The writer made progress, and `left` bytes are left."""
        if self.closing:
            if not left:
                # End of file may have come already, with no further edge to tell of it.
                self._mailbox.call(self._home.advance_again, self)
        elif self.paused and left <= self._low:
            self._mailbox.call(Connection._check_flow, self)

    def stalled(self) -> None:
        """The client has read nothing for the idle timeout: give it up."""
        self.error = IdleTimeoutError(detail="the client reads nothing")
        self.abort()

    # -- Reader thread ------------------------------------------------------------------------

    def _on_reader(self, function: Callable[[Connection], None]) -> None:
        if get_ident() == self._mailbox.ident:
            function(self)
        else:
            self._mailbox.call(function, self)

    def _check_flow(self) -> None:
        """Tell the handler if a water mark was passed. Only here is `paused` written."""
        handler = self.handler
        if handler is None or self.closing:
            return
        backlog = self.engine.backlog()
        try:
            if not self.paused and backlog > self._high:
                self.paused = True
                handler.pause_writing()
                if self.engine.backlog() <= self._low:
                    # The writer was done before `paused` was set, so it has said nothing.
                    self._mailbox.call(Connection._check_flow, self)
            elif self.paused and backlog <= self._low:
                self.paused = False
                handler.resume_writing()
        except Exception as error:  # noqa: BLE001 - the application's; counted and logged there
            self._home.failed(self, error)

    def flush_held(self) -> int:
        """Send what waited to go out with the application's answer; returns the backlog."""
        return self.engine.flush()

    def relay(self) -> None:
        """Have the engine move all bytes between the client and a backend, without Python.

        For a handler with :class:`~shard.relaying.RelayHandler`'s methods, in ``connection_made``.
        What it gets of the client afterwards is what came with the handshake, for
        :meth:`relay_push`. Nothing may be written, before or after.
        """
        self._home.relays.start(self)

    def relay_to(self, address: BackendAddress, preface: bytes = b"") -> None:
        """Connect to a backend; after ``backend_failed``, to another one.

        :param preface: sent before anything of the client.
        :raises OSError: nothing is there: as ``backend_failed``, but at once.
        """
        self._home.relays.connect(self, address, preface, self._home.now)

    def relay_later(self, seconds: float) -> None:
        """Have ``relay_again`` called when so long has passed, or somewhat later."""
        self._home.relays.connect_later(self, self._home.now + seconds)

    def relay_push(self, data: bytes) -> None:
        """Send the backend what came before the relay."""
        self._home.relays.push(self, data)

    def forget_backlog(self) -> None:
        """The connection is over, its descriptor closed: the writer keeps nothing of it."""
        if self.armed:
            self._writer.forget(self)

    def _reading_resumed(self) -> None:
        if self.edge and self.reading:
            self._home.advance_again(self)

    def _refuse_write(self, data: bytes | bytearray | memoryview) -> None:
        memoryview(data)
        if self._write_ended and not self.closing:
            raise RuntimeError("write() after write_eof()")
