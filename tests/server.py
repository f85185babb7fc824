"""A whole server for a test: ``shardtls up`` with its coordinator and workers.

It runs in a session of its own, so that what is left of it can be found, and so that it is not
scheduled behind its clients. Logs go to a file; when it stops, they are searched for tracebacks,
panics and the private key.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.certificates import Certificate, issue
from tests.ports import free_port
from tests.processes import alive, in_session
from tests.waiting import eventually

__all__ = ["PATIENT", "SHARDTLS", "Server", "running"]

SHARDTLS: Final = str(Path(sys.executable).parent / "shardtls")

PATIENT: Final = ("--lookup-timeout", "1", "--park", "0.5")
"""For tests of *whether* a session is found. The defaults (20 ms and 15 ms) are for a machine that
runs its processes when they are ready, which one that compiles beside its tests does not; what
becomes of these is checked in tests/faults and, on a quiet machine, in tests/bench.
"""

START: Final = 20.0
"""Seconds until a server must be ready on a busy machine."""
STOP: Final = 10.0
"""Seconds until it must be gone; tests set a drain timeout below it."""


class Server:
    """A server that was started. Its methods belong to the test's thread."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        host: str,
        port: int,
        admin_port: int,
        runtime_dir: Path,
        log: Path,
        certificate: Certificate,
    ) -> None:
        self._process = process
        self.pid = process.pid
        self.host = host
        self.port = port
        self.admin_port = admin_port
        self.runtime_dir = runtime_dir
        self.log = log
        self.certificate = certificate

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.host, self.port

    def admin(self, path: str) -> tuple[int, str]:
        """GET from the admin interface: status and body.

        :raises OSError: it does not answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"admin interface: {error!r}") from error
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """``/status.json``."""
        code, body = self.admin("/status.json")
        assert code == 200, body
        decoded: dict[str, Any] = json.loads(body)
        return decoded

    def workers(self, state: str | None = "ready") -> list[dict[str, Any]]:
        """The workers in `state` (all with None)."""
        found: list[dict[str, Any]] = self.status()["workers"]
        return [worker for worker in found if state is None or worker["state"] == state]

    def worker_pids(self) -> set[int]:
        """Process ids of the ready workers."""
        return {worker["pid"] for worker in self.workers()}

    def coordinator_pid(self) -> int:
        """Process id of the coordinator."""
        pid: int = self.status()["coordinator"]["pid"]
        return pid

    def connections(self) -> int:
        """Connections open on all workers."""
        return sum(worker["connections"] for worker in self.workers(None))

    def command(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a ``shardtls`` command against this server."""
        return subprocess.run(
            [SHARDTLS, *arguments, "--runtime-dir", str(self.runtime_dir)],
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def scale(self, workers: int, *, within: float = 20) -> None:
        """``shardtls scale N``, then wait until N workers are ready and no other is left."""
        done = self.command("scale", str(workers))
        assert done.returncode == 0, done.stderr
        self.wait_ready(workers, within=within)

    def wait_ready(self, workers: int, *, within: float = START) -> None:
        """Wait until exactly so many workers are known and all are ready."""

        def ready() -> bool:
            if self._process.poll() is not None:
                raise AssertionError(
                    f"ended with {self._process.returncode}:\n{self.log.read_text()}"
                )
            if self.admin("/readyz")[0] != 200:
                return False
            return [worker["state"] for worker in self.workers(None)] == ["ready"] * workers

        eventually(ready, within=within, what=f"{workers} workers ready")

    def exit_code(self, *, within: float = STOP) -> int:
        """Wait for the supervisor's end.

        :raises AssertionError: it did not end in time.
        """
        try:
            return self._process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within:g} s") from None

    def leftovers(self) -> list[int]:
        """Processes of the server's session that still live."""
        return in_session(self.pid)

    def stop(self) -> None:
        """Stop it as a user would (SIGINT), and check what it leaves: exit code 0, no process,
        nothing in the log that must not be there.
        """
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            assert self.exit_code() == 0, self.log.read_text()
        eventually(lambda: not self.leftovers(), within=2, what="no process left")
        self.check_log()

    def check_log(self) -> None:
        """No traceback, no panic, no key material."""
        text = self.log.read_text()
        for sign in ("Traceback", "panicked at", "PRIVATE KEY", *key_material(self.certificate)):
            assert sign not in text, f"{sign[:20]!r} in the log:\n{text}"

    def kill(self) -> None:
        """End whatever is left, at the end of a test that failed."""
        for pid in self.leftovers():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=5)


def key_material(certificate: Certificate) -> list[str]:
    """Spellings of the private key that would betray it: a line of its PEM, and hex."""
    lines = [line for line in certificate.key.read_text().splitlines() if line and "-" not in line]
    return [lines[0], base64.b64decode("".join(lines)).hex()[32:96]]


@contextmanager
def running(
    folder: Path,
    *,
    certificate: Certificate | None = None,
    workers: int = 2,
    host: str = "127.0.0.1",
    arguments: Sequence[str] = (),
    config: str | None = None,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
    flags: bool = True,
    wait: bool = True,
) -> Iterator[Server]:
    """Start a server in `folder`, wait until it is ready, and stop it with :meth:`Server.stop`.

    :param arguments: more flags of ``shardtls up``.
    :param config: text of a TOML file.
    :param directory: where it is started; default: where the tests are.
    :param flags: False if `config` names the certificate.
    :param wait: False if the test waits itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = certificate or issue(folder)
    # A path of a Unix socket has at most 107 bytes; those of pytest's folders can be longer.
    runtime_dir = Path(tempfile.mkdtemp(prefix="shardtls-test-"))
    port, admin_port = free_port(host), free_port()
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = [SHARDTLS, "up", "--bind", where, "--admin", f"127.0.0.1:{admin_port}"]
    command += ["--workers", str(workers), "--runtime-dir", str(runtime_dir)]
    if flags:
        command += ["--cert", str(chosen.cert), "--key", str(chosen.key)]
    if config is not None:
        (folder / "shardtls.toml").write_text(config)
        command += ["--config", str(folder / "shardtls.toml")]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=directory,
            env={**_without_settings(os.environ), **(environment or {})},
        )
    server = Server(
        process,
        host=host,
        port=port,
        admin_port=admin_port,
        runtime_dir=runtime_dir,
        log=log,
        certificate=chosen,
    )
    try:
        if wait:
            server.wait_ready(workers)
        yield server
        server.stop()
    finally:
        server.kill()
        shutil.rmtree(runtime_dir, ignore_errors=True)


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The developer's own settings are no part of a test."""
    return {name: value for name, value in environ.items() if not name.startswith("SHARDTLS_")}
