"""``shardtls status``: the status object, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from shard.cli.connecting import Target, connected, target_options

__all__ = ["WITHIN", "render", "span", "status", "table"]

WITHIN: Final = 5.0
"""Seconds."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole object, as /status.json has it.")
@target_options
def status(as_json: bool, target: Target) -> None:
    """Show the workers, the sessions and the entropy of a running server."""
    with connected(target) as client:
        shown = client.request("status", {}, WITHIN)["status"]
    click.echo(json.dumps(shown, indent=2) if as_json else render(shown))


def render(shown: Mapping[str, Any]) -> str:
    """A status object as a few lines of text."""
    coordinator = shown["coordinator"]
    name = shown.get("deployment")
    title = f"shardtls {shown['version']}" + (f" ({name})" if name else "")
    uptime = span(coordinator.get("uptime_seconds", 0))
    lines = [
        f"{title}, coordinator pid {coordinator['pid']}, up {uptime}",
        "",
        *table(
            ("WORKER", "PID", "STATE", "CONNECTIONS", "FULL", "RESUMED", "FAILED", "DRBG SEED"),
            [_worker_row(worker) for worker in sorted(shown["workers"], key=_slot)],
        ),
        "",
        *_lookups(shown["workers"]),
        *_backends(shown["workers"]),
        _sessions(coordinator["sessions"]),
        *_ticket_keys(coordinator["ticket_keys"]),
        _entropy(coordinator["entropy"]),
    ]
    return "\n".join(lines)


def _worker_row(worker: Mapping[str, Any]) -> tuple[str, ...]:
    handshakes = worker["handshakes"]
    counts = (worker["connections"], *(handshakes.get(k, 0) for k in ("full", "resumed", "failed")))
    seeded = str(worker.get("drbg", {}).get("seeded_from") or "-")
    return (worker["id"], str(worker["pid"]), worker["state"], *map(str, counts), seeded)


def _backends(workers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The proxy's backends, over all workers; nothing without a proxy."""
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for worker in workers:
        for name, backend in worker.get("backends", {}).items():
            seen.setdefault(name, []).append(backend)
    if not seen:
        return []
    rows = [
        (
            name,
            f"{sum(backend['up'] for backend in views)} of {len(views)} workers",
            *(str(sum(backend[key] for backend in views)) for key in ("connections", "failures")),
        )
        for name, views in seen.items()
    ]
    return [*table(("BACKEND", "UP", "CONNECTIONS", "FAILURES"), rows), ""]


def _slot(worker: Mapping[str, Any]) -> tuple[str, int, str]:
    return str(worker.get("group")), int(worker.get("slot") or 0), str(worker["id"])


def _lookups(workers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Who came back with a session, by worker and server name; nothing if nobody did."""
    rows = [
        (
            worker["id"],
            name,
            str(lookups["hits"]),
            str(sum(lookups["misses"].values())),
            _reasons(lookups["misses"]) or "-",
        )
        for worker in sorted(workers, key=_slot)
        for name, lookups in worker["lookups"].get("server_names", {}).items()
    ]
    if not rows:
        return []
    return [*table(("WORKER", "SERVER NAME", "HITS", "MISSES", "WHY"), rows), ""]


def _reasons(misses: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in misses.items() if count)


def _sessions(sessions: Mapping[str, Any]) -> str:
    misses = sessions["misses"]
    reasons = _reasons(misses)
    text = (
        f"sessions  {sessions['entries']} in {_size(sessions['bytes'])}, {sessions['hits']} hits, "
        f"{sum(misses.values())} misses"
    )
    return f"{text} ({reasons})" if reasons else text


def _ticket_keys(ring: Mapping[str, Any]) -> list[str]:
    keys = ring["keys"]
    if not keys:
        return []
    shown = ", ".join(
        f"{key['name']} {key['state']} ({span(key['age_seconds'])} old)" for key in keys
    )
    late = "".join(
        f", {key['name']} acknowledged by {key['acknowledged']} of {key['workers']} workers"
        for key in keys
        if key["acknowledged"] < key["workers"]
    )
    return [f"keys      {shown}{late}"]


def _entropy(entropy: Mapping[str, Any]) -> str:
    sources = ", ".join(_source(source) for source in entropy.get("sources", ()))
    available, required = entropy.get("available_bits"), entropy.get("required_bits")
    return (
        f"entropy   {available} of {required} bits, {entropy.get('seeds', 0)} seeds given, "
        f"{entropy.get('refusals', 0)} refused{f' ({sources})' if sources else ''}"
    )


def _source(source: Mapping[str, Any]) -> str:
    reason = f": {source['reason']}" if source.get("reason") else ""
    return f"{source['name']} {source['state']}{reason}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under a head, in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]


def _size(count: int) -> str:
    for unit, scale in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def span(seconds: float) -> str:
    """Seconds as people read them."""
    for unit, scale in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / scale:.1f} {unit}"
    return f"{seconds:.0f} s"
