"""How the lookups of one reader went, by server name and reason.

Bounded: names are those of the configured certificates, never what a client asks for, and reasons
that are too many are counted as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["NO_NAME", "LookupCounts", "merged"]

NO_NAME: Final = "-"
"""A certificate without DNS names."""

_REASONS: Final = 32
"""Distinct miss reasons counted by name; a coordinator that sends more is counted as "other"."""


class LookupCounts:
    """Reader thread only; may be read anywhere.

    :ivar hits: lookups answered with a session.
    :ivar misses: lookups without one, by reason.
    """

    __slots__ = ("hits", "misses")

    def __init__(self) -> None:
        self.hits = 0
        self.misses: dict[str, int] = {}

    def missed(self, reason: str) -> None:
        """Count a lookup without a session."""
        misses = self.misses
        if reason not in misses and len(misses) >= _REASONS:
            reason = "other"
        misses[reason] = misses.get(reason, 0) + 1


def merged(readers: Iterable[Mapping[str, LookupCounts]]) -> dict[str, Any]:
    """The counts of several readers, by server name, as a heartbeat has them; any thread."""
    hits = 0
    misses: dict[str, int] = {}
    names: dict[str, dict[str, Any]] = {}
    for counts_by_name in readers:
        for name, counts in list(counts_by_name.items()):
            own = names.setdefault(name, {"hits": 0, "misses": {}})
            hits += counts.hits
            own["hits"] += counts.hits
            for reason, count in list(counts.misses.items()):
                misses[reason] = misses.get(reason, 0) + count
                own["misses"][reason] = own["misses"].get(reason, 0) + count
    return {"hits": hits, "misses": misses, "server_names": names}
