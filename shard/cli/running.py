"""``shardtls up``, ``coordinator`` and ``worker``: the commands that run until they are told to
stop.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from coordinator import log as logging
from coordinator.errors import StartError
from shard import __version__
from shard.children import Programs
from shard.cli.setting_options import flags_given, setting_options
from shard.plan import Plan, Role, prepare
from shard.runtime_dir import RuntimeDir, default_path
from shard.self_signed import self_signed_identity
from shard.settings import load
from shard.supervisor import Announcement, Supervisor

__all__ = ["coordinator", "run", "up", "worker"]

_log = logging.get_logger("supervisor")

_config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="TOML file with settings; flags and variables outrank it.  [SHARDTLS_CONFIG]",
)
_RUNTIME_DIR = "server.runtime_dir"


@click.command()
@_config_option
@setting_options(
    "server",
    "certificate",
    "tls",
    "sessions",
    "ticket_keys",
    "asgi",
    "proxy",
    "drbg",
    "coordinator",
    "entropy",
    "admin",
    "log",
)
def up(config: Path | None, **parameters: Any) -> None:
    """Run a coordinator and workers on this machine.

    \b
    Signals: HUP reload, TERM drain then stop, INT or QUIT stop, TTIN/TTOU one worker more/less,
    USR1 reopen the logs.
    """
    run("up", config, flags_given(parameters))


@click.command()
@_config_option
@setting_options(
    "sessions", "ticket_keys", "coordinator", "entropy", "admin", "log", also=(_RUNTIME_DIR,)
)
def coordinator(config: Path | None, **parameters: Any) -> None:
    """Run the coordinator alone, for workers in other containers or on other hosts."""
    run("coordinator", config, flags_given(parameters))


@click.command()
@_config_option
@setting_options(
    "server",
    "certificate",
    "tls",
    "sessions",
    "ticket_keys",
    "asgi",
    "proxy",
    "drbg",
    "coordinator",
    "log",
)
def worker(config: Path | None, **parameters: Any) -> None:
    """Run workers alone; their coordinator is named by its two endpoints."""
    run("worker", config, flags_given(parameters))


def run(
    role: Role,
    config: Path | None,
    flags: Mapping[str, Any],
    programs: Programs | None = None,
) -> None:
    """Run a supervisor, and exit with its code.

    :param programs: what to start as children.
    :raises SettingsError: settings were refused.
    :raises StartError: it could not start.
    """
    plan, runtime_dir = _read(role, config, flags)
    log = plan.settings.log
    try:
        logging.configure(log.level, log.format, plan.log_file, "supervisor")
    except OSError as error:
        raise StartError(f"cannot write to the log file {plan.log_file}: {error}") from None
    runtime = RuntimeDir.acquire(runtime_dir)
    for warning in plan.warnings:
        _log.warning("certificate or key", problem=warning)
    try:
        supervisor = Supervisor(
            _complete(plan, runtime),
            runtime,
            reload=lambda: _complete(_read(role, config, flags)[0], runtime),
            announce=_announce,
            programs=programs,
        )
        code = supervisor.run()
    finally:
        runtime.release()
    sys.exit(code)


def _read(role: Role, config: Path | None, flags: Mapping[str, Any]) -> tuple[Plan, Path]:
    settings = load(config=config, environ=os.environ, flags=flags)
    runtime_dir = settings.server.runtime_dir or default_path(os.environ)
    return prepare(settings, role, runtime_dir), runtime_dir


def _complete(plan: Plan, runtime: RuntimeDir) -> Plan:
    if plan.role != "coordinator" and plan.settings.tls.self_signed:
        return plan.with_identity(self_signed_identity(runtime.path))
    return plan


def _announce(about: Announcement) -> None:
    lines = [f"shardtls {__version__} is ready"]
    if about.workers:
        noun = "worker" if about.workers == 1 else "workers"
        lines[0] += f": {about.workers} {noun}"
    scheme = "tls" if about.app == "echo" else "https"
    lines += [f"  serving  {scheme}://{address}" for address in about.bound]
    if about.admin:
        lines.append(f"  status   {about.admin}")
    lines.append(f"  stop     Ctrl-C, or: kill -TERM {os.getpid()}")
    # Whoever started us may have stopped reading; that is no reason to stop serving.
    with contextlib.suppress(OSError):
        click.echo("\n".join(lines))
        sys.stdout.flush()
