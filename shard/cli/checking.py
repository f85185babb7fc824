"""``shardtls check``: everything that a start would refuse, without starting."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import click

from shard.plan import Role, prepare
from shard.runtime_dir import default_path
from shard.settings import load

__all__ = ["check"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "role",
    type=click.Choice(["up", "coordinator", "worker"]),
    default="up",
    show_default=True,
    help="The command that will read the file.",
)
def check(file: Path, role: str) -> None:
    """Check the settings in FILE and every file that they name.

    Shows all errors, each with its path and remedy. Variables (SHARDTLS_*) count as they do at a
    start. Exit code 0 or 2.
    """
    settings = load(config=file, environ=os.environ)
    runtime_dir = settings.server.runtime_dir or default_path(os.environ)
    plan = prepare(settings, cast(Role, role), runtime_dir)
    for warning in plan.warnings:
        click.echo(f"shardtls: warning: {warning}", err=True)
    click.echo(f"{file}: good")
