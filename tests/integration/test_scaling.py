"""Workers come and go while clients are connected, and no client notices."""

from __future__ import annotations

import time
from pathlib import Path

from tests.certificates import Certificate
from tests.client import TlsStream, client_context, visit
from tests.server import PATIENT, Server, running
from tests.traffic import Traffic

DRAIN = ["--drain-timeout", "5", *PATIENT]


def test_traffic_sees_no_failure_while_workers_come_and_go(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running(tmp_path, certificate=certificate, workers=2, arguments=DRAIN) as server:
        with Traffic(server, clients=4) as traffic:
            for workers in (4, 1, 3, 2):
                server.scale(workers)
                settled = time.monotonic()
                traffic.more(20)
                assert len({one.worker for one in traffic.visits(settled)}) == workers
        assert traffic.failures == []
        visits = traffic.visits()
        assert sum(one.resumed for one in visits) >= 0.98 * (len(visits) - 4)


def test_new_workers_take_connections(tmp_path: Path, certificate: Certificate) -> None:
    with running(tmp_path, certificate=certificate, workers=1, arguments=DRAIN) as server:
        before = {worker["id"] for worker in server.workers()}
        server.scale(3)
        context = client_context(certificate)
        seen = {visit(server.address, context).worker for _ in range(60)}
        assert len(seen) == 3
        assert before < seen


def test_a_download_outlives_the_scaling_down_of_its_worker(
    tmp_path: Path, certificate: Certificate
) -> None:
    """Draining finishes what goes on; it truncates nothing."""
    length = 8 * 1024 * 1024
    with running(tmp_path, certificate=certificate, workers=3, arguments=DRAIN) as server:
        streams = [TlsStream(server.address, client_context(certificate)) for _ in range(12)]
        answers = []
        for stream in streams:
            stream.tls.sendall(f"GET /bytes/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answers.append(stream.tls.recv(1024))
        assert server.command("scale", "1").returncode == 0
        for stream, head in zip(streams, answers, strict=True):
            assert read_answer(stream, head) == length
            stream.close()
        server.wait_ready(1)


def read_answer(stream: TlsStream, received: bytes) -> int:
    """Read the rest of an answer; the length of its body."""
    head, blank, body = received.partition(b"\r\n\r\n")
    assert blank
    assert head.startswith(b"HTTP/1.1 200")
    got, length = len(body), content_length(head)
    while got < length:
        chunk = stream.tls.recv(65536)
        assert chunk, f"closed after {got} of {length} bytes"
        got += len(chunk)
    return got


def content_length(head: bytes) -> int:
    """The value of Content-Length."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise AssertionError(head)


def test_idle_clients_of_a_worker_that_leaves_are_told_or_served(
    tmp_path: Path, certificate: Certificate
) -> None:
    """A kept-alive connection is closed with close_notify, never reset."""
    with running(tmp_path, certificate=certificate, workers=3, arguments=DRAIN) as server:
        streams = [TlsStream(server.address, client_context(certificate)) for _ in range(12)]
        homes = [stream.facts()["worker"] for stream in streams]
        assert len(set(homes)) == 3
        server.scale(1)
        (left,) = [worker["id"] for worker in server.workers()]
        for stream, home in zip(streams, homes, strict=True):
            if home == left:
                assert stream.facts()["worker"] == left
            else:
                assert stream.tls.recv(1) == b""  # close_notify; a truncation would raise
            stream.close()


def test_scaling_is_shown_and_bounded(tmp_path: Path, certificate: Certificate) -> None:
    with running(tmp_path, certificate=certificate, workers=1) as server:
        for wrong in ("0", "-1", "many"):
            refused = server.command("scale", wrong)
            assert refused.returncode == 2, refused
            assert "Traceback" not in refused.stderr
        assert server_ids(server) == server_ids(server)
        server.scale(2)
        assert len(server_ids(server)) == 2


def server_ids(server: Server) -> set[str]:
    """Names of the ready workers."""
    return {worker["id"] for worker in server.workers()}
