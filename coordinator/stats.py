"""What workers and supervisors report of themselves in a heartbeat: checked, then kept as values.

Pure. A report becomes status and metrics, so nothing of it is taken over unchecked: unknown keys
are dropped, and a value of the wrong kind refuses the heartbeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.bodies import optional_map
from coordinator.errors import MessageError
from coordinator.protocol import ERROR_SHAPE

__all__ = ["BackendStats", "DrbgStats", "SupervisorStats", "WorkerStats"]

MAX_REASONS: Final = 32
MAX_WORD_CHARS: Final = 64
MAX_BACKENDS: Final = 256
MAX_BACKEND_CHARS: Final = 300
_MAX_COUNT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DrbgStats:
    """A worker's CTR_DRBG.

    :ivar last_reseed_age: seconds; None before the first seed.
    """

    requests: int = 0
    reseeds: int = 0
    requests_since_reseed: int = 0
    seeded_from: str | None = None
    last_reseed_age: float | None = None
    last_reseed_reason: str | None = None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> DrbgStats:
        """From a heartbeat.

        :raises MessageError: a value is of the wrong kind.
        """
        return cls(
            requests=_count(body, "requests"),
            reseeds=_count(body, "reseeds"),
            requests_since_reseed=_count(body, "requests_since_reseed"),
            seeded_from=_word(body, "seeded_from"),
            last_reseed_age=_seconds(body, "last_reseed_age"),
            last_reseed_reason=_word(body, "last_reseed_reason"),
        )


@dataclass(frozen=True, slots=True)
class BackendStats:
    """A backend of a worker's TCP proxy.

    :ivar connections: relayed now.
    :ivar failures: clients' connections that could not be made.
    """

    up: bool
    connections: int
    failures: int

    @classmethod
    def read_all(cls, body: Mapping[str, Any]) -> dict[str, BackendStats]:
        """From a heartbeat, by name.

        :raises MessageError: a value is of the wrong kind.
        """
        if len(body) > MAX_BACKENDS:
            raise MessageError(ERROR_SHAPE, f"at most {MAX_BACKENDS} backends")
        found = {}
        for name in body:
            short = isinstance(name, str) and 1 <= len(name) <= MAX_BACKEND_CHARS
            if not short or not name.isprintable():
                raise MessageError(ERROR_SHAPE, "a backend's name is short and printable")
            values = optional_map(body, name)
            found[name] = cls(
                up=values.get("up") is True,
                connections=_count(values, "connections"),
                failures=_count(values, "failures"),
            )
        return found


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """Counters of one worker since its start; `connections` is how many are open now.

    :ivar lookup_misses: by reason, the coordinator's and the worker's own.
    :ivar breaker: ``closed`` or ``open``.
    :ivar ended: connections, by the reason why they ended.
    :ivar accept_pauses: how often it stopped accepting for want of descriptors or by its limit.
    """

    connections: int = 0
    full: int = 0
    resumed: int = 0
    failed: int = 0
    lookup_hits: int = 0
    lookup_misses: Mapping[str, int] = field(default_factory=dict)
    breaker: str | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None
    ended: Mapping[str, int] = field(default_factory=dict)
    handler_errors: int = 0
    accept_pauses: int = 0
    backends: Mapping[str, BackendStats] = field(default_factory=dict)
    drbg: DrbgStats = field(default_factory=DrbgStats)

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> WorkerStats:
        """From a heartbeat.

        :raises MessageError: a value is of the wrong kind.
        """
        handshakes = optional_map(body, "handshakes")
        lookups = optional_map(body, "lookups")
        transferred = optional_map(body, "bytes")
        return cls(
            connections=_count(body, "connections"),
            full=_count(handshakes, "full"),
            resumed=_count(handshakes, "resumed"),
            failed=_count(handshakes, "failed"),
            lookup_hits=_count(lookups, "hits"),
            lookup_misses=_reasons(optional_map(lookups, "misses")),
            breaker=_word(body, "breaker"),
            received_bytes=_count(transferred, "received") if transferred else None,
            sent_bytes=_count(transferred, "sent") if transferred else None,
            ended=_reasons(optional_map(body, "ended")),
            handler_errors=_count(body, "handler_errors"),
            accept_pauses=_count(body, "accept_pauses"),
            backends=BackendStats.read_all(optional_map(body, "backends")),
            drbg=DrbgStats.read(optional_map(body, "drbg")),
        )


@dataclass(frozen=True, slots=True)
class SupervisorStats:
    """What a supervisor wants and has done."""

    workers_wanted: int = 0
    restarts: int = 0

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> SupervisorStats:
        """From a heartbeat.

        :raises MessageError: a value is of the wrong kind.
        """
        return cls(workers_wanted=_count(body, "workers_wanted"), restarts=_count(body, "restarts"))


def _count(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_COUNT:
        raise MessageError(ERROR_SHAPE, f"{key} is a count")
    return value


def _seconds(body: Mapping[str, Any], key: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    # The comparison also refuses NaN and infinity, which are not JSON.
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
        raise MessageError(ERROR_SHAPE, f"{key} is a number of seconds")
    return float(value)


def _word(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is None:
        return None
    if not _is_word(value):
        raise MessageError(ERROR_SHAPE, f"{key} is 1 to {MAX_WORD_CHARS} printable characters")
    return str(value)


def _reasons(misses: Mapping[str, Any]) -> dict[str, int]:
    if len(misses) > MAX_REASONS:
        raise MessageError(ERROR_SHAPE, f"at most {MAX_REASONS} reasons")
    for reason in misses:
        if not _is_word(reason):
            raise MessageError(ERROR_SHAPE, "a reason is a short printable word")
    return {reason: _count(misses, reason) for reason in misses}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_WORD_CHARS and value.isprintable()
