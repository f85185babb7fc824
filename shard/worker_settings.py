"""What a worker is told by its supervisor, once, over the lifeline. Values only; no I/O.

The supervisor has validated everything; a worker trusts it. This module imports nothing heavy, as
a replacement worker must be serving within a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = [
    "AsgiSettings",
    "CurveKeys",
    "HostSettings",
    "ProxySettings",
    "RouteSettings",
    "WorkerSettings",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """A certificate, its key and its session scope.

    :ivar names: DNS names, lower case.
    :ivar chain: DER, leaf first.
    :ivar key: private key, DER. Kept out of the repr.
    :ivar ocsp: an OCSP response to staple, DER.
    :ivar not_after: when it expires, Unix seconds.
    :ivar scope: 32 bytes.
    """

    names: tuple[str, ...]
    chain: tuple[bytes, ...] = field(repr=False)
    key: bytes = field(repr=False)
    scope: bytes = field(repr=False)
    ocsp: bytes | None = field(default=None, repr=False)
    not_after: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveKeys:
    """CURVE keys of one connection to a coordinator, each 40 characters of Z85 (RFC 32/Z85)."""

    server_public: str
    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsgiSettings:
    """How ASGI and WSGI applications are served.

    :ivar root_path: path under which the application is mounted.
    :ivar lifespan: ``auto``, ``on`` or ``off``.
    :ivar websocket: ``auto``, ``websockets``, ``websockets-sansio``, ``wsproto`` or ``none``.
    :ivar keep_alive: seconds that a connection may wait for its next request.
    :ivar forwarded_allow_ips: whose ``X-Forwarded-`` headers are believed.
    :ivar http2: HTTP/2 is among the protocols offered by ALPN.
    :ivar threads: of a WSGI application.
    """

    root_path: str = ""
    access_log: bool = False
    lifespan: str = "auto"
    websocket: str = "auto"
    keep_alive: float = 5.0
    forwarded_allow_ips: tuple[str, ...] = ()
    http2: bool = False
    threads: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """Backends, with commas between them, for a server name in lower case."""

    server_name: str
    backends: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """How the TCP proxy reaches its backends.

    :ivar retries: further attempts to connect.
    :ivar balance: ``round_robin`` or ``least_connections``.
    :ivar send_proxy: version of the PROXY header: ``off``, ``v1`` or ``v2``.
    :ivar health_interval: seconds between checks; 0: none.
    :ivar rise: good checks until a backend is up.
    :ivar fall: failures until it is down.
    :ivar resolve_interval: seconds between lookups of names.
    """

    connect_timeout: float = 5.0
    retries: int = 2
    balance: str = "round_robin"
    send_proxy: str = "off"
    health_interval: float = 5.0
    rise: int = 2
    fall: int = 3
    resolve_interval: float = 30.0
    routes: tuple[RouteSettings, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Everything a worker needs. Durations in seconds, sizes in bytes.

    :ivar worker: its id, unique among all workers of the deployment: ``<group>-<slot>.<n>``.
    :ivar group: its supervisor's id.
    :ivar listeners: inherited descriptors of listening sockets.
    :ivar resumption: ``cache``, ``tickets`` or ``off``.
    :ivar single_use: whether a sealed TLS 1.3 ticket resumes once.
    :ivar proxy_protocol_from: networks whose connections begin with a PROXY header.
    :ivar app: ``hello``, ``echo``, ``proxy:…``, ``asgi:…``, ``wsgi:…`` or ``module:attr``.
    :ivar client_auth: ``off``, ``optional`` or ``required``.
    :ivar client_ca: authorities of client certificates, DER.
    :ivar crl: revocation lists, DER.
    """

    worker: str
    slot: int
    group: str
    listeners: tuple[int, ...]
    app: str
    readers: int
    writers: int
    max_connections: int
    handshake_timeout: float
    idle_timeout: float
    drain_timeout: float
    hosts: tuple[HostSettings, ...]
    min_version: str
    cipher_suites: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    alpn: tuple[str, ...]
    client_auth: str = "off"
    client_ca: tuple[bytes, ...] = field(default=(), repr=False)
    crl: tuple[bytes, ...] = field(default=(), repr=False)
    client_depth: int = 0
    resumption: str
    tickets_per_connection: int
    session_ttl: int
    single_use: bool
    lookup_timeout: float
    sessions_endpoint: str
    control_endpoint: str
    curve: CurveKeys | None
    drbg_reseed_requests: int
    drbg_reseed_interval: float
    log_level: str
    log_format: str
    log_file: str | None
    asgi: AsgiSettings = AsgiSettings()
    proxy: ProxySettings = ProxySettings()
    proxy_protocol_from: tuple[str, ...] = ()

    def to_frame(self) -> dict[str, Any]:
        """As a msgpack-able map."""
        return asdict(self)

    @classmethod
    def from_frame(cls, frame: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_frame`, after msgpack has made lists of its tuples."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in frame.items()
        }
        values["hosts"] = tuple(
            HostSettings(**{**host, "names": tuple(host["names"]), "chain": tuple(host["chain"])})
            for host in frame["hosts"]
        )
        asgi = frame["asgi"]
        forwarded = tuple(asgi["forwarded_allow_ips"])
        values["asgi"] = AsgiSettings(**asgi | {"forwarded_allow_ips": forwarded})
        routes = tuple(RouteSettings(**route) for route in frame["proxy"]["routes"])
        values["proxy"] = ProxySettings(**frame["proxy"] | {"routes": routes})
        values["curve"] = None if frame["curve"] is None else CurveKeys(**frame["curve"])
        return cls(**values)
