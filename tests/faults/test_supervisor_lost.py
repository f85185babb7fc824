"""A supervisor killed with SIGKILL leaves no orphan, and its place can be taken at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.certificates import Certificate
from tests.client import TlsStream, client_context
from tests.server import SHARDTLS, Server, running
from tests.waiting import eventually

NO_ORPHAN = 2.0
"""Seconds."""


def kill_supervisor(server: Server) -> None:
    """SIGKILL, then wait for the others to notice."""
    os.kill(server.pid, signal.SIGKILL)
    assert server.exit_code() == -signal.SIGKILL
    eventually(lambda: not server.leftovers(), within=NO_ORPHAN, what="no orphan")


def test_no_orphan_is_left(tmp_path: Path, certificate: Certificate) -> None:
    with running(tmp_path, certificate=certificate, workers=4) as server:
        streams = [TlsStream(server.address, client_context(certificate)) for _ in range(8)]
        assert len(server.leftovers()) == 6
        kill_supervisor(server)
        for stream in streams:
            stream.tls.close()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(server.address)


def test_stopped_children_are_no_obstacle(tmp_path: Path, certificate: Certificate) -> None:
    """A child that was stopped ends as soon as it goes on."""
    with running(tmp_path, certificate=certificate, workers=2) as server:
        sleeper = server.workers()[0]["pid"]
        os.kill(sleeper, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGKILL)
        server.exit_code()
        eventually(lambda: server.leftovers() == [sleeper], within=NO_ORPHAN, what="one left")
        os.kill(sleeper, signal.SIGCONT)
        eventually(lambda: not server.leftovers(), within=NO_ORPHAN, what="no orphan")


def test_a_new_server_takes_over_the_runtime_directory(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running(tmp_path, certificate=certificate, workers=1) as server:
        command = [SHARDTLS, "up", "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        command += ["--cert", str(certificate.cert), "--key", str(certificate.key)]
        command += ["--runtime-dir", str(server.runtime_dir)]
        second = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert second.returncode == 3
        assert str(server.runtime_dir) in second.stderr
        assert "Traceback" not in second.stderr
        kill_supervisor(server)
        with running(
            tmp_path / "again",
            certificate=certificate,
            workers=1,
            arguments=["--runtime-dir", str(server.runtime_dir)],
        ):
            pass
