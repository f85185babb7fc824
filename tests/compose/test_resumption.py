"""A session begun in one container resumes in any other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client import client_context, visit
from tests.compose.deployment import Deployment

pytestmark = pytest.mark.parametrize("deployment", [4], indirect=True, ids=["4 workers"])

VISITS = 120
AT_LEAST = 0.99
"""Share of returning visits that must resume."""


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_an_immediate_return_resumes_in_another_container(
    deployment: Deployment, version: str
) -> None:
    context = client_context(deployment.certificate, version)
    before = visit(deployment.address, context)
    resumed = moved = 0
    workers = set()
    for _ in range(VISITS):
        made = visit(deployment.address, context, before.session)
        assert made.facts["version"] == version
        assert made.resumed == made.facts["resumed"]
        resumed += made.resumed
        moved += made.worker != before.worker
        workers.add(made.worker)
        before = made
    assert resumed >= AT_LEAST * VISITS
    assert len(workers) == 4
    assert moved >= VISITS / 2, "the balancer sends clients to the same container"


def test_a_ticket_offered_to_several_containers_at_once_resumes_once(
    deployment: Deployment,
) -> None:
    context = client_context(deployment.certificate, "TLSv1.3")
    rounds = 10
    total = 0
    with ThreadPoolExecutor(4) as pool:
        for _ in range(rounds):
            ticket = visit(deployment.address, context).session
            offers = [pool.submit(visit, deployment.address, context, ticket) for _ in range(4)]
            visits = [offer.result() for offer in offers]
            assert len({one.worker for one in visits}) > 1
            resumed = sum(one.resumed for one in visits)
            assert resumed <= 1
            total += resumed
    assert total >= rounds - 1
