"""What a worker reports of its readers with each heartbeat: their counters, added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from shard._engine import TicketKeysStatus
from shard.breaker import Breaker
from shard.lookup_counts import NO_NAME, merged
from shard.reader import Reader
from shard.worker_settings import HostSettings

__all__ = ["expiries", "readers_report", "with_tickets"]

MAX_EXPIRIES: Final = 32
"""Certificates whose expiry is reported."""


def readers_report(readers: Sequence[Reader], control: Mapping[str, int]) -> dict[str, Any]:
    """Counters since the worker's start, as :class:`coordinator.stats.WorkerStats` reads them. Any
    thread.

    :param control: what became of messages on the *control* endpoint.
    """
    servings = [reader.serving for reader in readers]
    channels = [reader.channel for reader in readers]
    resumptions = [channel.resumption for channel in channels]
    acceptors = [reader.acceptor for reader in readers]
    all_closed = all(one.breaker is Breaker.CLOSED for one in resumptions)
    return {
        "connections": sum(len(one.connections) for one in servings),
        "handshakes": {
            "full": sum(one.full for one in servings),
            "resumed": sum(one.resumed for one in servings),
            "failed": sum(one.failed_handshakes for one in servings),
        },
        "lookups": {
            **merged(one.counts for one in resumptions),
            "late": sum(one.late for one in resumptions),
        },
        "puts": {
            "sent": sum(one.puts.sent for one in resumptions),
            "dropped": sum(one.puts.dropped for one in resumptions),
        },
        "breaker": "closed" if all_closed else "open",
        "breaker_opened": sum(one.opened for one in resumptions),
        "messages": {
            "sessions": {
                "undeliverable": sum(one.undeliverable for one in channels),
                "malformed": sum(one.malformed for one in resumptions),
                "refused": sum(one.refused for one in resumptions),
            },
            "control": dict(control),
        },
        "ended": _added(one.ended for one in servings),
        "handler_errors": sum(one.handler_errors for one in servings),
        "accept_pauses": sum(one.exhausted + one.limited for one in acceptors),
    }


def with_tickets(
    lookups: Mapping[str, Any], opened: TicketKeysStatus, *, struck: bool
) -> dict[str, Any]:
    """The counts of lookups with those of sealed tickets, which need none. The engine opens these
    and counts them without a server name.

    :param struck: each ticket that was opened is counted as a lookup already.
    """
    hits = 0 if struck else opened.opened
    names = dict(lookups["server_names"])
    unnamed = names.get(NO_NAME, {"hits": 0, "misses": {}})
    names[NO_NAME] = {
        "hits": unnamed["hits"] + hits,
        "misses": _added((unnamed["misses"], dict(opened.missed))),
    }
    return {
        **lookups,
        "hits": lookups["hits"] + hits,
        "misses": _added((lookups["misses"], dict(opened.missed))),
        "server_names": names,
    }


def expiries(hosts: Sequence[HostSettings]) -> dict[str, int]:
    """When certificates expire, Unix seconds by the first name; the soonest, if there are many."""
    found: dict[str, int] = {}
    for host in sorted(hosts, key=lambda host: host.not_after):
        if len(found) < MAX_EXPIRIES:
            found.setdefault(next(iter(host.names), "unnamed"), int(host.not_after))
    return found


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        # Copied in one step: its reader may add a reason meanwhile.
        for reason, count in list(one.items()):
            total[reason] = total.get(reason, 0) + count
    return total
