"""A lost coordinator costs resumption, never a request; and only until it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.client import client_context, visit
from tests.compose.deployment import Deployment
from tests.compose.engine import Container
from tests.traffic import Traffic
from tests.waiting import eventually, pause

AWAY = 2.5
"""Seconds without a coordinator: longer than its peers' heartbeat timeout of 1.5 s."""
SETTLED = 0.5
"""Seconds after which nothing resumes any more: what was being answered is."""
LONGEST_VISIT = 1.0
"""Seconds. A visit takes some milliseconds and one lookup's deadline (20 ms) more; the rest is for
a busy machine. Whoever waited for the coordinator would take longer."""


Loss = Callable[[Deployment, Container], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("loss", "back"),
    [
        pytest.param(Deployment.killed, 1.0, id="killed"),
        pytest.param(Deployment.paused, 1.0, id="paused"),
        # The peers' next attempt to connect may just have begun: SYNs go out after 1 s again.
        pytest.param(Deployment.cut_off, 2.5, id="cut off"),
    ],
)
def test_every_request_is_served_without_a_coordinator(
    deployment: Deployment, loss: Loss, back: float
) -> None:
    """
    :param back: seconds until sessions resume again, on every worker, once it is back.
    """
    with Traffic(deployment, clients=4) as traffic:
        with loss(deployment, deployment.one("coordinator")):
            lost = time.monotonic()
            pause(AWAY)
            returned = time.monotonic()
        eventually(deployment.status, within=10, what="the coordinator answers", every=0.02)
        # A container that was killed has to boot first.
        answering = time.monotonic()
        pause(back)
        recovered = time.monotonic()
        traffic.more(20)
    assert traffic.failures == []
    without = traffic.visits(lost + SETTLED, returned)
    assert len(without) >= 20
    assert not any(one.resumed for one in without)
    assert max(one.seconds for one in traffic.visits(lost)) < LONGEST_VISIT
    after = traffic.visits(recovered)
    # The first visits of the four clients offer what was issued before.
    assert sum(one.resumed for one in after) >= 0.98 * (len(after) - 4), answering - returned
    deployment.wait_ready(3)


def test_a_worker_starts_and_serves_without_a_coordinator(deployment: Deployment) -> None:
    known = deployment.answering(6)
    with deployment.killed(deployment.one("coordinator")):
        deployment.scale(4)
        eventually(
            lambda: len(deployment.answering(8)) == 4, within=20, what="four workers", every=0.1
        )
    deployment.wait_ready(4)
    assert known < {worker["id"] for worker in deployment.ready()}
    context = client_context(deployment.certificate)

    def all_resume() -> bool:
        visits = [visit(deployment.address, context) for _ in range(8)]
        return all(visit(deployment.address, context, one.session).resumed for one in visits)

    eventually(all_resume, within=2, what="sessions resume on all four")
