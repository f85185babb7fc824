"""Which sessions a purge is for, and which of those still under way it was for. Pure.

Workers hand sessions over some milliseconds after they have issued them, longer if the coordinator
was away. A purge must reach these too, and neither clock nor network tells when they were issued.
So every purge has a *mark*, a number that workers repeat: whoever hands over sessions says which
mark it knew when it issued them. Sessions of an older mark are tried against all purges since.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["Origin", "PurgeFilter", "PurgeHistory", "PurgeRule"]

RULES: Final = 64
"""How many purges are kept for sessions under way. Of a worker that has missed more of them, every
session counts as purged."""

Origin = tuple[bytes, str, bytes | None, int]
"""What many sessions have in common: scope, the worker that issued them, the certificate under
which it did (SHA-256 of its DER), and the number of purges before they were stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeFilter:
    """Which sessions: those for which all that is given is true; with nothing given, all.

    :ivar scope: 32 bytes.
    :ivar server_name: the name that the client asked for, lower case.
    :ivar certificate: SHA-256 of the certificate in DER.
    :ivar client: the client's identity, from its certificate.
    :ivar worker: id of the worker that issued it.
    :ivar older_than: issued so many seconds ago or earlier.
    """

    scope: bytes | None = None
    server_name: str | None = None
    certificate: bytes | None = None
    client: str | None = None
    worker: str | None = None
    older_than: float | None = None

    def view(self) -> dict[str, Any]:
        """For the log and the status: what is given, bytes as hexadecimal digits."""
        return {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in asdict(self).items()
            if value is not None
        }


@dataclass(frozen=True, slots=True)
class PurgeRule:
    """A filter as of the moment of its purge.

    :ivar number: of the purge, counted from 1.
    :ivar issued_until: seconds of the coordinator's clock.
    """

    number: int
    what: PurgeFilter
    issued_until: float

    def covers(
        self, origin: Origin, server_name: str | None, client: str | None, issued: float
    ) -> bool:
        """Whether the purge is for a session with these facts."""
        what = self.what
        return (
            origin[3] < self.number
            and (what.scope is None or what.scope == origin[0])
            and (what.worker is None or what.worker == origin[1])
            and (what.certificate is None or what.certificate == origin[2])
            and (what.server_name is None or what.server_name == server_name)
            and (what.client is None or what.client == client)
            and (what.older_than is None or issued <= self.issued_until)
        )


class PurgeHistory:
    """The purges so far. For the broker's thread only.

    :ivar number: of the latest purge; 0 before the first.
    :ivar mark: what whoever issues a session now should know.
    """

    def __init__(self, first_mark: int = 1) -> None:
        """
        :param first_mark: 1 or more; random, so that marks of an earlier coordinator are not taken
            for this one's.
        """
        self._first_mark = self.mark = first_mark
        self._rules: deque[PurgeRule] = deque(maxlen=RULES)
        self.number = 0

    def begin(self, what: PurgeFilter, now: float) -> PurgeRule:
        """A purge begins; the mark is another one from here on."""
        self.number += 1
        self.mark += 1
        rule = PurgeRule(self.number, what, now - (what.older_than or 0.0))
        self._rules.append(rule)
        return rule

    def known_to(self, mark: int) -> int:
        """The number of the latest purge that somebody with this mark knows of; -1 if it knows of
        none, not even that there was none.
        """
        number = mark - self._first_mark
        return number if 0 <= number <= self.number else -1

    def purged(
        self, origin: Origin, server_name: str | None, client: str | None, issued: float
    ) -> bool:
        """Whether a session under way was purged.

        :param origin: with the number of :meth:`known_to` in its place.
        """
        if max(origin[3], 0) < self.number - len(self._rules):
            return True
        return any(rule.covers(origin, server_name, client, issued) for rule in self._rules)
