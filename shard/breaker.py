"""The circuit breaker of a reader's lookups (:mod:`shard.resumption`)."""

from __future__ import annotations

from enum import Enum

__all__ = ["Breaker"]


class Breaker(Enum):
    """State of the circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """A probe is under way; everyone else is a miss."""
