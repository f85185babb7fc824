"""Counts of what comes over the wire. Read by the broker's thread, for the status; each count has
one writer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Traffic"]


@dataclass(slots=True)
class Traffic:
    """Since the coordinator's start.

    :ivar sessions_address: where the *sessions* endpoint is bound.
    :ivar control_address: where the *control* endpoint is bound.
    :ivar sessions: messages to the *sessions* endpoint.
    :ivar control: messages to the *control* endpoint.
    :ivar errors: error replies, by code.
    :ivar connections_refused: by the authenticator, whose thread writes it; all others are the
        broker's.
    :ivar defects: exceptions that the broker contained; each is a bug and was logged.
    """

    sessions_address: str = ""
    control_address: str = ""
    sessions: int = 0
    control: int = 0
    puts: int = 0
    lookups: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    connections_refused: int = 0
    defects: int = 0

    def view(self) -> dict[str, Any]:
        """For the status."""
        return {
            "endpoints": {"sessions": self.sessions_address, "control": self.control_address},
            "messages": {
                "sessions": self.sessions,
                "control": self.control,
                "puts": self.puts,
                "lookups": self.lookups,
                "errors": dict(self.errors),
                "connections_refused": self.connections_refused,
                "defects": self.defects,
            },
        }
