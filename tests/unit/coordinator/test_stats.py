from __future__ import annotations

import math
from typing import Any

import pytest

from coordinator.errors import MessageError
from coordinator.stats import (
    MAX_SERVER_NAMES,
    OTHER,
    LookupStats,
    MessageStats,
    SupervisorStats,
    WorkerStats,
)


def test_a_whole_report_is_read() -> None:
    stats = WorkerStats.read(
        {
            "connections": 3,
            "handshakes": {"full": 5, "resumed": 7, "failed": 1},
            "lookups": {
                "hits": 7,
                "misses": {"deadline": 2},
                "server_names": {"a.example": {"hits": 7, "misses": {"deadline": 2}}},
                "late": 4,
            },
            "puts": {"sent": 11, "dropped": 2},
            "breaker": "open",
            "breaker_opened": 3,
            "messages": {
                "sessions": {"undeliverable": 1, "malformed": 2, "refused": 3},
                "control": {"refused": 6},
            },
            "bytes": {"received": 10, "sent": 20},
            "ended": {"done": 9},
            "drbg": {"requests": 100, "reseeds": 2, "seeded_from": "local", "last_reseed_age": 1.5},
            "of a newer version": object(),
        }
    )
    assert (stats.full, stats.resumed, stats.failed) == (5, 7, 1)
    assert stats.lookups == LookupStats(7, {"deadline": 2})
    assert stats.server_names == {"a.example": stats.lookups}
    assert (stats.received_bytes, stats.sent_bytes) == (10, 20)
    assert stats.drbg.last_reseed_age == 1.5
    assert not stats.drbg.failed
    assert (stats.lookups_late, stats.breaker_opened) == (4, 3)
    assert (stats.puts_sent, stats.puts_dropped) == (11, 2)
    assert stats.sessions_messages == MessageStats(undeliverable=1, malformed=2, refused=3)
    assert stats.control_messages == MessageStats(refused=6)


def test_a_failed_generator_and_a_local_seed_are_read() -> None:
    drbg = {"failed": True, "seeded_from": "local", "local_reason": "no answer"}
    stats = WorkerStats.read({"drbg": drbg}).drbg
    assert (stats.failed, stats.seeded_from, stats.local_reason) == (True, "local", "no answer")


def test_server_names_are_bounded_and_the_first_ones_stay() -> None:
    """However many names a worker tells, and in every report the same."""
    names = {f"{n}.example": {"hits": 1, "misses": {"used": n % 2}} for n in range(100)}
    stats = WorkerStats.read({"lookups": {"server_names": {**names, OTHER: {"hits": 5}}}})
    assert list(stats.server_names)[:MAX_SERVER_NAMES] == list(names)[:MAX_SERVER_NAMES]
    assert len(stats.server_names) == MAX_SERVER_NAMES + 1
    rest = 100 - MAX_SERVER_NAMES
    assert stats.server_names[OTHER] == LookupStats(rest + 5, {"used": rest // 2})


@pytest.mark.parametrize("name", [1, "n" * 256, "a\nb", b"a"])
def test_a_server_name_is_a_short_printable_string(name: object) -> None:
    with pytest.raises(MessageError):
        WorkerStats.read({"lookups": {"server_names": {name: {}}}})


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
        {"lookups": {"late": -1}},
        {"puts": {"sent": 1.0}},
        {"messages": {"sessions": [1]}},
        {"messages": {"control": {"refused": True}}},
        {"drbg": {"failed": 1}},
        {"drbg": {"local_reason": "x" * 65}},
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
