"""The TLS engine: rustls on AWS-LC, driven by readiness events.

It holds no loop, no policy and calls no Python. Every method releases the GIL while it works, and
no method blocks. What has to happen outside a connection is returned as an *effect*.
"""

from collections.abc import Sequence
from typing import ClassVar, TypeAlias, final

@final
class SessionWanted:
    """The client offers sessions: look them up and call :meth:`Connection.resume`.

    Until then the connection is parked: it processes nothing more.
    """

    single_use: bool
    """True: a TLS 1.3 ticket, to be *taken*. False: a TLS 1.2 session id, to be *got*."""
    scope: bytes
    ids: list[bytes]
    """1 or 2 ids of 32 bytes, in the client's order. Empty if it offers sessions of which none can
    be ours: there is nothing to look up."""
    server_name: str | None

@final
class TicketOffered:
    """The client offers a sealed TLS 1.3 ticket that may be used once: ask whether this is its
    first use and call :meth:`Connection.resume` with anything but None if so.

    Until then the connection is parked, as after :class:`SessionWanted`.
    """

    scope: bytes
    id: bytes
    """32 bytes, of this ticket alone."""
    issued_ms: int
    """Unix time in milliseconds, as is :attr:`expires_ms`."""
    expires_ms: int

@final
class SessionRefused:
    """A session that was found may not be resumed: the handshake goes on in full."""

    scope: bytes
    reason: str
    """``alpn`` (another protocol is negotiated), ``client_expired``, ``client_revoked``,
    ``client_untrusted``, ``client_missing``, or ``unreadable``."""

@final
class SessionsIssued:
    """The client was given sessions: store them."""

    scope: bytes
    server_name: str | None
    entries: list[tuple[bytes, bytes]]
    """(id, value) pairs; the value holds the session's secrets."""

@final
class Established:
    """The handshake is complete. Comes before any application data of the connection."""

    version: str
    """``TLSv1.3`` or ``TLSv1.2``."""
    cipher: str
    """IANA name, such as ``TLS_AES_256_GCM_SHA384``."""
    group: str | None
    """Key exchange group, such as ``X25519MLKEM768``; None for a TLS 1.2 resumption."""
    resumed: bool
    hello_retry: bool
    server_name: str | None
    alpn: str | None
    peer_certificates: list[bytes]
    """The client's chain in DER, leaf first; empty without client authentication."""

@final
class PeerClosed:
    """The client sent close_notify: it sends no more, and may still read (RFC 8446 §6.1)."""

@final
class BackendConnected:
    """A relay has reached its backend."""

@final
class BackendFailed:
    """A relay cannot reach its backend; the backend's socket is closed, and what was to be sent is
    kept for another :meth:`Relay.connect`."""

    detail: str

@final
class BackendClosed:
    """A relay has closed its backend's socket; the client's connection has still to end."""

@final
class Closed:
    """The connection is over. Nothing more comes of it; call :meth:`Connection.close`."""

    reason: str
    """``done`` (close_notify from both, or our orderly close finished), ``truncated`` (the client
    closed TCP without close_notify), ``reset``, ``alert_received``, ``alert_sent``, ``aborted``,
    ``no_randomness`` (the DRBG has failed), ``proxy_header`` (none came from where one must),
    ``backend_reset`` (of a relay), ``internal``."""
    alert: str | None
    """The alert's name in RFC 8446 §6 spelling, such as ``handshake_failure``."""
    detail: str
    """For a log at DEBUG level; no secret, no bytes of the peer."""

Effect: TypeAlias = (
    SessionWanted
    | SessionRefused
    | TicketOffered
    | SessionsIssued
    | Established
    | PeerClosed
    | BackendConnected
    | BackendFailed
    | BackendClosed
    | Closed
)

@final
class Progress:
    """What a step on a connection brought."""

    data: bytes
    """Plaintext received; empty if none."""
    effects: Sequence[Effect]
    """In the order in which they happened; all but :class:`PeerClosed` and :class:`Closed` come
    before `data`, those two after it."""
    backlog: int
    """Bytes accepted by :meth:`Connection.write` or owed to the handshake that the socket has not
    taken yet: if it is not 0, call :meth:`Connection.flush` when the socket is writable."""
    more: bool
    """There may be more to receive (the fairness bound was reached): call again soon, as the edge
    that epoll reported is used up."""
    lingering: bool
    """The connection is ending (a fatal alert was sent, or :meth:`Connection.shutdown` called) and
    only waits for the client to close: set a deadline of a few seconds."""
    held: bool
    """Bytes of the handshake wait to go out with the answer to `data`: if the application has
    not written by the end of its turn, call :meth:`Connection.flush`."""

NOTHING: Progress
"""What every step returns that brought nothing: compare with ``is``."""

@final
class VirtualHost:
    """One certificate with what it is for. Immutable (PolarSSL's rule for ``x509_crt``)."""

    def __new__(
        cls,
        *,
        names: Sequence[str],
        chain: Sequence[bytes],
        key: bytes,
        scope: bytes,
        ocsp: bytes | None = None,
    ) -> VirtualHost:
        """
        :param names: DNS names it serves, lower case; ``*.example.org`` for one label.
        :param chain: certificates in DER, leaf first.
        :param key: private key in DER (PKCS#8, SEC1 or PKCS#1).
        :param scope: 32 bytes under which its sessions are stored.
        :param ocsp: an OCSP response in DER to staple (RFC 6066 §8).
        :raises ValueError: the key cannot be read or does not match the leaf.
        """

@final
class TlsContext:
    """Everything that the connections of a listener have in common. Immutable."""

    def __new__(
        cls,
        hosts: Sequence[VirtualHost],
        *,
        min_version: str = "TLSv1.2",
        cipher_suites: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        alpn: Sequence[str] = (),
        resumption: bool = True,
        tickets_per_connection: int = 2,
        ticket_lifetime: int = 86400,
        ticket_keys: TicketKeys | None = None,
        single_use: bool = False,
        client_auth: str = "off",
        client_ca: Sequence[bytes] = (),
        crl: Sequence[bytes] = (),
        client_depth: int = 6,
    ) -> TlsContext:
        """
        :param hosts: the first one serves clients that name none of them. Those of the same names
            and scope are served as one: the first whose key fits the client's
            signature_algorithms (RFC 8446 §4.2.3).
        :param min_version: ``TLSv1.2`` or ``TLSv1.3``.
        :param cipher_suites: IANA names in order of preference; None for the default.
        :param groups: names in order of preference; None for the default
            (X25519MLKEM768, x25519, secp256r1, secp384r1).
        :param alpn: protocol names in order of preference.
        :param resumption: whether sessions are issued and looked up.
        :param tickets_per_connection: TLS 1.3 tickets after a full handshake, 0 to 8.
        :param ticket_lifetime: seconds, 1 to 604800 (RFC 8446 §4.6.1), told to TLS 1.3 clients.
        :param ticket_keys: seal sessions into tickets under these, and have none stored.
        :param single_use: ask before each use of a TLS 1.3 ticket (:class:`TicketOffered`).
        :param client_auth: ``off``, ``optional`` or ``required``.
        :param client_ca: authorities of client certificates in DER; at least one unless ``off``.
        :param crl: their revocation lists in DER; with any, a path is good only if each of its
            authorities has one that is in force.
        :param client_depth: intermediate certificates of a path at most, 0 to 6.
        :raises ValueError: names the parameter that is wrong.
        """
    CIPHER_SUITES: ClassVar[list[str]]
    GROUPS: ClassVar[list[str]]

@final
class TicketKeysStatus:
    """What a ring holds and has done."""

    names: list[bytes]
    """Of the epochs held, 16 bytes each."""
    active: bytes | None
    """The epoch that seals."""
    sealed: int
    """Tickets sealed under it, here."""
    opened: int
    missed: list[tuple[str, int]]
    """Tickets refused, by reason: ``unknown``, ``scope``, ``expired``, ``purged``."""

@final
class TicketKeys:
    """A ring of ticket keys (RFC 5077 §4, AES-256-GCM). Any thread may call any method.

    It is empty at first: no ticket is issued or opened. Keys are cleared from memory when they are
    dropped.
    """

    def __new__(cls, worker: str, ttl: int) -> TicketKeys:
        """
        :param worker: its id, which tickets are marked with.
        :param ttl: seconds a ticket is good for.
        """
    def replace(
        self,
        *,
        kept: Sequence[bytes],
        added: Sequence[tuple[bytes, bytes, float]],
        active: bytes | None,
    ) -> None:
        """Of the epochs held keep some, take others in, and seal under one.

        :param kept: names; all others are dropped.
        :param added: (name, key, seconds it may still decrypt); one that is held stays as it is.
        :param active: a name; None, or one that is not held: no tickets are issued.
        :raises ValueError: a name is not 16 bytes or a key not 32, or one is all zeros.
        """
    def set_watermarks(
        self, watermarks: Sequence[tuple[int, bytes | None, str | None, bytes | None, str | None]]
    ) -> None:
        """Refuse tickets by the time of their issue, in place of what was refused before.

        :param watermarks: (Unix time in milliseconds, scope, server name, SHA-256 of the leaf, id
            of the issuing worker): tickets issued before it that fit whatever is not None.
        :raises ValueError: a scope is not 32 bytes, or a fingerprint too short.
        """
    def sweep(self) -> None:
        """Drop the keys whose time is over."""
    def status(self) -> TicketKeysStatus: ...

@final
class Listener:
    """A listening TCP socket, IPv4 or IPv6. Takes the descriptor over and makes it non-blocking."""

    def __new__(
        cls,
        fd: int,
        *,
        proxy_protocol_from: Sequence[str] = (),
        tolerate_truncation: bool = False,
    ) -> Listener:
        """
        :param proxy_protocol_from: addresses and networks (``10.0.0.0/8``) whose connections must
            begin with a PROXY header, version 1 or 2, which tells the client's address.
        :param tolerate_truncation: the end of a client's TCP stream after its handshake counts as
            close_notify, as for a :class:`Relay`, even if it comes before that is made.
        :raises ValueError: one of these is none, or the descriptor.
        """
    def fileno(self) -> int: ...
    def accept(self, context: TlsContext, limit: int) -> list[tuple[Connection, Progress]]:
        """Up to `limit` new connections, each with its first step taken (as by
        :meth:`Connection.advance`); an empty list if none is waiting.

        :raises OSError: EMFILE, ENFILE, ENOBUFS or ENOMEM: no descriptor or memory for another.
        """
    def close(self) -> None: ...

@final
class Connection:
    """One TLS connection and its socket (PolarSSL's rule for ``ssl_context``: never shared).

    Any thread may call any method: one lock inside orders them. By convention only the reader
    thread calls :meth:`advance`, :meth:`resume` and :meth:`close`.
    """

    peername: tuple[str, int]
    sockname: tuple[str, int]
    def fileno(self) -> int:
        """The socket's descriptor; -1 after :meth:`close`."""
    def advance(self, hangup: bool) -> Progress:
        """Receive, process, send. Call it once for each readiness event (edge-triggered).

        :param hangup: the event had EPOLLRDHUP, EPOLLHUP or EPOLLERR: receive until end of file.
        """
    def resume(self, found: tuple[bytes, bytes] | None) -> Progress:
        """Continue after :class:`SessionWanted`, with the (id, value) found or None. A connection
        that is not parked goes on as it was.
        """
    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt and send, or queue what the socket does not take; nothing after a close.

        :returns: the backlog in bytes, as :attr:`Progress.backlog`.
        """
    def flush(self) -> int:
        """Send what is queued, as far as the socket takes it.

        :returns: the backlog in bytes that is left.
        """
    def backlog(self) -> int:
        """The backlog in bytes."""
    def write_eof(self) -> int:
        """Send close_notify after what is queued and shut the sending side; receiving goes on.

        :returns: the backlog in bytes.
        """
    def shutdown(self) -> Progress:
        """Orderly close: what is queued, close_notify, then what still comes is read and thrown
        away until the client closes. :class:`Closed` tells when it is over; set a deadline. If
        there is a backlog, call :meth:`advance` once :meth:`flush` has brought it to 0.
        """
    def abort(self) -> None:
        """Close at once with a TCP reset; what is queued is lost."""
    def close(self) -> None:
        """Give the descriptor back. No method does anything after it."""

@final
class Relay:
    """What a client sends goes to a backend in the clear, and what that sends goes back.

    Made from a connection whose handshake is complete, which it drives from then on: it has those
    of the connection's methods that its reader calls. It flushes by itself, so it reports no
    backlog. The client's end (close_notify, or the end of its TCP stream) becomes a FIN to the
    backend, the backend's FIN a close_notify; a reset of one side, or a broken TLS stream, becomes
    a reset of the other.

    Both sockets are to be watched for input, output and hangup, edge-triggered. Any thread may call
    any method; by convention the connection's reader does.
    """

    def __new__(cls, connection: Connection) -> Relay: ...
    peername: tuple[str, int]
    sockname: tuple[str, int]
    def fileno(self) -> int:
        """The descriptor of the client's socket; -1 after :meth:`close`."""
    def connect(self, address: tuple[str, int] | str, preface: bytes = b"") -> int:
        """Begin to connect to a backend. :class:`BackendConnected` or :class:`BackendFailed` tells
        what came of it; there is no deadline here.

        :param address: (IP address, port), or the path of a Unix socket.
        :param preface: sent before anything of the client, such as a PROXY header.
        :returns: the descriptor of the backend's socket.
        :raises OSError: nothing is there; another may be tried.
        :raises ValueError: the address is none.
        """
    def give_up(self) -> None:
        """Stop trying to connect. What is for the backend is kept for another."""
    def push(self, data: bytes) -> Progress:
        """Data of the client that was received before the relay was made."""
    def advance(self, hangup: bool) -> Progress:
        """The client's socket is ready; see :meth:`Connection.advance`."""
    def backend_ready(self, events: int) -> Progress:
        """The backend's socket is ready.

        :param events: what epoll said of it.
        """
    def flush(self) -> int:
        """Does nothing and returns 0: what the handshake holds goes with the backend's answer."""
    def backlog(self) -> int:
        """0: a relay flushes by itself."""
    def shutdown(self) -> Progress:
        """Orderly close towards the client, as :meth:`Connection.shutdown`. The backend's socket is
        closed, with a reset if it was not sent everything."""
    def abort(self) -> None:
        """Close both with a TCP reset."""
    def close(self) -> None:
        """Give both descriptors back; a backend that had not come to its end is reset."""

@final
class DrbgStatus:
    """What the process's DRBG has done so far."""

    seeded: bool
    failed: bool
    requests: int
    reseeds: int
    requests_since_reseed: int
    forks: int
    """Times that a fork was noticed (and the child's state replaced)."""

def drbg_seed(seed: bytes, personalization: bytes = b"") -> None:
    """Instantiate the process's CTR_DRBG (SP 800-90A Rev. 1 §10.2.1.3.1); once per process.

    :param seed: 48 bytes of full entropy.
    :param personalization: at most 48 bytes.
    :raises ValueError: a length is wrong.
    :raises RuntimeError: it is instantiated already, or its self-test failed.
    """

def drbg_reseed(seed: bytes, additional: bytes = b"") -> None:
    """Reseed it (§10.2.1.4.1). Any thread.

    :raises RuntimeError: it is not instantiated, or has failed.
    """

def drbg_generate(length: int) -> bytes:
    """Random bytes, at most 65536 a call (§10.2.1, table 3). Any thread.

    :raises ValueError: a longer request.
    :raises RuntimeError: it is not instantiated, has failed, or is zeroised.
    """

def drbg_zeroize() -> None:
    """Wipe its state for good: nothing comes out any more, and handshakes fail. Any thread.

    Happens by itself when the process exits, but not with :func:`os._exit`.
    """

def drbg_status() -> DrbgStatus: ...
