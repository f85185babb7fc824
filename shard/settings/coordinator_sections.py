"""The sections about what is shared: sessions, the coordinator, its entropy and HTTP, the log."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from shard.settings.key import Key, Section
from shard.settings.values import (
    Count,
    Duration,
    FilePath,
    Size,
    SocketAddress,
    Switch,
    Words,
    check_endpoint,
    check_entropy_sources,
    check_resumption,
)

__all__ = [
    "AdminSection",
    "CoordinatorSection",
    "EntropySection",
    "LogSection",
    "SessionsSection",
    "TicketKeysSection",
]


_MiB: Final = 1024**2


class SessionsSection(Section):
    """``[sessions]``: resumption."""

    resumption: Annotated[
        str,
        AfterValidator(check_resumption),
        Key(
            "--resumption",
            "cache: the coordinator keeps sessions; tickets: clients do, sealed; off: none.",
            '"cache", "tickets" or "off"',
            "MODE",
        ),
    ] = "cache"
    ttl: Annotated[
        Duration,
        # RFC 8446 §4.6.1: a ticket lives for 604800 s at most.
        Field(ge=1, le=604800),
        Key(
            "--session-ttl",
            "How long a session can be resumed.",
            'a duration from 1 s to 7 d, such as 86400 or "24h"',
            "SECONDS",
            restart=True,
        ),
    ] = 86400.0
    max_bytes: Annotated[
        Size,
        Field(ge=_MiB, le=1024**4),
        Key(
            "--session-max-bytes",
            "Bound of the session cache.",
            'a size from 1 MiB to 1024 GiB, such as "64MiB"',
            "BYTES",
            restart=True,
        ),
    ] = 64 * _MiB
    max_entries: Annotated[
        Count,
        Field(ge=1, le=1_000_000_000),
        Key(
            "--session-max-entries",
            "Bound of the session cache.",
            "a whole number from 1 to 1000000000",
            restart=True,
        ),
    ] = 1_000_000
    tickets_per_connection: Annotated[
        Count,
        Field(ge=0, le=8),
        Key(
            "--tickets-per-connection",
            "TLS 1.3 tickets after a full handshake.",
            "a whole number from 0 to 8",
        ),
    ] = 2
    lookup_timeout: Annotated[
        Duration,
        Field(ge=0.001, le=5),
        Key(
            "--lookup-timeout",
            "After this a session counts as not found.",
            'a duration from 1 ms to 5 s, such as 0.02 or "20ms"',
            "SECONDS",
        ),
    ] = 0.02


class TicketKeysSection(Section):
    """``[ticket_keys]``: the keys of sealed tickets, for ``sessions.resumption = "tickets"``."""

    rotate_every: Annotated[
        Duration,
        Field(ge=1, le=7 * 86400),
        Key(
            "--ticket-rotate-every",
            "How long a ticket key seals tickets.",
            'a duration from 1 s to 7 d, such as 43200 or "12h"',
            "SECONDS",
            restart=True,
        ),
    ] = 43200.0
    keep: Annotated[
        Count,
        Field(ge=2, le=32),
        Key(
            "--ticket-keep",
            "For how many such spans it opens them, the first included.",
            "a whole number from 2 to 32",
            restart=True,
        ),
    ] = 4
    single_use: Annotated[
        Switch,
        Key(
            "--ticket-single-use",
            "A TLS 1.3 ticket resumes once; asks the coordinator at each resumption.",
            "true or false",
            "",
        ),
    ] = False


class CoordinatorSection(Section):
    """``[coordinator]``: where it is reached, and by whom."""

    sessions: Annotated[
        Annotated[str, AfterValidator(check_endpoint)] | None,
        Key(
            "--sessions-endpoint",
            "Session lookups; default: a socket in the runtime directory.",
            '"ipc:///path" or "tcp://HOST:PORT"',
            "ENDPOINT",
            restart=True,
        ),
    ] = None
    control: Annotated[
        Annotated[str, AfterValidator(check_endpoint)] | None,
        Key(
            "--control-endpoint",
            "Everything else; default: a socket in the runtime directory.",
            '"ipc:///path" or "tcp://HOST:PORT"',
            "ENDPOINT",
            restart=True,
        ),
    ] = None
    key_dir: Annotated[
        FilePath | None,
        Key(
            "--key-dir",
            "CURVE keys as `shardtls keys init` makes them; needed for tcp://.",
            "a directory",
            "DIR",
            restart=True,
        ),
    ] = None
    allow_list: Annotated[
        FilePath | None,
        Key(
            "--allow-list",
            "Who may connect over tcp://; default: allow.toml among the keys.",
            "a file",
            "FILE",
            restart=True,
        ),
    ] = None
    heartbeat: Annotated[
        Duration,
        Field(ge=0.05, le=60),
        Key(
            "--heartbeat",
            "How often workers say that they live.",
            'a duration from 50 ms to 60 s, such as 0.5 or "500ms"',
            "SECONDS",
            restart=True,
        ),
    ] = 0.5
    lease_timeout: Annotated[
        Duration,
        Field(ge=0.1, le=600),
        Key(
            "--lease-timeout",
            "A worker that is silent for longer is lost; one that hangs is replaced.",
            'a duration from 0.1 s to 10 min, such as 2 or "2s"',
            "SECONDS",
            restart=True,
        ),
    ] = 2.0
    park: Annotated[
        Duration,
        Field(ge=0, le=1),
        Key(
            "--park",
            "How long a lookup waits for a session that is still on its way.",
            'a duration from 0 to 1 s, such as 0.015 or "15ms"',
            "SECONDS",
            restart=True,
        ),
    ] = 0.015
    deployment: Annotated[
        str,
        Field(max_length=64),
        Key(
            "--deployment",
            "A name for people, shown by the status.",
            "at most 64 characters",
            "NAME",
            restart=True,
        ),
    ] = ""


class EntropySection(Section):
    """``[entropy]``: what the coordinator's seeds are made of."""

    sources: Annotated[
        tuple[str, ...],
        Words,
        Field(min_length=1),
        AfterValidator(check_entropy_sources),
        Key(
            "--entropy-sources",
            "getrandom, hwrng, jitter, workers, file:/PATH@CLAIM, command:/PROGRAM@CLAIM.",
            'any of "getrandom", "hwrng", "jitter", "workers", "file:/PATH" and '
            '"command:/PROGRAM …", the last two with a claim in bits a byte such as "@0.5"',
            "NAME,…",
            restart=True,
        ),
    ] = ("getrandom", "hwrng", "jitter", "workers")
    retest: Annotated[
        Duration,
        Field(ge=0.1, le=86400),
        Key(
            "--entropy-retest",
            "How long after a failure a noise source is tested again.",
            'a duration from 0.1 s to 24 h, such as 60 or "1m"',
            "SECONDS",
            restart=True,
        ),
    ] = 60.0


class AdminSection(Section):
    """``[admin]``: the coordinator's read-only HTTP."""

    bind: Annotated[
        SocketAddress,
        Key(
            "--admin",
            "Status page, /status.json, /metrics, /livez, /readyz.",
            'an address such as "127.0.0.1:9080"',
            "HOST:PORT",
            restart=True,
        ),
    ] = "127.0.0.1:9080"  # type: ignore[assignment]  # validated as any other value


class LogSection(Section):
    """``[log]``."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key(
            "--log-level",
            "debug, info, warning or error.",
            '"debug", "info", "warning" or "error"',
            "LEVEL",
            restart=True,
        ),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Key("--log-format", "text or json.", '"text" or "json"', "FORMAT", restart=True),
    ] = "text"
    file: Annotated[
        FilePath | None,
        Key("--log-file", "Instead of standard error.", "a path", "FILE", restart=True),
    ] = None
