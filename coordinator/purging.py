"""Purges that administrators ask for: one after the other, each in short pieces. Pure.

A purge takes effect at once: no lookup finds what it is for. It is acknowledged, with a count, when
two things are done:

* every part of the cache has been gone through, a step in each round of the broker's, so that
  lookups wait for a few milliseconds at most;
* every reader has said that it knows of it, and so has handed over what it had issued before. One
  that does not answer is waited for :data:`READERS_WITHIN`; what it hands over later is refused.

A session that was given to a worker before cannot be called back: its handshake goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from coordinator import bodies
from coordinator.errors import MessageError
from coordinator.log import AUDIT, get_logger
from coordinator.lookups import SessionDesk
from coordinator.protocol import ERROR_REFUSED, FINGERPRINT_BYTES, SCOPE_BYTES
from coordinator.purges import PurgeFilter

__all__ = ["Purge", "PurgeDesk", "read_filter"]

READERS_WITHIN: Final = 0.25
"""Seconds."""
MAX_WAITING: Final = 64
LATEST: Final = 32
"""Purges shown in the status."""
MAX_AGE_SECONDS: Final = 1e9

_KEYS: Final = frozenset(
    {"all", "scope", "server_name", "certificate", "client", "worker", "older_than"}
)
_POLL: Final = 0.005
"""Seconds between two looks at whether readers have answered."""

_audit = get_logger(AUDIT)


@dataclass(frozen=True, slots=True)
class Purge:
    """What somebody asked for.

    :ivar asker: routing id.
    :ivar by: the name of its key, or ``local``.
    :ivar wall: Unix time in seconds.
    :ivar timeout: seconds that workers may take to refuse sealed tickets, where there are any.
    """

    asker: bytes
    request: int
    what: PurgeFilter
    by: str
    wall: float
    timeout: float = 60.0


def read_filter(body: Mapping[str, Any]) -> PurgeFilter:
    """The body of ``purge``.

    Unlike elsewhere an unknown key is refused: ignored, it would purge more than was meant.

    :raises MessageError: a key is unknown or its value wrong.
    """
    unknown = sorted(set(body) - _KEYS - {"timeout"})
    if unknown:
        raise MessageError(ERROR_REFUSED, f"sessions cannot be purged by {unknown[0]!a:.40}")
    older_than = None
    if body.get("older_than") is not None:
        older_than = bodies.seconds(body, "older_than", 0.0, MAX_AGE_SECONDS)
    server_name = bodies.optional_text(body, "server_name")
    what = PurgeFilter(
        scope=bodies.optional_fixed(body, "scope", SCOPE_BYTES),
        server_name=None if server_name is None else server_name.lower(),
        certificate=bodies.optional_fixed(body, "certificate", FINGERPRINT_BYTES),
        client=bodies.optional_text(body, "client"),
        worker=bodies.optional_text(body, "worker"),
        older_than=older_than,
    )
    if "all" in body and (body["all"] is not True or what != PurgeFilter()):
        raise MessageError(ERROR_REFUSED, "all is true, and goes with no other condition")
    return what


class PurgeDesk:
    """For the broker's thread only.

    :ivar due: when :meth:`advance` has something to do, in seconds of the broker's clock; None
        while nothing is to be purged.
    :ivar latest: the latest purges, for the status.
    """

    def __init__(self, sessions: SessionDesk) -> None:
        self._sessions = sessions
        self._waiting: deque[Purge] = deque()
        self._current: Purge | None = None
        self._sweeping = False
        self._before = 0
        self._readers_until = 0.0
        self.due: float | None = None
        self.latest: deque[dict[str, Any]] = deque(maxlen=LATEST)

    def ask(self, purge: Purge) -> None:
        """Let a purge wait for its turn, which comes at once if no other is under way.

        :raises MessageError: too many wait.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise MessageError(ERROR_REFUSED, f"{MAX_WAITING} purges wait already")
        self._waiting.append(purge)
        if self.due is None:
            self.due = 0.0

    def advance(self, now: float) -> list[tuple[Purge, int]]:
        """Begin the next purge, or go on with the one under way by a piece.

        :returns: those that are done, and how many sessions each has purged.
        """
        sessions = self._sessions
        cache = sessions.cache
        if self._current is None:
            if not self._waiting:
                self.due = None
                return []
            self._current = self._waiting.popleft()
            self._sweeping = True
            self._before = cache.purged
            self._readers_until = now + READERS_WITHIN
            cache.begin_purge(self._current.what, now)
            sessions.tell_readers()
        if self._sweeping:
            self._sweeping = cache.purge_step()
        self.due = 0.0
        if self._sweeping:
            return []
        if sessions.readers_behind():
            if now < self._readers_until:
                self.due = now + _POLL
                return []
            sessions.forget_readers_behind()
        done, self._current = self._current, None
        count = cache.purged - self._before
        self._record(done, count)
        return [(done, count)]

    def _record(self, purge: Purge, sessions: int) -> None:
        what = purge.what.view()
        _audit.info(
            "audit: sessions purged", by=purge.by, sessions=sessions, **(what or {"all": 1})
        )
        self.latest.append(
            {"when": round(purge.wall, 3), "by": purge.by, "what": what, "sessions": sessions}
        )
