from __future__ import annotations

import math
from typing import Any

import pytest

from coordinator.errors import MessageError
from coordinator.stats import SupervisorStats, WorkerStats


def test_a_whole_report_is_read() -> None:
    stats = WorkerStats.read(
        {
            "connections": 3,
            "handshakes": {"full": 5, "resumed": 7, "failed": 1},
            "lookups": {"hits": 7, "misses": {"deadline": 2}},
            "breaker": "open",
            "bytes": {"received": 10, "sent": 20},
            "ended": {"done": 9},
            "drbg": {"requests": 100, "reseeds": 2, "seeded_from": "local", "last_reseed_age": 1.5},
            "of a newer version": object(),
        }
    )
    assert (stats.full, stats.resumed, stats.failed) == (5, 7, 1)
    assert stats.lookup_misses == {"deadline": 2}
    assert (stats.received_bytes, stats.sent_bytes) == (10, 20)
    assert stats.drbg.last_reseed_age == 1.5


def test_an_empty_report_is_all_zero() -> None:
    assert WorkerStats.read({}) == WorkerStats()
    assert SupervisorStats.read({}) == SupervisorStats()


@pytest.mark.parametrize(
    "report",
    [
        {"connections": -1},
        {"connections": 1.5},
        {"connections": True},
        {"connections": 2**63},
        {"handshakes": [1]},
        {"handshakes": {"full": "1"}},
        {"lookups": {"misses": {"deadline": -1}}},
        {"lookups": {"misses": {str(n): 1 for n in range(40)}}},
        {"lookups": {"misses": {"x" * 65: 1}}},
        {"lookups": {"misses": {"a\nb": 1}}},
        {"backends": [1]},
        {"backends": {"a:1": 1}},
        {"backends": {"a:1": {"connections": -1}}},
        {"backends": {"": {}}},
        {"backends": {"a\n": {}}},
        {"backends": {"a" * 301: {}}},
        {"backends": {str(n): {} for n in range(257)}},
        {"breaker": b"open"},
        {"breaker": "x" * 65},
        {"drbg": {"last_reseed_age": math.nan}},
        {"drbg": {"last_reseed_age": math.inf}},
        {"drbg": {"last_reseed_age": "1"}},
    ],
)
def test_nothing_of_the_wrong_kind_gets_into_status_or_metrics(report: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as refused:
        WorkerStats.read(report)
    assert refused.value.code == "shape"
