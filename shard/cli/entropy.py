"""``shardtls entropy``: the noise sources, and who got which seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import click

from coordinator.protocol import MAX_LEDGER_LINES
from shard.cli.connecting import Target, connected, target_options
from shard.cli.status import WITHIN, span, table

__all__ = ["entropy", "render"]

LIMIT: Final = 20

_SOURCE_HEAD: Final = (
    "SOURCE",
    "STATE",
    "CLAIM",
    "SAMPLES",
    "BITS",
    "ALARMS",
    "FAILURES",
    "LAST FAILURE",
    "REASON",
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole object.")
@click.option(
    "--limit",
    type=click.IntRange(0, MAX_LEDGER_LINES),
    default=LIMIT,
    show_default=True,
    metavar="N",
    help="How many lines of the ledger, the latest last.",
)
@target_options
def entropy(as_json: bool, limit: int, target: Target) -> None:
    """Show the noise sources of a running server, and the ledger of its seeds."""
    with connected(target) as client:
        shown = client.request("entropy", {"limit": limit}, WITHIN)["entropy"]
    click.echo(json.dumps(shown, indent=2) if as_json else render(shown))


def render(shown: Mapping[str, Any]) -> str:
    """The coordinator's answer as text."""
    head = (
        f"{shown['available_bits']} of {shown['required_bits']} bits since the last seed, "
        f"{shown['seeds']} seeds given, {shown['refusals']} refused, "
        f"{shown['canary_repeats']} first outputs repeated"
    )
    lines = [
        head,
        "",
        *table(
            _SOURCE_HEAD,
            [_source_row(source) for source in shown["sources"]],
        ),
        "",
        *table(
            ("SEED", "WHEN", "FOR", "PURPOSE", "BITS BY SOURCE"),
            [_ledger_row(line) for line in shown["ledger"]],
        ),
    ]
    length = shown["ledger_length"]
    hidden = length - len(shown["ledger"])
    if hidden > 0:
        lines.append(f"{hidden} earlier ones: --limit {length}")
    return "\n".join(lines)


def _source_row(source: Mapping[str, Any]) -> tuple[str, ...]:
    age = source["last_failure_age"]
    counts = (source[key] for key in ("bytes", "credited_bits", "alarms", "failures"))
    return (
        source["name"],
        source["state"],
        f"{source['claim_bits_per_byte']:.2g}",
        *map(str, counts),
        "-" if age is None else f"{span(age)} ago",
        source["reason"] or "-",
    )


def _ledger_row(line: Mapping[str, Any]) -> tuple[str, ...]:
    when = datetime.fromtimestamp(line["when"]).astimezone()
    return (
        str(line["number"]),
        when.isoformat(sep=" ", timespec="seconds"),
        line["requester"],
        line["purpose"],
        ", ".join(f"{name} {bits:g}" for name, bits in line["sources"].items()),
    )
