"""A worker container that dies or hangs takes its own connections along, and nothing else."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.client import TIMEOUT, client_context, visit
from tests.compose.deployment import Deployment
from tests.traffic import Traffic
from tests.waiting import eventually

CLIENTS = 4


def test_others_serve_when_one_is_killed(deployment: Deployment) -> None:
    victim = deployment.workers()[-1]
    with Traffic(deployment, clients=CLIENTS) as traffic:
        with deployment.killed(victim):
            traffic.more(30)
            # Each client may have been in the middle of one visit to the victim.
            failed = len(traffic.failures)
            assert failed <= CLIENTS
            traffic.more(30)
            assert len(traffic.failures) == failed
        deployment.wait_ready(3)
        settled = time.monotonic()
        traffic.more(20)
    assert len(traffic.failures) == failed
    assert len({one.worker for one in traffic.visits(settled)}) == 3


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_sessions_of_a_killed_worker_resume_elsewhere(deployment: Deployment, version: str) -> None:
    context = client_context(deployment.certificate, version)
    visits = [visit(deployment.address, context) for _ in range(12)]
    with deployment.killed(deployment.workers()[-1]):
        returns = [visit(deployment.address, context, before.session) for before in visits]
        # Four of the twelve sessions are the victim's.
        assert [one.resumed for one in returns] == [True] * 12
        assert len({one.worker for one in visits}) == 3
    deployment.wait_ready(3)


def test_a_crashed_container_is_started_again(deployment: Deployment) -> None:
    """A crash, unlike a kill by the engine's command, is for the restart policy."""
    victim = deployment.workers()[-1]
    before = victim.inspect()
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    eventually(
        lambda: victim.inspect()["RestartCount"] == before["RestartCount"] + 1,
        within=10,
        what="the engine started it again",
        every=0.1,
    )
    deployment.wait_ready(3)


def test_a_hanging_worker_gets_no_clients(deployment: Deployment) -> None:
    """It accepts connections all the same, by the kernel's hand: the balancer's check tells."""
    context = client_context(deployment.certificate)
    with deployment.paused(deployment.workers()[-1]):

        def noticed() -> bool:
            for _ in range(6):
                visit(deployment.address, context, timeout=0.5)
            return True

        eventually(noticed, within=TIMEOUT, what="the balancer leaves it out")
        assert len(deployment.answering(12)) == 2
    deployment.wait_ready(3)
