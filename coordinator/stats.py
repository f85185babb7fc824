"""What workers and supervisors report of themselves in a heartbeat: checked, then kept as values.

Pure. A report becomes status and metrics, so nothing of it is taken over unchecked: unknown keys
are dropped, and a value of the wrong kind refuses the heartbeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.bodies import MAX_TEXT_CHARS, optional_map
from coordinator.errors import MessageError
from coordinator.protocol import ERROR_SHAPE

__all__ = [
    "BackendStats",
    "DrbgStats",
    "LookupStats",
    "MessageStats",
    "SupervisorStats",
    "WorkerStats",
]

MAX_REASONS: Final = 33
MAX_SERVER_NAMES: Final = 32
"""Counted each for itself; certificates may have thousands, and each name is a series."""
OTHER: Final = "other"
MAX_WORD_CHARS: Final = 64
MAX_NAME_CHARS: Final = 255
MAX_BACKENDS: Final = 256
MAX_BACKEND_CHARS: Final = 300
_MAX_COUNT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DrbgStats:
    """A worker's CTR_DRBG.

    :ivar seeded_from: ``coordinator`` (and the local kernel) or ``local`` alone.
    :ivar local_reason: why ``local``.
    :ivar last_reseed_age: seconds; None before the first seed.
    :ivar last_reseed_reason: ``instantiate``, ``requests``, ``interval``, ``order``,
        ``coordinator``, ``continued``, ``suspended`` or ``fork``.
    :ivar failed: nothing comes out of it any more.
    """

    requests: int = 0
    reseeds: int = 0
    requests_since_reseed: int = 0
    seeded_from: str | None = None
    local_reason: str | None = None
    last_reseed_age: float | None = None
    last_reseed_reason: str | None = None
    failed: bool = False

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
            local_reason=_word(body, "local_reason"),
            last_reseed_age=_seconds(body, "last_reseed_age"),
            last_reseed_reason=_word(body, "last_reseed_reason"),
            failed=_flag(body, "failed"),
        )


@dataclass(frozen=True, slots=True)
class MessageStats:
    """What became of a worker's messages on one endpoint, besides those that did their work.

    :ivar undeliverable: not sent, as the queue to the coordinator was full.
    :ivar malformed: received, and not understood.
    :ivar refused: errors that the coordinator answered with.
    """

    undeliverable: int = 0
    malformed: int = 0
    refused: int = 0

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> MessageStats:
        """From a heartbeat.

        :raises MessageError: a value is of the wrong kind.
        """
        return cls(
            undeliverable=_count(body, "undeliverable"),
            malformed=_count(body, "malformed"),
            refused=_count(body, "refused"),
        )


@dataclass(frozen=True, slots=True)
class LookupStats:
    """Lookups of sessions.

    :ivar misses: those without a session, by reason, the coordinator's and the worker's own.
    """

    hits: int = 0
    misses: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> LookupStats:
        """From a heartbeat.

        :raises MessageError: a value is of the wrong kind.
        """
        return cls(_count(body, "hits"), _reasons(optional_map(body, "misses")))

    def plus(self, other: LookupStats) -> LookupStats:
        """Both together."""
        reasons = [*self.misses, *(r for r in other.misses if r not in self.misses)]
        misses = {r: self.misses.get(r, 0) + other.misses.get(r, 0) for r in reasons}
        return LookupStats(self.hits + other.hits, misses)


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

    :ivar server_names: the lookups again, by server name; those of too many names as "other".
    :ivar lookups_late: answers that came after the deadline.
    :ivar puts_sent: sessions sent to the coordinator.
    :ivar puts_dropped: sessions that were too large, or did not fit while the breaker was open.
    :ivar breaker: ``closed`` or ``open``.
    :ivar breaker_opened: how often it opened.
    :ivar sessions_messages: of the readers.
    :ivar control_messages: of the link.
    :ivar ended: connections, by the reason why they ended.
    :ivar ticket_serial: of the change of the ticket keys that it has; None if it seals no tickets.
    :ivar tickets_sealed: under the active key.
    :ivar certificates: when they expire, Unix seconds by name.
    :ivar accept_pauses: how often it stopped accepting for want of descriptors or by its limit.
    """

    connections: int = 0
    full: int = 0
    resumed: int = 0
    failed: int = 0
    lookups: LookupStats = field(default_factory=LookupStats)
    server_names: Mapping[str, LookupStats] = field(default_factory=dict)
    lookups_late: int = 0
    puts_sent: int = 0
    puts_dropped: int = 0
    breaker: str | None = None
    breaker_opened: int = 0
    sessions_messages: MessageStats = field(default_factory=MessageStats)
    control_messages: MessageStats = field(default_factory=MessageStats)
    received_bytes: int | None = None
    sent_bytes: int | None = None
    ended: Mapping[str, int] = field(default_factory=dict)
    handler_errors: int = 0
    accept_pauses: int = 0
    ticket_serial: int | None = None
    tickets_sealed: int = 0
    certificates: Mapping[str, int] = field(default_factory=dict)
    backends: Mapping[str, BackendStats] = field(default_factory=dict)
    drbg: DrbgStats = field(default_factory=DrbgStats)

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> WorkerStats:
        """From a heartbeat.

        :raises MessageError: a value is of the wrong kind.
        """
        handshakes = optional_map(body, "handshakes")
        lookups = optional_map(body, "lookups")
        puts = optional_map(body, "puts")
        messages = optional_map(body, "messages")
        transferred = optional_map(body, "bytes")
        tickets = optional_map(body, "ticket_keys")
        return cls(
            connections=_count(body, "connections"),
            full=_count(handshakes, "full"),
            resumed=_count(handshakes, "resumed"),
            failed=_count(handshakes, "failed"),
            lookups=LookupStats.read(lookups),
            server_names=_server_names(optional_map(lookups, "server_names")),
            lookups_late=_count(lookups, "late"),
            puts_sent=_count(puts, "sent"),
            puts_dropped=_count(puts, "dropped"),
            breaker=_word(body, "breaker"),
            breaker_opened=_count(body, "breaker_opened"),
            sessions_messages=MessageStats.read(optional_map(messages, "sessions")),
            control_messages=MessageStats.read(optional_map(messages, "control")),
            received_bytes=_count(transferred, "received") if transferred else None,
            sent_bytes=_count(transferred, "sent") if transferred else None,
            ended=_reasons(optional_map(body, "ended")),
            handler_errors=_count(body, "handler_errors"),
            accept_pauses=_count(body, "accept_pauses"),
            ticket_serial=_count(tickets, "serial") if tickets else None,
            tickets_sealed=_count(tickets, "sealed"),
            certificates=_by_name(optional_map(body, "certificates")),
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


def _flag(body: Mapping[str, Any], key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise MessageError(ERROR_SHAPE, f"{key} is true or false")
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


def _server_names(lookups: Mapping[str, Any]) -> dict[str, LookupStats]:
    """Workers name what they name first always first, so that a name is not counted elsewhere
    later.
    """
    kept: dict[str, LookupStats] = {}
    for name in lookups:
        if not isinstance(name, str) or len(name) > MAX_TEXT_CHARS or not name.isprintable():
            raise MessageError(ERROR_SHAPE, "a server name is a short printable string")
        stats = LookupStats.read(optional_map(lookups, name))
        key = name if name in kept or len(kept) < MAX_SERVER_NAMES else OTHER
        kept[key] = kept.get(key, LookupStats()).plus(stats)
    return kept


def _by_name(expiries: Mapping[str, Any]) -> dict[str, int]:
    if len(expiries) > MAX_REASONS:
        raise MessageError(ERROR_SHAPE, f"at most {MAX_REASONS} certificates")
    for name in expiries:
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise MessageError(ERROR_SHAPE, "a certificate's name is a DNS name")
    return {name: _count(expiries, name) for name in expiries}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_WORD_CHARS and value.isprintable()
