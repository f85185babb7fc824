"""The coordinator killed or stopped costs resumption, never service.

Promises: every client is served by full handshakes; no handshake waits past the lookup deadline;
within a second of its return sessions resume again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, client_context, visit
from tests.processes import stopped
from tests.server import Server, running
from tests.traffic import Traffic
from tests.waiting import eventually, pause

LOOKUP_TIMEOUT = 0.02
MARGIN = 0.5
"""Seconds for a handshake itself, on a machine with two cores and four busy clients."""
RETURN = 1.0
"""Seconds from the coordinator's return to resumption."""


@pytest.fixture
def server(tmp_path: Path, certificate: Certificate) -> Iterator[Server]:
    with running(
        tmp_path,
        certificate=certificate,
        workers=2,
        arguments=["--lookup-timeout", str(LOOKUP_TIMEOUT), "--lease-timeout", "1"],
    ) as started:
        yield started


def resumes(server: Server, version: str) -> bool:
    """Whether an immediate return resumes."""
    context = client_context(server.certificate, version)
    session = visit(server.address, context).session
    return visit(server.address, context, session).resumed


def all_resume_within_a_second(server: Server, returned: float) -> None:
    """Both versions, on visits to every worker."""
    for version in ("TLSv1.3", "TLSv1.2"):
        eventually(
            lambda version=version: all(resumes(server, version) for _ in range(6)),  # type: ignore[misc]
            within=max(0.0, returned + RETURN - time.monotonic()),
            what=f"{version} resumes again",
        )


def was_answering(server: Server, not_pid: int) -> bool:
    """A new coordinator answers."""
    return server.coordinator_pid() != not_pid


def served_without_delay(traffic: Traffic, since: float, until: float) -> None:
    """Everyone was served, and nobody waited for a coordinator that does not answer."""
    assert traffic.failures == []
    during = traffic.visits(since, until)
    assert len(during) >= 20
    slowest = max(one.handshake_seconds for one in during)
    assert slowest <= LOOKUP_TIMEOUT + MARGIN, f"a handshake took {slowest:.3f} s"


def test_killed_under_traffic(server: Server) -> None:
    old = server.coordinator_pid()
    with Traffic(server, clients=4) as traffic:
        killed = time.monotonic()
        os.kill(old, signal.SIGKILL)
        eventually(lambda: was_answering(server, old), within=5, what="a new coordinator")
        returned = time.monotonic()
        all_resume_within_a_second(server, returned)
        traffic.more(5)
        served_without_delay(traffic, killed, time.monotonic())
    eventually(lambda: len(server.workers()) == 2, within=2, what="both workers registered again")


def test_stopped_under_traffic(server: Server) -> None:
    with Traffic(server, clients=4) as traffic:
        with stopped(server.coordinator_pid()):
            began = time.monotonic()
            pause(3.0)
            ended = time.monotonic()
        all_resume_within_a_second(server, ended)
        served_without_delay(traffic, began, ended)
        # Those of the last moment may have been answered by a coordinator that goes on.
        asked = traffic.visits(began + 0.5, ended - 10 * LOOKUP_TIMEOUT)
        assert not any(one.resumed for one in asked), "nobody can know a session now"
        # The breaker is open: most clients do not even wait for the deadline.
        waited = sorted(one.handshake_seconds for one in asked)
        before = sorted(one.handshake_seconds for one in traffic.visits(until=began))
        middle, usual = waited[len(waited) // 2], before[len(before) // 2]
        assert middle <= usual + LOOKUP_TIMEOUT, (middle, usual)
    eventually(lambda: len(server.workers()) == 2, within=3, what="both workers shown as ready")


def test_connections_outlive_the_coordinator(server: Server) -> None:
    old = server.coordinator_pid()
    with TlsStream(server.address, client_context(server.certificate)) as stream:
        first = stream.facts()
        os.kill(old, signal.SIGKILL)
        for _ in range(20):
            assert stream.facts() == first
        eventually(lambda: was_answering(server, old), within=5, what="a new coordinator")
        assert stream.facts() == first


def test_killed_again_and_again(server: Server) -> None:
    """The supervisor brings it back every time; no worker is restarted for it."""
    workers = server.worker_pids()
    context = client_context(server.certificate)
    for _ in range(3):
        old = server.coordinator_pid()
        os.kill(old, signal.SIGKILL)
        visit(server.address, context)
        eventually(lambda old=old: was_answering(server, old), within=8, what="a new coordinator")  # type: ignore[misc]
        eventually(lambda: server.worker_pids() == workers, within=2, what="the same workers")


def test_workers_start_while_the_coordinator_is_stopped(server: Server) -> None:
    """A worker that dies meanwhile is replaced all the same: local entropy, no session cache."""
    victim = server.workers()[0]["pid"]
    with stopped(server.coordinator_pid()):
        os.kill(victim, signal.SIGKILL)
        context = client_context(server.certificate)
        # Not replaced, the other worker would answer all of these.
        eventually(
            lambda: len({visit(server.address, context).worker for _ in range(8)}) == 2,
            within=5,
            what="two workers serve",
        )
    # It still shows the dead one as ready at first: what was sent meanwhile waits to be read.
    eventually(
        lambda: len(server.worker_pids() - {victim}) == 2 and victim not in server.worker_pids(),
        within=3,
        what="the worker and the new one shown as ready, the dead one gone",
    )


def test_no_worker_is_restarted_because_the_coordinator_was_stopped(server: Server) -> None:
    """For several leases: who does not listen does not judge."""
    workers = server.worker_pids()
    with stopped(server.coordinator_pid()):
        pause(5.0)
    eventually(lambda: len(server.workers()) == 2, within=2, what="both workers shown as ready")
    assert server.worker_pids() == workers
    log = server.log.read_text()
    assert "process killed" not in log
    assert "member lost" not in log
