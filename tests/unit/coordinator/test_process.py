"""The coordinator as a process: the lifeline, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.client import ControlClient
from coordinator.lifeline import Lifeline
from coordinator.settings import CoordinatorSettings, ServerCurve
from tests.waiting import eventually

WITHIN = 20.0


class Child:
    """``python -m coordinator`` and the supervisor's end of its lifeline."""

    def __init__(self, settings: dict[str, Any], log: Path) -> None:
        self.lifeline, theirs = Lifeline.pair()
        with log.open("wb") as stderr, theirs:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-m", "coordinator"], stdin=theirs.fileno(), stderr=stderr
            )
        self.lifeline.send({"type": "settings", "settings": settings})

    def ends(self) -> int:
        return self.process.wait(WITHIN)


@contextmanager
def child(settings: dict[str, Any], log: Path) -> Iterator[Child]:
    running = Child(settings, log)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        running.lifeline.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


def test_it_says_when_it_serves_and_where(settings: CoordinatorSettings, log: Path) -> None:
    with child(settings.to_frame(), log) as running:
        ready = running.lifeline.receive()
        assert ready is not None
        assert ready["type"] == "ready"
        with urllib.request.urlopen(f"{ready['admin']}/status.json", timeout=5) as response:
            status = json.load(response)
        assert status["coordinator"]["pid"] == running.process.pid
        with ControlClient(settings.control_endpoint) as client:
            assert client.request("ping", {}, 5)["boot"] == status["coordinator"]["boot"]


@pytest.mark.parametrize("way", ["order", "end of file", "SIGTERM"])
def test_it_stops_orderly_within_a_second(
    settings: CoordinatorSettings, log: Path, runtime_dir: Path, way: str
) -> None:
    with child(settings.to_frame(), log) as running:
        assert running.lifeline.receive() is not None
        started = time.monotonic()
        if way == "order":
            running.lifeline.send({"type": "stop"})
        elif way == "end of file":
            running.lifeline.close()
        else:
            running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0
        assert time.monotonic() - started < 1.0
    assert list(runtime_dir.iterdir()) == []


def test_an_open_page_does_not_delay_the_stop(settings: CoordinatorSettings, log: Path) -> None:
    import http.client
    from urllib.parse import urlsplit

    with child(settings.to_frame(), log) as running:
        ready = running.lifeline.receive()
        assert ready is not None
        browser = http.client.HTTPConnection(urlsplit(ready["admin"]).netloc, timeout=5)
        browser.request("GET", "/status.json")
        browser.getresponse().read()
        started = time.monotonic()
        running.lifeline.send({"type": "stop"})
        assert running.ends() == 0
        assert time.monotonic() - started < 1.0
        browser.close()


def test_interrupt_and_hangup_are_the_supervisor_s_business(
    settings: CoordinatorSettings, log: Path
) -> None:
    with child(settings.to_frame(), log) as running:
        assert running.lifeline.receive() is not None
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGHUP)
        with ControlClient(settings.control_endpoint) as client:
            assert client.request("ping", {}, 5)["boot"]
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0
    assert b"Traceback" not in log.read_bytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"control_endpoint": "tcp://127.0.0.1:*"}, "open to everybody"),
        ({"admin_host": "203.0.113.1"}, "admin.bind: cannot bind"),
        ({"log_file": "/nonexistent/log"}, "/nonexistent/log"),
        ({"entropy_sources": ["dice"]}, "dice"),
        ({"no_such_setting": 1}, "no_such_setting"),
    ],
)
def test_a_failed_start_is_told_in_one_line_and_exit_3(
    settings: CoordinatorSettings, log: Path, change: dict[str, Any], reason: str
) -> None:
    with child({**settings.to_frame(), **change}, log) as running:
        failed = running.lifeline.receive()
        assert failed is not None
        assert failed["type"] == "failed"
        assert reason in failed["reason"]
        assert "\n" not in failed["reason"]
        assert running.ends() == 3
    assert b"Traceback" not in log.read_bytes()


def test_a_supervisor_that_dies_before_it_spoke_leaves_no_orphan(log: Path) -> None:
    lifeline, theirs = Lifeline.pair()
    with theirs:
        process = subprocess.Popen([sys.executable, "-m", "coordinator"], stdin=theirs.fileno())
    lifeline.close()
    assert process.wait(WITHIN) == 0


@pytest.mark.parametrize("way", ["SIGUSR1", "order"])
def test_logs_are_reopened(
    settings: CoordinatorSettings, log: Path, tmp_path: Path, way: str
) -> None:
    path = tmp_path / "coordinator.log"
    with child(replace(settings, log_file=str(path)).to_frame(), log) as running:
        assert running.lifeline.receive() is not None
        path.rename(tmp_path / "rotated.log")
        if way == "SIGUSR1":
            running.process.send_signal(signal.SIGUSR1)
        else:
            running.lifeline.send({"type": "reopen_logs"})
        eventually(path.exists, within=WITHIN, what="the log file is there again")
        running.lifeline.send({"type": "stop"})
        running.ends()
    assert "coordinator ready" in (tmp_path / "rotated.log").read_text(encoding="utf-8")


def test_no_secret_is_in_argv_environment_or_log(settings: CoordinatorSettings, log: Path) -> None:
    import zmq

    public, secret = (key.decode() for key in zmq.curve_keypair())
    with_curve = replace(
        settings, curve=ServerCurve(public=public, secret=secret), log_level="debug"
    )
    with child(with_curve.to_frame(), log) as running:
        assert running.lifeline.receive() is not None
        with ControlClient(settings.control_endpoint) as client:
            seed = client.request("seed", {"id": "w", "purpose": "x"}, 5)["seed"]
        process = Path(f"/proc/{running.process.pid}")
        for place in (process / "cmdline", process / "environ", log):
            content = place.read_bytes()
            assert secret.encode() not in content
            assert seed not in content
            assert seed.hex().encode() not in content


def test_a_terminal_as_standard_input_is_explained(tmp_path: Path) -> None:
    with (tmp_path / "empty").open("w+b") as empty:
        done = subprocess.run(
            [sys.executable, "-m", "coordinator"],
            stdin=empty,
            capture_output=True,
            timeout=WITHIN,
            check=False,
        )
    assert done.returncode == 3
    assert b"shardtls coordinator" in done.stderr
    assert b"Traceback" not in done.stderr


RUN = """
import json, sys
from coordinator.process import run
from coordinator.settings import CoordinatorSettings
sys.exit(run(CoordinatorSettings.from_frame(json.loads(sys.argv[1])),
             ready=lambda coordinator: print(coordinator.admin_url, flush=True)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_alone_it_runs_until_a_signal(
    settings: CoordinatorSettings, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(settings.to_frame())], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"http://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(WITHIN) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_a_killed_coordinator_s_successor_starts_at_once(
    settings: CoordinatorSettings, log: Path, runtime_dir: Path
) -> None:
    with child(settings.to_frame(), log) as running:
        assert running.lifeline.receive() is not None
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait(WITHIN)
        assert (runtime_dir / "control").exists()
        with child(settings.to_frame(), log) as successor:
            ready = successor.lifeline.receive()
            assert ready is not None
            assert ready["type"] == "ready"
