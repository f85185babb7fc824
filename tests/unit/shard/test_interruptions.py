"""What three clocks say of a time in which nothing ran."""

from __future__ import annotations

import pytest

from shard.interruptions import FROZEN, JUMP, Clocks, Interruptions

START = Clocks(monotonic=1000.0, boottime=5000.0, realtime=1.8e9)


def after(ran: float, slept: float = 0.0, set_by: float = 0.0) -> str | None:
    """What is said after so many seconds of running and of suspension, with the wall clock set."""
    watch = Interruptions()
    assert watch.look(START) is None
    return watch.look(
        Clocks(
            START.monotonic + ran,
            START.boottime + ran + slept,
            START.realtime + ran + slept + set_by,
        )
    )


@pytest.mark.parametrize(
    ("ran", "slept", "set_by", "said"),
    [
        (0.25, 0.0, 0.0, None),
        (0.25, 3600.0, 0.0, "suspended"),
        (0.25, JUMP + 0.1, 0.0, "suspended"),
        (0.25, JUMP - 0.1, 0.0, None),
        # A virtual machine from a snapshot of yesterday.
        (0.25, 0.0, 86400.0, "suspended"),
        (0.25, 0.0, -86400.0, "suspended"),
        (0.25, 0.0, JUMP - 0.1, None),
        (FROZEN + 0.1, 0.0, 0.0, "continued"),
        (FROZEN - 0.1, 0.0, 0.0, None),
        (FROZEN + 0.1, 60.0, 0.0, "suspended"),
    ],
)
def test_what_is_told(ran: float, slept: float, set_by: float, said: str | None) -> None:
    assert after(ran, slept, set_by) == said


def test_an_interruption_is_told_once() -> None:
    watch = Interruptions()
    watch.look(START)
    later = Clocks(START.monotonic + 0.2, START.boottime + 100.2, START.realtime + 100.2)
    assert watch.look(later) == "suspended"
    assert watch.look(later) is None


def test_a_clock_that_is_slewed_is_no_interruption_however_long() -> None:
    watch = Interruptions()
    now = START
    for _ in range(20000):
        assert watch.look(now) is None
        now = Clocks(now.monotonic + 0.25, now.boottime + 0.25, now.realtime + 0.25 * 1.0005)
    assert now.realtime - START.realtime > now.monotonic - START.monotonic + 2 * JUMP
