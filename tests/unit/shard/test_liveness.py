"""Scripts of signs of life; time is a number."""

from __future__ import annotations

import math

from shard.liveness import LEAST_PATIENCE, Liveness

PATIENCE = 2.0
STEP = PATIENCE / 4


def listening(liveness: Liveness, alive: set[str], until: float, now: float = 0.0) -> list[str]:
    """Let time pass until `until`, or until somebody is hung: who, each with its time."""
    hung: list[str] = []
    while liveness.due <= until:
        now = liveness.due
        asked, told = liveness.look(now)
        hung += [f"{name} at {now:g}" for name in told]
        for name in asked:
            if name in alive:
                liveness.heard(name, now + 0.01)
    return hung


def test_nobody_to_watch_is_nothing_to_do() -> None:
    liveness = Liveness(PATIENCE)
    assert liveness.due == math.inf
    liveness.watch([], 1.0)
    assert liveness.due == math.inf


def test_whoever_answers_is_left_alone() -> None:
    liveness = Liveness(PATIENCE)
    liveness.watch(["a", "b"], 0.0)
    assert listening(liveness, {"a", "b"}, until=100.0) == []


def test_whoever_does_not_answer_is_hung_after_the_patience_to_the_moment() -> None:
    liveness = Liveness(PATIENCE)
    liveness.watch(["a", "b"], 0.0)
    assert listening(liveness, {"a"}, until=PATIENCE + 0.5) == ["b at 2"]


def test_it_is_asked_a_few_times_before() -> None:
    liveness = Liveness(PATIENCE)
    liveness.watch(["a"], 0.0)
    asked = 0
    while liveness.due < PATIENCE:
        asked += len(liveness.look(liveness.due)[0])
    assert asked == 4


def test_a_new_one_has_the_whole_patience() -> None:
    liveness = Liveness(PATIENCE)
    liveness.watch(["a"], 0.0)
    listening(liveness, {"a"}, until=10.0)
    liveness.watch(["a", "b"], 10.1)
    assert listening(liveness, {"a"}, until=12.09) == []
    assert listening(liveness, {"a"}, until=12.2) == ["b at 12.1"]


def test_one_that_is_not_watched_any_more_is_forgotten() -> None:
    liveness = Liveness(PATIENCE)
    liveness.watch(["a"], 0.0)
    liveness.watch([], 1.0)
    liveness.heard("a", 1.5)
    assert liveness.due == math.inf


def test_who_did_not_listen_does_not_judge() -> None:
    """The supervisor itself was stopped: nobody is hung before it has listened for long enough."""
    liveness = Liveness(PATIENCE)
    liveness.watch(["a", "b"], 0.0)
    listening(liveness, {"a", "b"}, until=10.0)
    asked, hung = liveness.look(70.0)
    assert (set(asked), hung) == ({"a", "b"}, [])
    liveness.heard("a", 70.0)
    assert listening(liveness, {"a"}, until=72.0) == ["b at 72"]


def test_a_loop_that_is_a_little_late_judges_all_the_same() -> None:
    liveness = Liveness(PATIENCE)
    liveness.watch(["a"], 0.0)
    now = 0.0
    while True:
        now = liveness.due + STEP / 2
        if liveness.look(now)[1]:
            break
        assert now < 2 * PATIENCE
    assert now >= PATIENCE


def test_it_is_never_less_patient_than_a_busy_machine_needs() -> None:
    assert Liveness(0.1).patience == LEAST_PATIENCE
