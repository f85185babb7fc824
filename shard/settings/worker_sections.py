"""The sections that workers live by: listening, certificates, TLS, randomness. Values only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shard.settings.key import Key, Section
from shard.settings.values import (
    Count,
    Duration,
    FilePath,
    SocketAddress,
    Switch,
    Words,
    check_alpn,
    check_application,
    check_distinct,
    check_network,
    check_root_path,
)

__all__ = ["AsgiSection", "CertificateSection", "DrbgSection", "ServerSection", "TlsSection"]


class ServerSection(Section):
    """``[server]``: listening, processes and limits."""

    bind: Annotated[
        tuple[SocketAddress, ...],
        Words,
        Field(min_length=1, max_length=64),
        AfterValidator(check_distinct),
        Key(
            "--bind",
            "Listen here for TLS; repeatable. Port 0 lets the kernel choose.",
            'addresses such as "127.0.0.1:8443" or "[::1]:8443"',
            "HOST:PORT",
        ),
    ] = ("127.0.0.1:8443",)  # type: ignore[assignment]  # validated as any other value
    workers: Annotated[
        Count,
        Field(ge=1, le=1024),
        Key("--workers", "Worker processes.", "a whole number from 1 to 1024"),
    ] = 2
    app: Annotated[
        str,
        AfterValidator(check_application),
        Key(
            "--app",
            "hello, echo, proxy:HOST:PORT, asgi:module:attr, wsgi:module:attr or module:attr.",
            '"hello", "echo", "proxy:…", "asgi:…", "wsgi:…" or "module:attr"',
            "APP",
        ),
    ] = "hello"
    readers: Annotated[
        Count,
        Field(ge=1, le=64),
        Key("--readers", "Reader threads of a worker.", "a whole number from 1 to 64"),
    ] = 1
    writers: Annotated[
        Count,
        Field(ge=1, le=64),
        Key("--writers", "Writer threads of a worker.", "a whole number from 1 to 64"),
    ] = 1
    backlog: Annotated[
        Count,
        Field(ge=1, le=65535),
        Key(
            "--backlog",
            "Connections that the kernel queues for a listening socket.",
            "a whole number from 1 to 65535",
        ),
    ] = 2048
    proxy_protocol_from: Annotated[
        tuple[Annotated[str, AfterValidator(check_network)], ...],
        Words,
        AfterValidator(check_distinct),
        Key(
            "--proxy-protocol-from",
            "Balancers, whose connections must begin with a PROXY header.",
            'addresses or networks such as "10.0.0.0/8"',
            "NETWORK,…",
        ),
    ] = ()
    max_connections: Annotated[
        Count,
        Field(ge=1, le=1_000_000),
        Key("--max-connections", "Connections of a worker.", "a whole number from 1 to 1000000"),
    ] = 10_000
    handshake_timeout: Annotated[
        Duration,
        Field(ge=0.1, le=3600),
        Key(
            "--handshake-timeout",
            "Close a connection whose handshake takes longer.",
            'a duration from 0.1 s to 1 h, such as 10 or "10s"',
            "SECONDS",
        ),
    ] = 10.0
    idle_timeout: Annotated[
        Duration,
        Field(ge=0.1, le=7 * 86400),
        Key(
            "--idle-timeout",
            "Close a connection on which nothing moves for longer.",
            'a duration from 0.1 s to 7 d, such as 300 or "5m"',
            "SECONDS",
        ),
    ] = 300.0
    drain_timeout: Annotated[
        Duration,
        Field(ge=0, le=86400),
        Key(
            "--drain-timeout",
            "How long a draining worker may finish its connections.",
            'a duration from 0 to 24 h, such as 30 or "30s"',
            "SECONDS",
        ),
    ] = 30.0
    runtime_dir: Annotated[
        FilePath | None,
        Key(
            "--runtime-dir",
            "Lock, sockets and state; default $XDG_RUNTIME_DIR/shardtls or /tmp/shardtls-UID.",
            "a directory that only its owner can enter",
            "DIR",
            restart=True,
        ),
    ] = None


class CertificateSection(Section):
    """One ``[[certificate]]``. The first one serves clients that name no host of the others."""

    cert: Annotated[
        FilePath,
        Key("--cert", "PEM chain, leaf first; repeatable, with --key.", "a path", "FILE"),
    ]
    key: Annotated[
        FilePath,
        Key("--key", "PEM private key of the --cert before it.", "a path", "FILE"),
    ]
    password_file: Annotated[
        FilePath | None,
        Key(
            "--key-password-file",
            "Its first line decrypts the --key; once for each --cert, or never.",
            "a path",
            "FILE",
        ),
    ] = None
    ocsp: Annotated[
        FilePath | None,
        Key(
            "--ocsp",
            "OCSP response to staple, DER; once for each --cert, or never.",
            "a path",
            "FILE",
        ),
    ] = None


class TlsSection(Section):
    """``[tls]``: what is offered to clients."""

    self_signed: Annotated[
        Switch,
        Key(
            "--self-signed",
            "Development: use a certificate of our own for localhost.",
            "true or false",
            "",
        ),
    ] = False
    min_version: Annotated[
        Literal["TLSv1.2", "TLSv1.3"],
        Key("--min-version", "Oldest protocol version.", '"TLSv1.2" or "TLSv1.3"', "VERSION"),
    ] = "TLSv1.2"
    cipher_suites: Annotated[
        tuple[str, ...],
        Words,
        AfterValidator(check_distinct),
        Key(
            "--cipher-suites",
            "In order of preference; none named: the engine's own order.",
            "IANA names",
            "NAME,…",
        ),
    ] = ()
    groups: Annotated[
        tuple[str, ...],
        Words,
        AfterValidator(check_distinct),
        Key(
            "--groups",
            "Key exchange, in order of preference; none named: the engine's own order.",
            "group names",
            "NAME,…",
        ),
    ] = ()
    alpn: Annotated[
        tuple[str, ...],
        Words,
        AfterValidator(check_alpn),
        Key(
            "--alpn",
            "Application protocols in order of preference.",
            'names such as "http/1.1"',
            "NAME,…",
        ),
    ] = ("http/1.1",)

    client_auth: Annotated[
        Literal["off", "optional", "required"],
        Key(
            "--client-auth",
            "Ask clients for a certificate; required: refuse those without.",
            '"off", "optional" or "required"',
            "MODE",
        ),
    ] = "off"
    client_ca: Annotated[
        FilePath | None,
        Key(
            "--client-ca",
            "Authorities of client certificates, PEM.",
            "a path",
            "FILE",
        ),
    ] = None
    crl: Annotated[
        tuple[FilePath, ...],
        Words,
        AfterValidator(check_distinct),
        Key(
            "--crl",
            "Revocation lists of those authorities, PEM or DER; repeatable.",
            "paths",
            "FILE",
        ),
    ] = ()
    client_depth: Annotated[
        Count,
        Field(ge=0, le=6),
        Key(
            "--client-depth",
            "Intermediate certificates between a client's and an authority's, at most.",
            "a whole number from 0 to 6",
        ),
    ] = 6


class AsgiSection(Section):
    """``[asgi]``: how ``asgi:`` and ``wsgi:`` applications are served."""

    root_path: Annotated[
        str,
        AfterValidator(check_root_path),
        Key(
            "--root-path",
            "Path under which an ASGI or WSGI application is mounted.",
            'a path such as "/api", or ""',
            "PATH",
        ),
    ] = ""
    access_log: Annotated[
        Switch,
        Key("--access-log", "Log every request of an ASGI application.", "true or false", ""),
    ] = False
    lifespan: Annotated[
        Literal["auto", "on", "off"],
        Key(
            "--lifespan",
            "ASGI's lifespan: needed, not used, or as the application has it.",
            '"auto", "on" or "off"',
            "MODE",
        ),
    ] = "auto"
    websocket: Annotated[
        Literal["auto", "websockets", "websockets-sansio", "wsproto", "none"],
        Key(
            "--websocket",
            "Library for WebSocket.",
            '"auto", "websockets", "websockets-sansio", "wsproto" or "none"',
            "NAME",
        ),
    ] = "auto"
    keep_alive: Annotated[
        Duration,
        Field(ge=1, le=3600),
        Key(
            "--keep-alive",
            "Close an HTTP connection that waits longer for its next request.",
            'a duration from 1 s to 1 h, such as 5 or "5s"',
            "SECONDS",
        ),
    ] = 5.0
    forwarded_allow_ips: Annotated[
        tuple[str, ...],
        Words,
        AfterValidator(check_distinct),
        Key(
            "--forwarded-allow-ips",
            "Believe X-Forwarded-For and -Proto of these.",
            'addresses or networks, or "*"',
            "ADDRESS,…",
        ),
    ] = ()
    threads: Annotated[
        Count,
        Field(ge=1, le=1024),
        Key(
            "--threads",
            "Threads of a worker for a WSGI application.",
            "a whole number from 1 to 1024",
        ),
    ] = 10


class DrbgSection(Section):
    """``[drbg]``: the random bit generator of each worker (SP 800-90A Rev. 1)."""

    reseed_requests: Annotated[
        Count,
        # SP 800-90A Rev. 1, table 3: at most 2^48 requests between reseeds.
        Field(ge=1, le=2**48),
        Key(
            "--reseed-requests",
            "Reseed after so many requests.",
            "a whole number from 1 to 281474976710656",
        ),
    ] = 65536
    reseed_interval: Annotated[
        Duration,
        Field(ge=1, le=30 * 86400),
        Key(
            "--reseed-interval",
            "Reseed after so long.",
            'a duration from 1 s to 30 d, such as 60 or "1m"',
            "SECONDS",
        ),
    ] = 60.0
