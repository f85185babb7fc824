"""The promise about cost: at most so much of nginx' CPU, in the same run."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import pytest

from tests.bench.generators import Generators
from tests.bench.handshakes import OPERATIONS, measure, report
from tests.bench.subjects import Subject, nginx, shardtls
from tests.certificates import Certificate
from tests.peers import peer

FULL_TLS13 = 0.8
"""Times nginx, for a full TLS 1.3 handshake."""


@pytest.fixture(scope="module")
def subjects(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[list[Subject]]:
    peer("nginx")
    folder = tmp_path_factory.mktemp("bench")
    with (
        shardtls(folder / "shardtls", certificate, workers=2) as ours,
        nginx(folder / "nginx", certificate, workers=2) as theirs,
    ):
        yield [ours, theirs]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_figures_are_valid(subjects: list[Subject], operation: str) -> None:
    """Every operation does what its name says, on both servers."""
    with Generators(2) as generators:
        series = measure(generators, subjects, operation, rounds=1, count=300, clients=16)
    print("\n".join(report(operation, series)))
    assert {name: rounds.doubt(OPERATIONS[operation]) for name, rounds in series.items()} == {
        "shardtls": None,
        "nginx": None,
    }


def test_a_full_tls13_handshake_costs_less_than_nginx(subjects: list[Subject]) -> None:
    with Generators(2) as generators:
        series = measure(generators, subjects, "tls13-full", rounds=7, count=1500, clients=16)
    print("\n".join(report("tls13-full", series)))
    ours, theirs = median(series["shardtls"].micros), median(series["nginx"].micros)
    assert ours <= FULL_TLS13 * theirs, f"{ours:.0f} µs beside {theirs:.0f} µs"
