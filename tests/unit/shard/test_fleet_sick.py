"""Workers that cannot go on: those that say so, and those that say nothing any more."""

from __future__ import annotations

from shard.fleet import DRAIN_GRACE
from shard.fleet_actions import Done, Kill
from shard.post import FIRST_DELAY, LONGEST_DELAY
from tests.fleets import DRAIN, of, serving, spawned


def test_a_worker_that_leaves_by_itself_is_replaced_at_once_and_may_finish() -> None:
    running = serving()
    assert spawned(running.leaving("g-1.1", "the DRBG has failed", 100)) == ["g-1.2"]
    assert running.leaving("g-1.1", "said twice", 100) == []
    assert running.restarts == 1
    running.ready("g-1.2", 100)
    assert of(Kill, running.tick(100 + DRAIN + DRAIN_GRACE - 0.1)) == []
    assert running.exited("g-1.1", "exit status 4", 105) == []


def test_one_that_leaves_and_never_ends_is_killed() -> None:
    running = serving()
    running.leaving("g-1.1", "the DRBG has failed", 100)
    (kill,) = of(Kill, running.tick(100 + DRAIN + DRAIN_GRACE))
    assert kill == Kill("g-1.1", "not gone in time")


def test_if_it_goes_on_replacements_wait_longer_and_longer_but_nothing_stops() -> None:
    running = serving()
    now, name = 100.0, "g-1.1"
    delays = []
    for _ in range(8):
        actions = running.leaving(name, "the DRBG has failed", now)
        left = now
        while not spawned(actions):
            now = running.deadline() or now
            actions = running.tick(now)
        delays.append(now - left)
        (name,) = spawned(actions)
        running.ready(name, now)
    assert delays[:4] == [0, 0, FIRST_DELAY, 2 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    assert running.state == "ready"


def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    running = serving()
    assert running.hung("g-1.1", "no sign of life for 2 s", 100) == [
        Kill("g-1.1", "no sign of life for 2 s")
    ]
    assert running.hung("nobody", "", 100) == []
    assert running.tick(101) == []
    assert spawned(running.exited("g-1.1", "killed by SIGKILL", 101)) == ["g-1.2"]


def test_a_worker_that_leaves_is_given_its_time_however_silent_it_is() -> None:
    running = serving()
    running.drain("g-1.1", "t", 100)
    running.ready("g-1.2", 100)
    assert running.hung("g-1.1", "no sign of life", 101) == []


def test_a_drain_of_one_that_leaves_by_itself_is_done() -> None:
    running = serving()
    running.drain("g-1.1", "t", 100)
    (done,) = of(Done, running.leaving("g-1.1", "the DRBG has failed", 100))
    assert (done.ticket, done.ok) == ("t", True)
    assert running.ready("g-1.2", 101) == []
