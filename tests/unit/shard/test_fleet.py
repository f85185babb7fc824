"""The fleet: scripts of what happens, and what is to be done about it."""

from __future__ import annotations

import pytest

from shard.fleet import BOOT_TIMEOUT, COORDINATOR, DRAIN_GRACE, STOP_GRACE
from shard.fleet_actions import Done, Finish, Kill, Serving, Spawn, Tell
from shard.post import BOOT_FAILURES, FIRST_DELAY, LONGEST_DELAY, YOUNG
from tests.fleets import DRAIN, fleet, of, serving, spawned


def test_workers_wait_for_the_coordinator_and_serving_comes_once() -> None:
    started = fleet()
    assert spawned(started.start(0)) == [COORDINATOR]
    assert started.state == "starting"
    assert spawned(started.ready(COORDINATOR, 0)) == ["g-0.1", "g-1.1"]
    assert started.ready("g-1.1", 0) == []
    assert started.ready("g-0.1", 0) == [Serving()]
    assert started.state == "ready"
    assert started.ready("g-0.1", 0) == []


def test_without_a_coordinator_of_ours_workers_start_at_once() -> None:
    assert spawned(fleet(has_coordinator=False).start(0)) == ["g-0.1", "g-1.1"]


def test_a_coordinator_alone() -> None:
    alone = fleet(0)
    assert spawned(alone.start(0)) == [COORDINATOR]
    assert alone.ready(COORDINATOR, 0) == [Serving()]
    (refused,) = of(Done, alone.scale(2, "t", 1))
    assert not refused.ok
    assert alone.terminate(1) == [Tell(COORDINATOR, "stop")]
    assert alone.exited(COORDINATOR, "exit status 0", 1) == [Finish(0, None)]


def test_a_worker_that_dies_is_replaced_at_once_in_its_slot() -> None:
    running = serving()
    assert spawned(running.exited("g-1.1", "killed by SIGKILL", 100)) == ["g-1.2"]
    assert running.restarts == 1
    assert running.ready("g-1.2", 100) == []


def test_the_coordinator_is_restarted_and_workers_stay() -> None:
    running = serving()
    assert running.exited(COORDINATOR, "killed by SIGKILL", 100) == [Spawn(COORDINATOR, None, 0)]
    assert running.ready(COORDINATOR, 100) == []


def test_a_worker_is_replaced_while_the_coordinator_is_gone() -> None:
    running = serving()
    running.exited(COORDINATOR, "killed", 100)
    assert spawned(running.exited("g-0.1", "killed", 100)) == ["g-0.2"]


def test_what_dies_young_again_and_again_is_restarted_ever_later() -> None:
    running = serving(1)
    now, delays, serial = 0.0, [], 1
    for _ in range(9):
        actions = running.exited(f"g-0.{serial}", "exit status 1", now)
        died = now
        if not spawned(actions):
            deadline = running.deadline()
            assert deadline is not None
            assert spawned(running.tick(deadline - 0.01)) == []
            now = deadline
            actions = running.tick(now)
        delays.append(now - died)
        serial += 1
        assert spawned(actions) == [f"g-0.{serial}"]
        running.ready(f"g-0.{serial}", now)
    assert delays[:4] == pytest.approx([0, FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY])
    assert delays[-1] == pytest.approx(LONGEST_DELAY)
    # Once one has lived for a while, all is forgiven.
    assert spawned(running.exited(f"g-0.{serial}", "exit status 1", now + YOUNG)) == ["g-0.11"]


def test_boot_failures_before_anything_was_ready_stop_everything_with_the_reason() -> None:
    started = fleet(1)
    started.start(0)
    started.ready(COORDINATOR, 0)
    now, actions = 0.0, []
    for serial in range(1, BOOT_FAILURES + 1):
        started.failed(f"g-0.{serial}", "no module named 'nowhere'")
        actions = started.exited(f"g-0.{serial}", "exit status 3", now)
        deadline = started.deadline()
        if serial < BOOT_FAILURES and not spawned(actions):
            assert deadline is not None
            now = deadline
            assert spawned(started.tick(now))
    assert actions == [Tell(COORDINATOR, "stop")]
    (end,) = started.exited(COORDINATOR, "exit status 0", now)
    assert end == Finish(3, "a worker does not start: no module named 'nowhere'")


def test_a_coordinator_that_does_not_start_is_given_up() -> None:
    started = fleet()
    started.start(0)
    now, actions = 0.0, []
    for _ in range(BOOT_FAILURES):
        actions = started.exited(COORDINATOR, "exit status 1", now)
        if not actions:
            deadline = started.deadline()
            assert deadline is not None
            now = deadline
            started.tick(now)
    assert actions == [Finish(3, "the coordinator does not start: exit status 1")]


def test_once_something_was_ready_boot_failures_stop_nothing() -> None:
    running = serving(1)
    now = 100.0
    running.exited("g-0.1", "killed", now)
    for serial in range(2, 2 + 3 * BOOT_FAILURES):
        actions = running.exited(f"g-0.{serial}", "exit status 3", now)
        assert not of(Finish, actions)
        if not spawned(actions):
            deadline = running.deadline()
            assert deadline is not None
            now = deadline
            assert spawned(running.tick(now))


def test_a_process_that_never_gets_ready_is_killed_and_counts_as_a_failure() -> None:
    started = fleet(1, has_coordinator=False)
    started.start(0)
    assert started.deadline() == BOOT_TIMEOUT
    assert of(Kill, started.tick(BOOT_TIMEOUT - 1)) == []
    assert [kill.name for kill in of(Kill, started.tick(BOOT_TIMEOUT))] == ["g-0.1"]
    assert of(Kill, started.tick(BOOT_TIMEOUT + 1)) == []
    assert spawned(started.exited("g-0.1", "killed by SIGKILL", BOOT_TIMEOUT + 1)) == ["g-0.2"]


def test_scaling_up_is_done_when_the_new_ones_are_ready() -> None:
    running = serving()
    actions = running.scale(4, "t", 1)
    assert spawned(actions) == ["g-2.1", "g-3.1"]
    assert of(Done, actions) == []
    assert running.ready("g-2.1", 1) == []
    assert running.ready("g-3.1", 1) == [Done("t", ok=True, detail="4 workers")]


def test_scaling_down_drains_the_highest_slots_and_is_done_at_once() -> None:
    running = serving(3)
    actions = running.scale(1, "t", 1)
    assert of(Tell, actions) == [Tell("g-1.1", "drain"), Tell("g-2.1", "drain")]
    assert of(Done, actions) == [Done("t", ok=True, detail="1 worker")]
    assert running.deadline() == 1 + DRAIN + DRAIN_GRACE
    assert running.exited("g-2.1", "exit status 0", 2) == []
    # The other one does not leave in time.
    assert [k.name for k in of(Kill, running.tick(1 + DRAIN + DRAIN_GRACE))] == ["g-1.1"]
    assert running.exited("g-1.1", "killed by SIGKILL", 14) == []


def test_a_slot_that_comes_back_gets_a_new_worker_beside_the_draining_one() -> None:
    running = serving(2)
    running.scale(1, "down", 1)
    assert spawned(running.scale(2, "up", 1)) == ["g-1.2"]
    assert running.exited("g-1.1", "exit status 0", 2) == []
    assert running.ready("g-1.2", 2) == [Done("up", ok=True, detail="2 workers")]


def test_a_worker_still_starting_is_stopped_rather_than_drained() -> None:
    running = serving(1)
    running.scale(2, "up", 1)
    actions = running.scale(1, "down", 1)
    assert Tell("g-1.1", "stop") in actions
    assert Done("up", ok=False, detail="superseded by a later scale") in actions


def test_scaling_below_one_is_refused() -> None:
    running = serving(1)
    (refused,) = running.scale(0, "t", 1)
    assert refused == Done("t", ok=False, detail="at least one worker has to stay")
    assert running.wanted == 1


def test_scaling_up_fails_with_the_reason_if_the_new_worker_does_not_start() -> None:
    running = serving(1)
    running.scale(2, "t", 1)
    now, done = 1.0, []
    for serial in range(1, BOOT_FAILURES + 1):
        running.failed(f"g-1.{serial}", "no memory")
        done += of(Done, running.exited(f"g-1.{serial}", "exit status 3", now))
        deadline = running.deadline()
        assert deadline is not None
        now = max(now, deadline)
        done += of(Done, running.tick(now))
    assert done == [Done("t", ok=False, detail="a new worker does not start: no memory")]


def test_drain_starts_the_successor_first() -> None:
    running = serving()
    assert running.drain("g-0.1", "t", 1) == [Spawn("g-0.2", 0, 0)]
    assert running.ready("g-0.2", 2) == [
        Tell("g-0.1", "drain"),
        Done("t", ok=True, detail="g-0.2 replaces it"),
    ]
    assert running.exited("g-0.1", "exit status 0", 3) == []


def test_drain_leaves_the_old_worker_if_no_successor_starts() -> None:
    running = serving(1)
    running.drain("g-0.1", "t", 10)
    now, done = 10.0, []
    for serial in range(2, 2 + BOOT_FAILURES):
        done += running.exited(f"g-0.{serial}", "exit status 3", now)
        deadline = running.deadline()
        if deadline is not None and of(Done, done) == []:
            now = deadline
            done += running.tick(now)
    (failed,) = of(Done, done)
    assert not failed.ok
    assert of(Tell, done) == []
    assert running.tick(now + 60) == []


def test_a_worker_that_dies_while_its_successor_starts_is_drained_all_the_same() -> None:
    running = serving(1)
    running.drain("g-0.1", "t", 10)
    assert running.exited("g-0.1", "killed", 10) == [
        Done("t", ok=True, detail="it ended by itself")
    ]
    assert running.ready("g-0.2", 11) == []


@pytest.mark.parametrize("worker", ["nobody", COORDINATOR])
def test_draining_what_is_no_worker_is_refused(worker: str) -> None:
    (refused,) = serving().drain(worker, "t", 1)
    assert isinstance(refused, Done)
    assert not refused.ok


def test_draining_twice_is_refused() -> None:
    running = serving()
    running.drain("g-0.1", "first", 1)
    (refused,) = of(Done, running.drain("g-0.1", "second", 1))
    assert refused.ticket == "second"
    assert not refused.ok


def test_a_roll_replaces_one_slot_at_a_time() -> None:
    running = serving(2)
    assert running.roll("t", DRAIN, 1) == [Spawn("g-0.2", 0, 1)]
    assert running.generations() == {0, 1}
    assert running.ready("g-0.2", 2) == [Tell("g-0.1", "drain"), Spawn("g-1.2", 1, 1)]
    assert running.ready("g-1.2", 3) == [
        Tell("g-1.1", "drain"),
        Done("t", ok=True, detail="2 workers replaced"),
    ]
    assert running.generations() == {1}


def test_a_worker_that_dies_during_a_roll_comes_back_in_the_new_generation() -> None:
    running = serving(2)
    running.roll("t", DRAIN, 10)
    assert running.exited("g-1.1", "killed", 10) == [Spawn("g-1.2", 1, 1)]
    assert of(Done, running.ready("g-0.2", 11)) == []
    assert of(Done, running.ready("g-1.2", 11)) == [Done("t", ok=True, detail="2 workers replaced")]


def test_a_roll_that_fails_goes_back_to_what_worked() -> None:
    running = serving(2)
    running.roll("t", DRAIN, 10)
    running.ready("g-0.2", 10)  # slot 0 is rolled, then the next one fails
    now, seen = 10.0, []
    for serial in range(2, 2 + BOOT_FAILURES):
        running.failed(f"g-1.{serial}", "broken")
        seen += running.exited(f"g-1.{serial}", "exit status 3", now)
        deadline = running.deadline()
        if deadline is not None and not of(Done, seen):
            now = deadline
            seen += running.tick(now)
    (failed,) = of(Done, seen)
    assert failed.ticket == "t"
    assert not failed.ok
    assert "broken" in failed.detail
    assert running.generation == 0
    assert Spawn("g-0.3", 0, 0) in seen  # and slot 0 is rolled back
    assert running.ready("g-0.3", now) == [Tell("g-0.2", "drain")]


def test_a_later_roll_supersedes_one_that_goes_on() -> None:
    running = serving(1)
    running.roll("first", DRAIN, 1)
    actions = running.roll("second", DRAIN, 1)
    assert of(Done, actions) == [Done("first", ok=False, detail="superseded by a later reload")]
    # What has started meanwhile takes over, and is replaced in its turn.
    assert running.ready("g-0.2", 2) == [Tell("g-0.1", "drain"), Spawn("g-0.3", 0, 2)]
    assert of(Done, running.ready("g-0.3", 3)) == [
        Done("second", ok=True, detail="1 worker replaced")
    ]


def test_terminating_drains_workers_then_stops_the_coordinator() -> None:
    running = serving(2)
    assert running.terminate(1) == [Tell("g-0.1", "drain"), Tell("g-1.1", "drain")]
    assert running.state == "draining"
    assert running.exited("g-0.1", "exit status 0", 2) == []
    assert running.exited("g-1.1", "exit status 0", 2) == [Tell(COORDINATOR, "stop")]
    assert running.exited(COORDINATOR, "exit status 0", 2) == [Finish(0, None)]
    assert running.tick(3) == []


def test_nothing_is_restarted_while_terminating() -> None:
    running = serving(1)
    running.terminate(1)
    assert running.exited(COORDINATOR, "killed", 1) == []
    assert running.exited("g-0.1", "killed", 1) == [Finish(0, None)]


def test_a_second_termination_stops_at_once() -> None:
    running = serving(1)
    running.terminate(1)
    assert running.terminate(2) == [Tell("g-0.1", "stop")]
    assert running.deadline() == 2 + STOP_GRACE
    assert [kill.name for kill in of(Kill, running.tick(2 + STOP_GRACE))] == ["g-0.1"]
    assert running.tick(10) == []


def test_orders_that_stopping_leaves_undone_are_told_so() -> None:
    running = serving(1)
    running.scale(2, "scale", 1)
    running.drain("g-0.1", "drain", 1)
    running.roll("roll", DRAIN, 1)
    done = of(Done, running.stop(2))
    assert {order.ticket for order in done} == {"scale", "drain", "roll"}
    assert not any(order.ok for order in done)
    refused = running.scale(3, "a", 3) + running.drain("g-0.1", "b", 3) + running.roll("c", 1, 3)
    assert [order.detail for order in of(Done, refused)] == ["the server is stopping"] * 3


def test_a_stranger_changes_nothing() -> None:
    running = serving(1)
    assert running.ready("nobody", 1) == []
    assert running.exited("nobody", "exit status 0", 1) == []
    running.failed("nobody", "whatever")
    assert running.deadline() is None
