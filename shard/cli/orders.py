"""Commands that change a running server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click

from shard.cli.connecting import Target, connected, target_options

__all__ = ["drain", "purge", "reload", "rotate", "scale"]

MARGIN: Final = 2.0
"""Seconds by which the command outwaits the coordinator, whose answer says more."""

_timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the order may take.",
)


@click.command()
@click.argument("workers", type=click.IntRange(1, 1024), metavar="N")
@click.option("--supervisor", metavar="ID", help="Which one, where several run workers.")
@_timeout_option
@target_options
def scale(workers: int, supervisor: str | None, timeout: float, target: Target) -> None:
    """Run N workers. Those that go finish their connections first."""
    body: dict[str, Any] = {"workers": workers}
    if supervisor is not None:
        body["supervisor"] = supervisor
    _order(target, "scale", body, timeout)
    click.echo(f"{workers} {'worker' if workers == 1 else 'workers'}")


@click.command()
@click.argument("worker")
@_timeout_option
@target_options
def drain(worker: str, timeout: float, target: Target) -> None:
    """Replace WORKER: start its successor, then let it finish its connections and leave."""
    reply = _order(target, "drain", {"worker": worker}, timeout)
    click.echo(f"{worker} drains: {reply.get('detail', '')}".rstrip(": "))


@click.command()
@_timeout_option
@target_options
def reload(timeout: float, target: Target) -> None:
    """Read settings and certificates again, and replace the workers one by one.

    If anything is wrong with them nothing changes.
    """
    reply = _order(target, "reload", {}, timeout)
    click.echo(f"reloaded: {reply.get('detail', '')}".rstrip(": "))


@click.command()
@click.option("--drbg", is_flag=True, help="Reseed the random bit generator of every worker.")
@_timeout_option
@target_options
def rotate(drbg: bool, timeout: float, target: Target) -> None:
    """Renew secrets of the workers: the key that seals their tickets, or with --drbg randomness."""
    reply = _order(target, "rotate", {"drbg": True} if drbg else {}, timeout)
    if drbg:
        click.echo("every worker has reseeded")
    else:
        click.echo(f"ticket key {reply.get('epoch', '')} seals on {_workers(reply)}")


@click.command()
@click.argument("what", type=click.Choice(["all"]))
@_timeout_option
@target_options
def purge(what: str, timeout: float, target: Target) -> None:
    """Forget sessions: their clients make a full handshake next time."""
    reply = _order(target, "purge", {what: True}, timeout)
    count = reply.get("sessions", 0)
    click.echo(f"{count} {'session' if count == 1 else 'sessions'} purged")
    if "tickets_before" in reply:
        # They are with the clients: nobody knows how many there are.
        moment = datetime.fromtimestamp(reply["tickets_before"], UTC)
        refused = f"sealed tickets issued before {moment:%H:%M:%S.%f} UTC are refused by"
        click.echo(f"{refused} {_workers(reply)}")


def _workers(reply: dict[str, Any]) -> str:
    count = reply.get("workers", 0)
    return "1 worker" if count == 1 else f"{count} workers"


def _order(target: Target, type_: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
    with connected(target) as client:
        return client.request(type_, {**body, "timeout": timeout}, timeout + MARGIN)
