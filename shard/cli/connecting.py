"""How commands find the server that they act on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import zmq

from coordinator.client import ControlClient
from coordinator.errors import SettingsError, SettingsProblem, ShardError
from shard.curve_keys import load_client
from shard.runtime_dir import default_path, find_server
from shard.settings.sources import variable

__all__ = ["NoServerError", "Target", "connected", "target_options"]

F = TypeVar("F", bound=Callable[..., Any])


class NoServerError(ShardError):
    """No server runs where the command looked for one."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is, as far as the user said."""

    runtime_dir: Path | None
    coordinator: str | None
    key_dir: Path | None


def target_options(function: F) -> F:
    """``--runtime-dir``, ``--coordinator`` and ``--key-dir``; the command gets a `target`."""
    folder = click.Path(path_type=Path)

    def wrapped(
        runtime_dir: Path | None, coordinator: str | None, key_dir: Path | None, **rest: Any
    ) -> Any:
        return function(target=Target(runtime_dir, coordinator, key_dir), **rest)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    wrapped.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Any = wrapped
    for option in (
        click.option(
            "--key-dir",
            type=folder,
            envvar=variable("coordinator.key_dir"),
            metavar="DIR",
            help="CURVE keys (coordinator.pub, admin.key), for a tcp:// endpoint.",
        ),
        click.option(
            "--coordinator",
            metavar="ENDPOINT",
            help="Its control endpoint; instead of --runtime-dir.",
        ),
        click.option(
            "--runtime-dir",
            type=folder,
            envvar=variable("server.runtime_dir"),
            metavar="DIR",
            help="Of the server; default $XDG_RUNTIME_DIR/shardtls or /tmp/shardtls-UID.",
        ),
    ):
        decorated = option(decorated)
    result: F = decorated
    return result


@contextmanager
def connected(target: Target) -> Iterator[ControlClient]:
    """A client of the server's coordinator.

    :raises NoServerError: none runs there.
    :raises SettingsError: the endpoint or the keys are wrong.
    """
    endpoint, key_dir = target.coordinator, target.key_dir
    if endpoint is None:
        runtime_dir = target.runtime_dir or default_path(os.environ)
        server = find_server(runtime_dir)
        if server is None:
            raise NoServerError(
                f"no server runs in {runtime_dir}: start one with `shardtls up`, or name another "
                "with --runtime-dir or --coordinator"
            )
        endpoint = server.control
        if key_dir is None and server.key_dir is not None:
            key_dir = Path(server.key_dir)
    curve = None
    if endpoint.startswith("tcp://"):
        if key_dir is None:
            remedy = "name the directory with coordinator.pub and admin.key"
            raise SettingsError([SettingsProblem("--key-dir", f"{endpoint} needs CURVE: {remedy}")])
        curve = load_client(key_dir, "admin", "--key-dir")
    try:
        client = ControlClient(endpoint, curve)
    except zmq.ZMQError:
        message = f"{endpoint!r} is not an endpoint: expected ipc:///path or tcp://HOST:PORT"
        raise SettingsError([SettingsProblem("--coordinator", message)]) from None
    with client:
        yield client
