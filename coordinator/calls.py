"""A request on the *control* endpoint, and what is sent because of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.permissions import Peer
from coordinator.protocol import encode_reply
from coordinator.registry import Member

__all__ = ["Call", "Outgoing", "identity"]

Outgoing = tuple[bytes, bytes]
"""A routing id, and the frame for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request with what is known of it; `now` is the broker's clock, `wall` Unix time."""

    routing: bytes
    peer: Peer
    request: int
    body: dict[str, Any]
    now: float
    wall: float

    def reply(self, body: Mapping[str, Any]) -> Outgoing:
        """The answer to it."""
        return self.routing, encode_reply(self.request, body)


def identity(member: Member) -> dict[str, Any]:
    """A member, for the log."""
    about = member.registration
    return {
        "role": str(about.role),
        "id": about.id,
        "pid": about.pid,
        "host": about.host,
        "state": str(member.state),
    }
