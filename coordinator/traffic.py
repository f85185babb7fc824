"""Counts of what comes over the wire. Written by the broker's thread, and read there for the
status.
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
    :ivar defects: exceptions that the broker contained; each is a bug and was logged.
    """

    sessions_address: str = ""
    control_address: str = ""
    sessions: int = 0
    control: int = 0
    puts: int = 0
    lookups: int = 0
    errors: Counter[str] = field(default_factory=Counter)
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
                "defects": self.defects,
            },
        }
