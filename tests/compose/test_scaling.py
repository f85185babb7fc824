"""Worker containers come and go under traffic, and no client notices."""

from __future__ import annotations

import time

import pytest

from tests.client import TlsStream, client_context
from tests.compose.deployment import DRAIN, Deployment
from tests.compose.engine import run
from tests.traffic import Traffic
from tests.waiting import eventually


@pytest.mark.parametrize("deployment", [1], indirect=True, ids=["1 worker"])
def test_scaling_up_and_down_costs_no_request(deployment: Deployment) -> None:
    first = deployment.workers()[0].inspect()["State"]
    with Traffic(deployment, clients=4) as traffic:
        for workers in (3, 2, 3, 1):
            deployment.scale(workers)
            deployment.wait_ready(workers)
            settled = time.monotonic()
            traffic.more(10)
            assert len({one.worker for one in traffic.visits(settled)}) == workers
    assert traffic.failures == []
    visits = traffic.visits(0)
    assert sum(one.resumed for one in visits) >= 0.98 * (len(visits) - 4)
    assert deployment.workers()[0].inspect()["State"]["StartedAt"] == first["StartedAt"]


def test_a_stopped_worker_finishes_what_goes_on_and_exits_with_0(deployment: Deployment) -> None:
    length = 8 * 1024 * 1024
    streams = [
        TlsStream(deployment.address, client_context(deployment.certificate)) for _ in range(6)
    ]
    workers = {stream.facts()["worker"] for stream in streams}
    assert len(workers) == 3
    for stream in streams:
        stream.tls.sendall(f"GET /bytes/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert stream.tls.recv(1)
    leaving = deployment.workers()[-1]
    leaving.signal("TERM")
    for stream in streams:
        assert read_to_end(stream, length) == length
        stream.close()
    eventually(
        lambda: leaving.inspect()["State"]["Status"] == "exited",
        within=DRAIN + 2,
        what="the drained container ended",
        every=0.1,
    )
    assert leaving.inspect()["State"]["ExitCode"] == 0
    run("docker", "start", leaving.id)
    deployment.wait_ready(3)


def read_to_end(stream: TlsStream, length: int) -> int:
    """Read the rest of an answer whose first byte was taken; how much of a body there was."""
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0 or len(received) - end - 4 < length:
        chunk = stream.tls.recv(65536)
        if not chunk:
            break
        received += chunk
    return len(received) - end - 4
