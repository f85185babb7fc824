"""The promises about the TCP proxy's cost, beside others in the same run."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest

from tests.bench.proxy import Ends, compared, measure
from tests.bench.subjects import Subject
from tests.peers import peer

OTHERS = ("haproxy", "nginx", "hitch")
"""As they come; nginx with larger buffers is shown beside them."""
Compared = tuple[Ends, list[Subject]]


@pytest.fixture(scope="module")
def all_of_them() -> Iterator[Compared]:
    peer("haproxy")
    with compared() as running:
        yield running


def medians(running: Compared, operation: str, rounds: int, count: int) -> dict[str, float]:
    ends, subjects = running
    used = measure(ends, subjects, operation, "TLSv1.3", rounds, count)
    found = {name: median(figures) for name, figures in used.items()}
    print(operation, {name: round(figure, 1) for name, figure in found.items()})
    return found


@pytest.mark.parametrize("operation", ["download", "upload"])
def test_a_byte_costs_no_more_than_with_the_best(all_of_them: Compared, operation: str) -> None:
    found = medians(all_of_them, operation, 9, 0)
    assert found["shardtls"] <= min(found[name] for name in OTHERS if name in found)


@pytest.mark.parametrize(("operation", "count"), [("request", 20_000), ("connection", 500)])
def test_a_request_costs_no_more_than_with_haproxy(
    all_of_them: Compared, operation: str, count: int
) -> None:
    found = medians(all_of_them, operation, 9, count)
    assert found["shardtls"] <= found["haproxy"]
