"""The status object: what ``/status.json``, the status page, ``/metrics`` and ``shardtls status``
show. Pure; plain values only, so that it is JSON and msgpack alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from coordinator.lookups import SessionDesk
from coordinator.purging import PurgeDesk
from coordinator.registry import Member, MemberState, Registry
from coordinator.stats import LookupStats

__all__ = ["Process", "not_ready_reason", "server_view", "sessions_view", "worker_view"]


@dataclass(frozen=True, slots=True)
class Process:
    """What is known of the coordinator itself.

    :ivar started: Unix time in seconds.
    :ivar boot: new at every start.
    """

    pid: int
    started: float
    boot: str
    version: str
    deployment: str


def sessions_view(desk: SessionDesk, purges: PurgeDesk) -> dict[str, Any]:
    """The session cache and the lookups that wait for it."""
    cache, parking = desk.cache, desk.parking
    return {
        "entries": len(cache),
        "bytes": cache.bytes_charged,
        "max_entries": cache.max_entries,
        "max_bytes": cache.max_bytes,
        "ttl_seconds": cache.ttl,
        "hits": cache.hits,
        "misses": {str(reason): count for reason, count in cache.misses.items()},
        "stored": cache.stored,
        "refused": cache.refused,
        "evicted": cache.evicted,
        "expired": cache.expired,
        "purged": cache.purged,
        "parked": parking.parked,
        "parked_now": len(parking),
        "parking_overflows": parking.overflowed,
        "scopes": [
            {"scope": scope.hex(), "certificates": sorted(item.hex() for item in certificates)}
            for scope, certificates in cache.scopes().items()
        ],
        "purges": list(purges.latest),
    }


def worker_view(member: Member, now: float) -> dict[str, Any]:
    """One worker.

    :param now: seconds of the broker's clock.
    """
    about, stats = member.registration, member.worker
    view: dict[str, Any] = {
        "id": about.id,
        "pid": about.pid,
        "host": about.host,
        "group": about.group,
        "slot": about.slot,
        "version": about.version,
        "state": str(member.shown),
        "quarantine": None if member.quarantine is None else member.quarantine.reason,
        "age_seconds": round(now - member.registered_at, 3),
        "silent_seconds": round(now - member.seen_at, 3),
        "connections": stats.connections,
        "handshakes": {"full": stats.full, "resumed": stats.resumed, "failed": stats.failed},
        "lookups": {
            **_lookups_view(stats.lookups),
            "server_names": {
                name: _lookups_view(lookups) for name, lookups in stats.server_names.items()
            },
            "late": stats.lookups_late,
        },
        "puts": {"sent": stats.puts_sent, "dropped": stats.puts_dropped},
        "breaker": stats.breaker,
        "breaker_opened": stats.breaker_opened,
        "messages": {
            "sessions": asdict(stats.sessions_messages),
            "control": asdict(stats.control_messages),
        },
        "ended": dict(stats.ended),
        "handler_errors": stats.handler_errors,
        "accept_pauses": stats.accept_pauses,
        "certificates": dict(stats.certificates),
        "drbg": asdict(stats.drbg),
    }
    if stats.backends:
        view["backends"] = {name: asdict(backend) for name, backend in stats.backends.items()}
    if stats.received_bytes is not None:
        view["bytes"] = {"received": stats.received_bytes, "sent": stats.sent_bytes}
    return view


def _lookups_view(lookups: LookupStats) -> dict[str, Any]:
    return {"hits": lookups.hits, "misses": dict(lookups.misses)}


def server_view(registry: Registry, now: float) -> dict[str, Any]:
    """The deployment as a whole, and its supervisors."""
    supervisors = registry.supervisors()
    live = [member for member in supervisors if member.state is not MemberState.LOST]
    states = dict.fromkeys((str(state) for state in MemberState), 0)
    for worker in registry.workers():
        states[str(worker.shown)] += 1
    return {
        "workers": states,
        "workers_wanted": sum(member.supervisor.workers_wanted for member in live),
        "restarts": sum(member.supervisor.restarts for member in supervisors),
        "supervisors": [
            {
                "id": member.id,
                "pid": member.registration.pid,
                "host": member.registration.host,
                "version": member.registration.version,
                "state": str(member.state),
                "silent_seconds": round(now - member.seen_at, 3),
                "workers_wanted": member.supervisor.workers_wanted,
                "restarts": member.supervisor.restarts,
            }
            for member in supervisors
        ],
    }


def not_ready_reason(status: Mapping[str, Any]) -> str | None:
    """Why the deployment cannot serve; None if it can: at least one worker is ready."""
    states = [worker["state"] for worker in status["workers"]]
    if "ready" in states:
        return None
    if not states:
        return "no worker is registered"
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f"no worker is ready: {counts}"
