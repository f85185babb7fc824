"""What tests of sealed tickets share."""

from __future__ import annotations

from typing import Any, Final

from tests.client import Visit, client_context, visit
from tests.server import Server

__all__ = ["VERSIONS", "active", "keys", "missed", "returning", "share"]

VERSIONS: Final = ["TLSv1.3", "TLSv1.2"]


def keys(server: Server) -> list[dict[str, Any]]:
    """The epochs, as the status shows them."""
    found: list[dict[str, Any]] = server.status()["coordinator"]["ticket_keys"]["keys"]
    return found


def active(server: Server) -> str:
    """The beginning of the name of the key that seals."""
    (name,) = (key["name"] for key in keys(server) if key["state"] == "active")
    return str(name)


def missed(server: Server, reason: str) -> int:
    """Tickets refused by all workers, as told by their latest heartbeats."""
    return sum(worker["lookups"]["misses"].get(reason, 0) for worker in server.workers())


def returning(server: Server, version: str, number: int) -> list[Visit]:
    """So many visits, each with the session of the one before."""
    context = client_context(server.certificate, version)
    made = [visit(server.address, context)]
    for _ in range(number):
        made.append(visit(server.address, context, made[-1].session))
    return made[1:]


def share(visits: list[Visit]) -> float:
    """Of visits that resumed, by a ticket, both sides agreeing."""
    for one in visits:
        assert one.resumed == one.facts["resumed"], one
        assert one.facts["resumption"] == ("ticket" if one.resumed else None), one
    return sum(one.resumed for one in visits) / len(visits)
