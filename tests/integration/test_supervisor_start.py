"""Starts: what is refused, with which exit code and reason, and what is printed when it works."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.ports import free_port
from tests.processes import in_session
from tests.server import SHARDTLS, running
from tests.waiting import eventually


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A short path, as sockets need."""
    folder = Path(tempfile.mkdtemp(prefix="shardtls-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def arguments(runtime_dir: Path, certificate: Certificate, *more: str) -> list[str]:
    """``shardtls up`` on ports that the kernel chooses."""
    command = [SHARDTLS, "up", "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--cert", str(certificate.cert), "--key", str(certificate.key)]
    return [*command, "--runtime-dir", str(runtime_dir), *more]


def failed(command: list[str]) -> tuple[int, str]:
    """Exit code and the last line of what was said, which must not be a traceback."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stderr.splitlines()[-1]


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """A server in a session of its own; stopped, and nothing may be left."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    try:
        yield process
        process.terminate()
        assert process.wait(10) == 0, log.read_text()
        assert not in_session(process.pid)
    finally:
        for pid in in_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait(5)
        assert process.stdout is not None
        process.stdout.close()


def announced(process: subprocess.Popen[str]) -> str:
    """What it prints once it serves."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "stop" in line:
            break
    return "".join(lines)


def test_the_two_commands_of_a_stranger(runtime_dir: Path, tmp_path: Path) -> None:
    """--self-signed: a certificate that stays the same over a restart."""
    command = [SHARDTLS, "up", "--self-signed", "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--runtime-dir", str(runtime_dir)]
    seen = []
    for _ in range(2):
        with started(command, tmp_path / "log") as process:
            text = announced(process)
            port = int(re.findall(r"https://127\.0\.0\.1:(\d+)", text)[0])
            assert re.search(r"http://127\.0\.0\.1:\d+", text)
            assert f"kill -TERM {process.pid}" in text
            trust = Certificate(
                *(runtime_dir / f"self-signed.{end}" for end in ("pem", "key", "pem"))
            )
            visit(("127.0.0.1", port), client_context(trust))
            seen.append((runtime_dir / "self-signed.pem").read_bytes())
    assert seen[0] == seen[1]


def test_a_second_server_is_refused_with_the_pid_of_the_first(
    runtime_dir: Path, tmp_path: Path, certificate: Certificate
) -> None:
    command = arguments(runtime_dir, certificate, "--workers", "1")
    with started(command, tmp_path / "log") as process:
        announced(process)
        code, line = failed(command)
        assert code == 3
        assert f"pid {process.pid}" in line
        assert "--runtime-dir" in line


def test_an_address_in_use(runtime_dir: Path, certificate: Certificate) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, line = failed(arguments(runtime_dir, certificate, "--bind", address))
    assert code == 3
    assert address in line
    assert "another port" in line


def test_an_admin_address_in_use(runtime_dir: Path, certificate: Certificate) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, line = failed(arguments(runtime_dir, certificate, "--admin", address))
    assert code == 3
    assert address in line


def test_an_application_that_does_not_load(runtime_dir: Path, certificate: Certificate) -> None:
    """A boot-failure loop ends, with the reason; nothing is left."""
    began = time.monotonic()
    code, line = failed(arguments(runtime_dir, certificate, "--app", "nowhere:app"))
    assert code == 3
    assert "nowhere" in line
    assert time.monotonic() - began < 15
    assert not (runtime_dir / "server.json").exists()


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--workers", "0"], "--workers"),
        (["--cert", "nowhere.pem", "--key", "nowhere.key"], "certificate.1.cert"),
        (["--cipher-suites", "TLS_NULL"], "tls.cipher_suites"),
        (["--sessions-endpoint", "tcp://127.0.0.1:1"], "--sessions-endpoint"),
        (["--app", "proxy:127.0.0.1"], "--app"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_settings_that_are_wrong_exit_with_2(
    runtime_dir: Path, certificate: Certificate, more: list[str], word: str
) -> None:
    command = arguments(runtime_dir, certificate, *more)
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_coordinator_and_workers_apart_over_curve(
    runtime_dir: Path, tmp_path: Path, certificate: Certificate
) -> None:
    """As in containers: one runs the coordinator, the other workers, commands come from outside."""
    keys = tmp_path / "keys"
    assert subprocess.run([SHARDTLS, "keys", "init", str(keys)], stdout=-3).returncode == 0
    control = f"tcp://127.0.0.1:{free_port()}"
    shared = ["--sessions-endpoint", f"tcp://127.0.0.1:{free_port()}"]
    shared += ["--control-endpoint", control, "--key-dir", str(keys)]
    coordinator = [SHARDTLS, "coordinator", *shared, "--admin", "127.0.0.1:0"]
    coordinator += ["--runtime-dir", str(runtime_dir / "c")]
    worker = arguments(runtime_dir / "w", certificate, "--workers", "2", *shared)
    worker[1] = "worker"
    worker = [one for one in worker if one != "--admin"]
    worker.remove("127.0.0.1:0")

    def ask(*command: str) -> subprocess.CompletedProcess[str]:
        target = ["--coordinator", control, "--key-dir", str(keys)]
        return subprocess.run(
            [SHARDTLS, *command, *target], capture_output=True, text=True, timeout=30
        )

    # The workers start first: they serve without a coordinator, and find it when it comes.
    with started(worker, tmp_path / "w.log") as workers:
        port = int(re.findall(r"https://127\.0\.0\.1:(\d+)", announced(workers))[0])
        context = client_context(certificate)
        assert not visit(("127.0.0.1", port), context).resumed
        with started(coordinator, tmp_path / "c.log") as alone:
            assert "status" in announced(alone)
            eventually(
                lambda: ask("status").stdout.count(" ready ") == 2, within=15, what="2 workers"
            )
            scaled = ask("scale", "3")
            assert scaled.returncode == 0, scaled.stderr
            assert ask("status").stdout.count(" ready ") == 3
            session = visit(("127.0.0.1", port), context).session
            eventually(
                lambda: (
                    visit(("127.0.0.1", port), context, session).resumed
                    or visit(("127.0.0.1", port), context).session is None
                ),
                within=5,
                what="resumption",
            )
            (keys / "admin.key").write_text((keys / "worker.key").read_text())
            forbidden = ask("scale", "1")
            assert forbidden.returncode == 1
            assert "Traceback" not in forbidden.stderr


def test_modules_of_the_same_names_in_the_working_directory_are_not_ours(
    tmp_path: Path, certificate: Certificate
) -> None:
    for name in ("shard", "coordinator"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    folder = tmp_path / "run"
    with running(folder, certificate=certificate, workers=1, directory=tmp_path) as server:
        assert visit(server.address, client_context(certificate)).worker
