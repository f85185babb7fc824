"""Which backends a client is for, by the name that it asks for (SNI)."""

from __future__ import annotations

from collections.abc import Iterable

from shard.proxying.pool import Pool

__all__ = ["Routes"]


class Routes:
    """Immutable. An exact name comes before a wildcard, which stands for one label."""

    __slots__ = ("_by_name", "_fallback")

    def __init__(self, fallback: Pool, named: Iterable[tuple[str, Pool]] = ()) -> None:
        """
        :param fallback: for clients that name nothing, or nothing that is known.
        :param named: names in lower case, such as ``a.example.org`` or ``*.example.org``.
        """
        self._fallback = fallback
        self._by_name = dict(named)

    def find(self, server_name: str | None) -> Pool:
        """The backends for a client."""
        by_name = self._by_name
        if not by_name or server_name is None:
            return self._fallback
        name = server_name.lower()
        parent = name.partition(".")[2]
        return by_name.get(name) or by_name.get(f"*.{parent}") or self._fallback
