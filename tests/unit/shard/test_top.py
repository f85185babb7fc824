"""What is told of two status objects."""

from __future__ import annotations

from typing import Any

from shard.cli.top import rates


def status(time: float, boot: str, hits: int, **workers: int) -> dict[str, Any]:
    return {
        "time": time,
        "coordinator": {"boot": boot, "sessions": {"hits": hits, "misses": {"used": 1}}},
        "workers": [
            {"id": name, "handshakes": {"full": full, "resumed": 2 * full, "failed": 0}}
            for name, full in workers.items()
        ],
    }


def test_rates_are_of_the_time_between() -> None:
    (line,) = rates(status(10.0, "b", 4, w0=10, w1=5), status(12.0, "b", 10, w0=20, w1=7))
    assert line == ("a second  6.0 full, 12.0 resumed, 0.0 failed handshakes; 3.0 hits, 0.0 misses")


def test_whoever_is_new_counts_from_nothing() -> None:
    (line,) = rates(status(10.0, "b", 400, w0=10), status(11.0, "c", 7, w1=3))
    assert line == "a second  3.0 full, 6.0 resumed, 0.0 failed handshakes; 7.0 hits, 1.0 misses"


def test_no_time_has_no_rate() -> None:
    assert list(rates(status(10.0, "b", 0), status(10.0, "b", 9))) == []
