"""New connections spread: no worker gets more than 1.3 times the mean."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.server import Server, running

LIMIT = 1.3
VISITS = 960
"""Enough for a few seconds: in one tenth of a second a busy machine may run one worker alone."""


def share_of_the_busiest(server: Server, workers: int, clients: int) -> float:
    """Visits by so many clients at once; the busiest worker's part over the mean."""
    context = client_context(server.certificate)
    with ThreadPoolExecutor(clients) as pool:
        seen = Counter(pool.map(lambda _: visit(server.address, context).worker, range(VISITS)))
    assert len(seen) == workers, seen
    return max(seen.values()) * workers / VISITS


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_no_worker_gets_more_than_its_share(
    tmp_path: Path, certificate: Certificate, workers: int
) -> None:
    with running(tmp_path, certificate=certificate, workers=workers) as server:
        assert share_of_the_busiest(server, workers, clients=1) <= LIMIT
        assert share_of_the_busiest(server, workers, clients=8) <= LIMIT
