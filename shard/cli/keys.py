"""``shardtls keys``: the CURVE keys with which the parts of a deployment know each other."""

from __future__ import annotations

from pathlib import Path

import click

from shard import curve_keys

__all__ = ["keys"]


@click.group()
def keys() -> None:
    """CURVE keys of a deployment over several containers or hosts."""


@keys.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make the keys of a deployment in DIR, all mode 0600.

    \b
    coordinator.key, allow.toml                    for the coordinator
    coordinator.pub, worker.key, supervisor.key    for every host of workers
    coordinator.pub, admin.key                     for commands (--coordinator, --key-dir)
    """
    try:
        made = curve_keys.init(folder)
    except FileExistsError as error:
        raise click.UsageError(
            f"{error} exists: keys are not replaced, as whoever has the old ones would be locked "
            "out; choose another directory, or delete it first"
        ) from None
    for file in made:
        click.echo(file)
