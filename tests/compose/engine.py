"""The container engine by its command: no more of it than these tests need.

Everything goes through ``docker`` and ``docker-compose`` (or ``docker compose``), as a user's hands
would; containers are found by the labels that Compose gives them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["TOP", "Container", "compose_command", "containers", "missing", "run"]

TOP: Final = Path(__file__).parents[2]
COMMAND_TIMEOUT: Final = 120.0
"""Seconds for one command: longer than any but the making of images."""


def run(
    *command: str,
    timeout: float = COMMAND_TIMEOUT,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command to its end: what it printed.

    :raises AssertionError: it failed; with all that it said.
    """
    done = subprocess.run(
        command,
        cwd=TOP,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, (
        f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def compose_command() -> list[str]:
    """Compose: the program of Debian 12, or the plugin of newer engines."""
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def missing() -> str | None:
    """What to install or start before these tests can run; None if nothing."""
    for program, package in (
        ("docker", "docker.io"),
        ("mmdebstrap", "mmdebstrap"),
        ("nsenter", "util-linux"),
        ("iptables", "iptables"),
    ):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: apt-get install {package})"
    plugin = subprocess.run([*compose_command(), "version"], capture_output=True)
    if plugin.returncode:
        return "Compose is not installed (Debian: apt-get install docker-compose)"
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        return "Docker's daemon does not answer (start it: systemctl start docker)"
    return None


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a project."""

    id: str

    def inspect(self) -> dict[str, Any]:
        """All that the engine tells of it."""
        found: list[dict[str, Any]] = json.loads(run("docker", "inspect", self.id))
        return found[0]

    def published(self, port: int) -> tuple[str, int]:
        """Where a port of it is reached on this machine.

        :raises ConnectionError: nowhere, at the moment.
        """
        bindings = self.inspect()["NetworkSettings"]["Ports"].get(f"{port}/tcp")
        if not bindings:
            raise ConnectionError(f"port {port} of {self.id[:12]} is not published")
        return bindings[0]["HostIp"], int(bindings[0]["HostPort"])

    def execute(self, *command: str) -> str:
        """Run a command inside, as the container's user."""
        return run("docker", "exec", self.id, *command)

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        run("docker", "kill", "--signal", name, self.id)

    def log(self) -> str:
        """All that it printed."""
        done = subprocess.run(["docker", "logs", self.id], capture_output=True, text=True)
        return done.stdout + done.stderr


def containers(project: str, service: str | None = None) -> list[Container]:
    """Those of a project, or of one service, running or not, in the order of their numbers."""
    filters = ["--filter", f"label=com.docker.compose.project={project}"]
    if service is not None:
        filters += ["--filter", f"label=com.docker.compose.service={service}"]
    number = '{{.Label "com.docker.compose.container-number"}}'
    lines = run("docker", "ps", "--all", "--no-trunc", "--format", number + " {{.ID}}", *filters)
    return [Container(line.split()[1]) for line in sorted(lines.splitlines())]
