"""``shardtls top``: the status again and again, with rates."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final

import click

from coordinator.errors import CoordinatorUnavailableError
from shard.cli.connecting import Target, connected, target_options
from shard.cli.status import render

__all__ = ["rates", "top"]

WITHIN: Final = 2.0
"""Seconds for one answer."""
CLEAR: Final = "\x1b[H\x1b[2J"
"""Cursor to the first cell, then erase the display (ECMA-48)."""


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option(
    "--count",
    "looks",
    type=click.IntRange(min=1),
    metavar="N",
    help="End after N looks; default: with Ctrl-C.",
)
@target_options
def top(interval: float, looks: int | None, target: Target) -> None:
    """Watch a running server: its status every few seconds, and how much happens in between."""
    before: Mapping[str, Any] | None = None
    with connected(target) as client:
        for number in range(looks) if looks is not None else count():
            if number:
                time.sleep(interval)
            try:
                shown = client.request("status", {}, WITHIN)["status"]
            except CoordinatorUnavailableError as error:
                if looks is not None:
                    raise
                _show(f"{error}; looking again")
                before = None
                continue
            _show("\n".join([render(shown), *(rates(before, shown) if before else ())]))
            before = shown


def rates(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What happened between two status objects, a second. Pure.

    A worker or a coordinator that is new since then is counted from nothing.
    """
    seconds = after["time"] - before["time"]
    if seconds <= 0:
        return
    past = {worker["id"]: worker["handshakes"] for worker in before["workers"]}
    done = {"full": 0, "resumed": 0, "failed": 0}
    for worker in after["workers"]:
        earlier = past.get(worker["id"], {})
        for kind in done:
            done[kind] += worker["handshakes"].get(kind, 0) - earlier.get(kind, 0)
    old, new = before["coordinator"], after["coordinator"]
    same = old["boot"] == new["boot"]
    hits = new["sessions"]["hits"] - (old["sessions"]["hits"] if same else 0)
    misses = sum(new["sessions"]["misses"].values())
    misses -= sum(old["sessions"]["misses"].values()) if same else 0
    yield (
        "a second  "
        + ", ".join(f"{number / seconds:.1f} {kind}" for kind, number in done.items())
        + f" handshakes; {hits / seconds:.1f} hits, {misses / seconds:.1f} misses"
    )


def _show(text: str) -> None:
    click.echo(CLEAR + text if sys.stdout.isatty() else text + "\n")
