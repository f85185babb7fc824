"""A worker as its supervisor sees it: start, orders, signals, ends. No coordinator is there."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.protocol import Request, decode_control, encode_error, encode_reply
from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.engine.reading import TIMEOUT, WorkerProcess, connect, worker_process, worker_settings
from tests.engine.router import RouterThread
from tests.failing_random import failing_random
from tests.waiting import eventually


def get(client: ssl.SSLSocket) -> bytes:
    """One request over a connection."""
    client.sendall(b"GET /bytes/5 HTTP/1.1\r\nHost: h\r\n\r\n")
    received = b""
    while not received.endswith(bytes(5)):
        chunk = client.recv(4096)
        assert chunk
        received += chunk
    return received


def next_frame(worker: WorkerProcess, kind: str) -> None:
    frame = worker.lifeline.receive()
    assert frame is not None
    assert frame["type"] == kind


def errors(worker: WorkerProcess) -> str:
    """What it wrote to standard error, after its end."""
    assert worker.process.stderr is not None
    return worker.process.stderr.read().decode()


def test_it_serves_without_a_coordinator_within_a_second(
    engine_certificate: Certificate,
) -> None:
    started = time.monotonic()
    with worker_process(worker_settings(engine_certificate, resumption="cache")) as worker:
        assert worker.first == {"type": "ready", "worker": "test-0.1"}
        # 0.3 s of it are the wait for the coordinator's seed.
        assert time.monotonic() - started < 2.0
        facts = visit(worker.address, client_context(engine_certificate)).facts
        assert facts["worker"] == "test-0.1"
        worker.lifeline.send({"type": "stop"})
        assert worker.wait() == 0
        assert "Traceback" not in errors(worker)


def test_drain_finishes_what_is_there_and_leaves_the_listener(
    engine_certificate: Certificate,
) -> None:
    with worker_process(worker_settings(engine_certificate)) as worker:
        client = connect(worker.address, engine_certificate)
        get(client)
        busy = connect(worker.address, engine_certificate)
        busy.sendall(b"GET /bytes/5 HT")
        worker.lifeline.send({"type": "drain"})
        next_frame(worker, "draining")
        assert client.recv(1) == b""  # idle: closed at once
        client.close()
        # The socket is the supervisor's: another worker would accept this.
        waiting = socket.create_connection(worker.address, timeout=TIMEOUT)
        busy.sendall(b"TP/1.1\r\n\r\n")
        assert b"Connection: close" in busy.recv(4096)
        busy.unwrap()
        busy.close()
        assert worker.wait() == 0
        waiting.close()


def test_sigterm_is_a_drain_and_sigint_is_nothing(engine_certificate: Certificate) -> None:
    with worker_process(worker_settings(engine_certificate)) as worker:
        with connect(worker.address, engine_certificate) as client:
            worker.process.send_signal(signal.SIGINT)
            get(client)
            worker.process.send_signal(signal.SIGTERM)
            next_frame(worker, "draining")
            assert client.recv(1) == b""
        assert worker.wait() == 0


def test_stop_closes_orderly_and_at_once(engine_certificate: Certificate) -> None:
    with worker_process(worker_settings(engine_certificate)) as worker:
        client = connect(worker.address, engine_certificate)
        get(client)
        started = time.monotonic()
        worker.lifeline.send({"type": "stop"})
        assert client.recv(1) == b""
        # The client does not close: nobody waits for it.
        assert worker.wait() == 0
        assert time.monotonic() - started < 2.0
        client.close()


def test_it_does_not_survive_its_supervisor(engine_certificate: Certificate) -> None:
    with worker_process(worker_settings(engine_certificate, drain_timeout=60.0)) as worker:
        client = connect(worker.address, engine_certificate)
        worker.lifeline.send({"type": "drain"})
        next_frame(worker, "draining")
        started = time.monotonic()
        worker.lifeline.close()
        assert worker.wait() == 0
        assert time.monotonic() - started < 1.2
        client.close()


@pytest.mark.parametrize(
    ("app", "source", "says"),
    [
        ("nothing_here:x", None, "no module nothing_here"),
        ("broken:x", "1/0", "ZeroDivisionError"),
        ("fine:missing", "x = 1", "has no missing"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_told_in_one_line(
    engine_certificate: Certificate, tmp_path: Path, app: str, source: str | None, says: str
) -> None:
    if source is not None:
        (tmp_path / f"{app.partition(':')[0]}.py").write_text(source)
    with worker_process(worker_settings(engine_certificate, app=app), cwd=tmp_path) as worker:
        assert worker.first is not None
        assert worker.first["type"] == "failed"
        assert says in worker.first["reason"]
        assert "\n" not in worker.first["reason"]
        assert worker.wait() == 3


def test_tls_settings_that_the_engine_refuses_are_told(engine_certificate: Certificate) -> None:
    settings = worker_settings(engine_certificate, groups=("no such group",))
    with worker_process(settings) as worker:
        assert worker.first is not None
        assert "no such group" in worker.first["reason"]
        assert worker.wait() == 3


def test_ones_own_app_serves(engine_certificate: Certificate, tmp_path: Path) -> None:
    (tmp_path / "upper.py").write_text(
        "import asyncio\n"
        "class Upper(asyncio.Protocol):\n"
        "    def connection_made(self, transport):\n"
        "        self.transport = transport\n"
        "    def data_received(self, data):\n"
        "        self.transport.write(data.upper())\n"
    )
    settings = worker_settings(engine_certificate, app="upper:Upper", readers=2, writers=2)
    with worker_process(settings, cwd=tmp_path) as worker:
        with connect(worker.address, engine_certificate) as client:
            client.sendall(b"shout")
            assert client.recv(100) == b"SHOUT"
            client.unwrap()
        worker.lifeline.send({"type": "stop"})
        assert worker.wait() == 0


def test_a_raising_app_is_an_error_line_with_its_traceback(
    engine_certificate: Certificate, tmp_path: Path
) -> None:
    (tmp_path / "raises.py").write_text("def factory():\n    raise KeyError('what now')\n")
    settings = worker_settings(engine_certificate, app="raises:factory")
    with worker_process(settings, cwd=tmp_path) as worker:
        for _ in range(2):
            with connect(worker.address, engine_certificate) as client:
                eventually(
                    lambda client=client: _gone(client),  # type: ignore[misc]
                    within=TIMEOUT,
                    what="the connection is aborted",
                )
        worker.lifeline.send({"type": "stop"})
        assert worker.wait() == 0
        lines = errors(worker)
        assert lines.count("ERROR") == lines.count("Traceback") == 2
        assert "what now" in lines


def _gone(client: ssl.SSLSocket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


class Listening(RouterThread):
    """A *control* endpoint that writes down the statistics it is told."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.stats: list[dict[str, Any]] = []
        self.on_seed: Callable[[], None] = lambda: None

    def received(self, peer: bytes, frame: bytes) -> list[bytes]:
        request = decode_control(frame)
        assert isinstance(request, Request)
        if request.type == "heartbeat":
            self.stats.append(request.body["stats"])
        if request.type == "seed":
            self.on_seed()
            return [encode_error(request.request, "refused", "too little entropy")]
        return [encode_reply(request.request, {"boot": "b", "heartbeat": 0.05})]


def test_a_generator_that_fails_ends_handshakes_and_the_worker(
    engine_certificate: Certificate, tmp_path: Path
) -> None:
    environment, trigger = failing_random(tmp_path)
    with Listening(f"ipc://{tmp_path}/control") as control:
        settings = worker_settings(engine_certificate, control_endpoint=control.endpoint)
        with worker_process(settings, environment=environment) as worker:
            with connect(worker.address, engine_certificate) as established:
                eventually(lambda: control.stats, within=TIMEOUT, what="a heartbeat")
                assert control.stats[-1]["drbg"]["local_reason"] in ("refused", "no answer")
                assert not control.stats[-1]["drbg"]["failed"]
                trigger.touch()
                with pytest.raises(OSError):  # noqa: PT011 - an end or a reset, as it happens
                    connect(worker.address, engine_certificate)
                leaving = worker.lifeline.receive()
                assert leaving == {"type": "leaving", "reason": "the DRBG has failed"}
                next_frame(worker, "draining")
                # What is established needs no randomness, and is told to finish.
                assert established.recv(1) == b""
            assert worker.wait() == 4
            text = errors(worker)
            assert text.count("ERROR") == 1
            assert "no handshake succeeds here any more" in text
            assert "Traceback" not in text
        assert control.stats[-1]["drbg"]["failed"]
        assert control.stats[-1]["ended"] == {"no_randomness": 1}


def test_without_randomness_it_does_not_start(
    engine_certificate: Certificate, tmp_path: Path
) -> None:
    environment, trigger = failing_random(tmp_path)
    with Listening(f"ipc://{tmp_path}/control") as control:
        # When it asks for its first seed; Python and AWS-LC need some randomness before.
        control.on_seed = trigger.touch
        settings = worker_settings(engine_certificate, control_endpoint=control.endpoint)
        with worker_process(settings, environment=environment) as worker:
            reason = "no randomness: the DRBG has failed"
            assert worker.first == {"type": "failed", "reason": reason}
            assert worker.wait() == 3
            assert "Traceback" not in errors(worker)


def test_it_answers_its_supervisor(engine_certificate: Certificate) -> None:
    with worker_process(worker_settings(engine_certificate)) as worker:
        worker.lifeline.send({"type": "ping"})
        next_frame(worker, "pong")
        worker.lifeline.send({"type": "stop"})
        assert worker.wait() == 0


def test_nothing_heavy_is_imported() -> None:
    """A replacement has to serve within a second."""
    code = (
        "import sys, shard.worker, shard.apps.hello\n"
        "heavy = 'asyncio click cryptography pydantic starlette uvicorn'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_started_by_hand_it_says_what_to_do_instead() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    ended = subprocess.run(
        [sys.executable, "-m", "shard.worker"],
        stdin=theirs.fileno(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    theirs.close()
    assert ended.returncode == 3
    assert "shardtls up" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_stdin_that_is_no_lifeline_is_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "shard.worker"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == 3
    assert "shardtls up" in ended.stderr
    assert "Traceback" not in ended.stderr
