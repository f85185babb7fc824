"""Commands that change a running server."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

import click

from coordinator.errors import CommandRefusedError
from coordinator.protocol import ERROR_ABSENT
from shard.cli.connecting import Target, connected, target_options
from shard.settings.values import parse_duration

__all__ = ["drain", "purge", "reload", "rotate", "scale"]

HASH_BYTES: Final = 32
MARGIN: Final = 2.0
"""Seconds by which the command outwaits the coordinator, whose answer says more."""
REGISTERED_WITHIN: Final = 5.0
"""Seconds that whoever has to carry an order out may take to register, as after a start."""
_ASK_AGAIN: Final = 0.2

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
    if not drbg:
        click.echo(f"ticket key {reply.get('epoch', '')} seals on {_workers(reply)}")
        return
    acks = list(reply.get("acks", {"the only one": reply}).values())
    local = sum(ack.get("seeded_from") == "local" for ack in acks)
    text = "1 worker has reseeded" if len(acks) == 1 else f"{len(acks)} workers have reseeded"
    click.echo(f"{text}, {local} on local randomness alone" if local else text)


def _hash(_: click.Context, __: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        converted = bytes.fromhex(value.replace(":", ""))
    except ValueError:
        converted = b""
    if len(converted) != HASH_BYTES:
        raise click.BadParameter("expected 64 hexadecimal digits, with or without colons")
    return converted


def _duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    try:
        seconds = None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds == 0:
        raise click.BadParameter("expected more than 0 s; without it, sessions of any age go")
    return seconds


@click.command()
@click.argument("what", type=click.Choice(["all"]), required=False)
@click.option("--scope", callback=_hash, metavar="HEX", help="Of this scope; the status has them.")
@click.option("--server-name", metavar="NAME", help="Whose client asked for this name.")
@click.option(
    "--certificate",
    callback=_hash,
    metavar="FINGERPRINT",
    help="Made under the certificate with this SHA-256.",
)
@click.option("--client", metavar="IDENTITY", help="Whose client showed this identity.")
@click.option("--worker", metavar="ID", help="Issued by this worker.")
@click.option(
    "--older-than", callback=_duration, metavar="DURATION", help="Issued so long ago or earlier."
)
@_timeout_option
@target_options
def purge(what: str | None, timeout: float, target: Target, **conditions: Any) -> None:
    """Forget sessions: their clients make a full handshake next time.

    Either all of them, or those for which every condition is true.
    """
    body = {name: value for name, value in conditions.items() if value is not None}
    if (what is None) == (not body):
        raise click.UsageError("say `all`, or which: see --help for the conditions")
    reply = _order(target, "purge", body or {"all": True}, timeout)
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
    patient_until = time.monotonic() + min(REGISTERED_WITHIN, timeout)
    with connected(target) as client:
        while True:
            try:
                return client.request(type_, {**body, "timeout": timeout}, timeout + MARGIN)
            except CommandRefusedError as error:
                if error.code != ERROR_ABSENT or time.monotonic() >= patient_until:
                    raise
            time.sleep(_ASK_AGAIN)
