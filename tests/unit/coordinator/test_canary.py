from __future__ import annotations

from coordinator.canary import Canary


def mark(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_mark_that_comes_again_names_who_said_it_before() -> None:
    canary = Canary()
    assert canary.note(mark(1), "a") is None
    assert canary.note(mark(2), "b") is None
    assert canary.note(mark(1), "b") == "a"
    assert canary.repeats == 1


def test_a_worker_that_repeats_itself_is_noticed_too() -> None:
    canary = Canary()
    canary.note(mark(1), "a")
    assert canary.note(mark(1), "a") == "a"


def test_the_oldest_marks_are_forgotten_first() -> None:
    canary = Canary(remembered=10)
    for number in range(11):
        canary.note(mark(number), "a")
    assert canary.note(mark(1), "b") == "a"
    assert canary.note(mark(0), "b") is None
    assert len(canary._marks) == 10
