"""What the coordinator is told, once, by the process that starts it. Values only; no I/O.

Whoever fills it in (the command, the supervisor) has validated everything and reported every error
with its path; here it is trusted. The frame form travels over the lifeline, never in argv or the
environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

__all__ = ["ROLES", "AllowedKey", "CoordinatorSettings", "EntropySource", "ServerCurve"]

ROLES: Final = ("worker", "supervisor", "admin")

BUILT_IN_SOURCES: Final = ("getrandom", "hwrng", "jitter", "workers")
DEFAULT_CLAIM: Final = 1.0
_OWN_SOURCE: Final = re.compile(r"(file|command):(.*?)(?:@(\d+(?:\.\d+)?))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropySource:
    """A noise source as it is named in the settings.

    :ivar kind: one of those built in, or ``file`` or ``command``: an operator's own.
    :ivar arguments: the path, or the program and its arguments.
    :ivar claim: of an operator's own: bits of min-entropy a byte, over 0 and at most 8.
    """

    kind: str
    arguments: tuple[str, ...] = ()
    claim: float = DEFAULT_CLAIM

    @property
    def name(self) -> str:
        """As the status shows it; of a command the program alone, as arguments may be private."""
        return f"{self.kind}:{self.arguments[0]}" if self.arguments else self.kind

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``getrandom``, ``file:/dev/ttyACM0@4`` or ``command:/usr/bin/noise --raw@0.5``.

        :raises ValueError: it is something else.
        """
        if text in BUILT_IN_SOURCES:
            return cls(kind=text)
        match = _OWN_SOURCE.fullmatch(text)
        if match is None:
            known = ", ".join((*BUILT_IN_SOURCES, "file:/PATH", "command:/PROGRAM …"))
            raise ValueError(f"entropy source {text!r} is none of {known}")
        kind, rest, claim = match.groups()
        arguments = (rest,) if kind == "file" else tuple(shlex.split(rest))
        if not arguments or not arguments[0].startswith("/") or not arguments[0].isprintable():
            what = "its file" if kind == "file" else "its program"
            raise ValueError(f"entropy source {text!r} needs the absolute path of {what}")
        if claim is not None and not 0 < float(claim) <= 8:
            raise ValueError(
                f"entropy source {text!r}: a claim is over 0 and at most 8 bits a byte"
            )
        return cls(
            kind=kind,
            arguments=arguments,
            claim=DEFAULT_CLAIM if claim is None else float(claim),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCurve:
    """The coordinator's CURVE key pair, each 40 characters of Z85 (ZeroMQ RFC 32)."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedKey:
    """One line of the allow-list.

    :ivar public: the peer's public key, 40 characters of Z85.
    :ivar role: one of :data:`ROLES`.
    :ivar name: for logs and the status page.
    """

    public: str
    role: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorSettings:
    """Everything a coordinator needs. Durations in seconds, sizes in bytes.

    :ivar sessions_endpoint: ``ipc://PATH`` or ``tcp://HOST:PORT`` (port ``*`` chooses one).
    :ivar control_endpoint: likewise.
    :ivar sessions_ttl: life of a stored session; RFC 8446 §4.6.1 allows at most 604800.
    :ivar sessions_max_bytes: bound of the session cache, overhead included.
    :ivar ticket_rotate_every: how long a ticket key seals.
    :ivar ticket_keep: for how many such spans it opens tickets, the first included.
    :ivar lease_timeout: a peer that is silent for longer is lost.
    :ivar heartbeat: how often peers are asked to send one.
    :ivar park: how long a lookup waits for a session that no worker has stored yet.
    :ivar order_timeout: how long an order may stay unacknowledged, unless its request says so.
    :ivar curve: required as soon as an endpoint is ``tcp://``.
    :ivar allowed: who may connect to a ``tcp://`` endpoint.
    :ivar admin_port: 0 chooses a free one.
    :ivar entropy_sources: each as :meth:`EntropySource.parse` reads it.
    :ivar entropy_retest: from a source's failure to its next start-up test.
    :ivar log_format: ``text`` or ``json``.
    :ivar log_file: None for standard error.
    :ivar version: of the server, as the status shows it.
    :ivar deployment: a name for people, may be empty.
    """

    sessions_endpoint: str
    control_endpoint: str
    sessions_ttl: float = 86400.0
    sessions_max_bytes: int = 64 * 1024 * 1024
    sessions_max_entries: int = 1_000_000
    ticket_rotate_every: float = 43200.0
    ticket_keep: int = 4
    lease_timeout: float = 2.0
    heartbeat: float = 0.5
    park: float = 0.015
    order_timeout: float = 60.0
    curve: ServerCurve | None = None
    allowed: tuple[AllowedKey, ...] = ()
    admin_host: str = "127.0.0.1"
    admin_port: int = 9080
    entropy_sources: tuple[str, ...] = BUILT_IN_SOURCES
    entropy_retest: float = 60.0
    log_level: str = "info"
    log_format: str = "text"
    log_file: str | None = None
    version: str = ""
    deployment: str = ""

    def to_frame(self) -> dict[str, Any]:
        """As a msgpack-able map."""
        return asdict(self)

    @classmethod
    def from_frame(cls, frame: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_frame`, after msgpack has made lists of its tuples.

        A field that is left out has its default.

        :raises TypeError: a field is unknown or a required one is missing.
        """
        values = dict(frame)
        curve = values.get("curve")
        values["curve"] = None if curve is None else ServerCurve(**curve)
        values["allowed"] = tuple(AllowedKey(**entry) for entry in values.get("allowed", ()))
        if "entropy_sources" in values:
            values["entropy_sources"] = tuple(values["entropy_sources"])
        return cls(**values)
