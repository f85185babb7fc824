"""``deploy/compose.yml`` running as a project of its own, on ports that the engine chose."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.compose.engine import TOP, Container, compose_command, containers, run
from tests.compose.images import Images
from tests.waiting import eventually

__all__ = ["Deployment", "deployed"]

READY: Final = 30.0
"""Seconds until containers must serve on a busy machine."""
DRAIN: Final = 5
"""Seconds that a worker may take to finish its connections."""


class Deployment:
    """A coordinator, workers and the balancer. Its methods belong to the test's thread."""

    def __init__(self, images: Images, folder: Path) -> None:
        self.project = f"shardtls-test-{secrets.token_hex(4)}"
        self._folder = folder
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SHARDTLS_")},
            "COMPOSE_PROJECT_NAME": self.project,
            "SHARDTLS_IMAGE": images.product,
            "HAPROXY_IMAGE": images.base,
            "SHARDTLS_PORT": "",
            "ADMIN_PORT": "",
            "HEALTH_INTERVAL": "2s",
            "SHARDTLS_SERVER_DRAIN_TIMEOUT": f"{DRAIN}s",
            "STOP_GRACE": f"{DRAIN + 5}s",
            "SHARDTLS_LOG_LEVEL": "debug",
        }
        self.address = ("127.0.0.1", 0)
        self.certificate = Certificate(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")

    def compose(self, *arguments: str) -> str:
        """Run Compose on the project."""
        return run(
            *compose_command(), "--file", str(TOP / "deploy/compose.yml"), *arguments, env=self._env
        )

    def up(self, workers: int) -> None:
        """Start everything, with so many workers, and wait until it serves."""
        self.compose("up", "--detach", "--no-build", "--scale", f"worker={workers}")
        self.address = self.one("balancer").published(8443)
        worker = containers(self.project, "worker")[0]
        for file in (self.certificate.cert, self.certificate.authority):
            file.write_text(worker.execute("cat", f"/etc/shardtls/tls/{file.name}"))
        self.wait_ready(workers)

    def scale(self, workers: int) -> None:
        """Add or remove worker containers; returns when the engine has done so."""
        self.compose(
            *("up", "--detach", "--no-build", "--no-recreate", "--no-deps"),
            *("--scale", f"worker={workers}", "worker"),
        )

    def down(self) -> None:
        """Remove all of it, volumes too."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "2")

    def one(self, service: str) -> Container:
        """The only container of a service."""
        (found,) = containers(self.project, service)
        return found

    def workers(self) -> list[Container]:
        """The containers of workers."""
        return containers(self.project, "worker")

    def status(self) -> dict[str, Any]:
        """``/status.json``, from outside.

        :raises OSError: it does not answer.
        """
        # The engine chooses another port whenever the container starts.
        connection = http.client.HTTPConnection(*self.one("coordinator").published(9080), timeout=2)
        try:
            connection.request("GET", "/status.json")
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"admin interface: {error!r}") from error
        finally:
            connection.close()
        assert answer.status == 200, body
        decoded: dict[str, Any] = json.loads(body)
        return decoded

    def ready(self) -> list[dict[str, Any]]:
        """The workers that the coordinator knows as ready.

        :raises OSError: the coordinator does not answer.
        """
        return [worker for worker in self.status()["workers"] if worker["state"] == "ready"]

    def wait_ready(self, workers: int, *, within: float = READY) -> None:
        """Wait until the coordinator knows exactly so many workers, all ready, and the balancer
        sends clients to every one of them. A worker that was killed is shown as lost for a while.
        """

        def known() -> bool:
            states = [worker["state"] for worker in self.status()["workers"]]
            return [state for state in states if state != "lost"] == ["ready"] * workers

        eventually(known, within=within, what=f"{workers} workers ready", every=0.1)
        eventually(
            lambda: len(self.answering(2 * workers)) == workers,
            within=within,
            what=f"clients reach {workers} workers",
            every=0.1,
        )

    def answering(self, visits: int) -> set[str]:
        """The workers that answer so many new clients."""
        context = client_context(self.certificate)
        return {visit(self.address, context).worker for _ in range(visits)}

    @contextmanager
    def paused(self, container: Container) -> Iterator[None]:
        """Freeze all its processes, as on a host that hangs."""
        run("docker", "pause", container.id)
        try:
            yield
        finally:
            run("docker", "unpause", container.id)

    @contextmanager
    def killed(self, container: Container) -> Iterator[None]:
        """Kill it with SIGKILL; start it again at the end. The engine does not restart it itself
        after a kill that it was asked for.
        """
        container.signal("KILL")
        try:
            yield
        finally:
            run("docker", "start", container.id)

    @contextmanager
    def cut_off(self, container: Container) -> Iterator[None]:
        """Drop all packets to and from it, inside its network namespace: addresses and sockets
        stay, nobody is told.
        """
        pid = str(container.inspect()["State"]["Pid"])

        def rules(action: str) -> None:
            for chain, interface in (("INPUT", "-i"), ("OUTPUT", "-o")):
                run(
                    *("nsenter", "--target", pid, "--net", "iptables", "--wait", action, chain),
                    *("!", interface, "lo", "--jump", "DROP"),
                )

        rules("--insert")
        try:
            yield
        finally:
            rules("--delete")

    def logs(self) -> str:
        """What all containers printed."""
        return "\n".join(
            f"--- {one.inspect()['Name']}\n{one.log()}" for one in containers(self.project)
        )


@contextmanager
def deployed(images: Images, folder: Path, workers: int) -> Iterator[Deployment]:
    """A deployment for a test; removed whatever happens."""
    deployment = Deployment(images, folder)
    try:
        try:
            deployment.up(workers)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            error.add_note(deployment.logs())
            raise
        yield deployment
    finally:
        deployment.down()
