"""Scripts of reseeds: what is due, what the coordinator says, how long is waited."""

from __future__ import annotations

import math

import pytest

from shard.membership import ANSWER_WITHIN
from shard.reseeding import Reseed, Reseeding

SEED = bytes(range(48))


def test_nothing_is_asked_for_while_nothing_is_due() -> None:
    reseeding = Reseeding()
    assert reseeding.purpose(local=False) is None
    assert reseeding.overdue(1e9) is None
    assert reseeding.due == math.inf


def test_a_reseed_that_is_due_takes_the_coordinators_seed() -> None:
    reseeding = Reseeding()
    reseeding.want("interval", 10.0)
    assert reseeding.purpose(local=False) == "interval"
    assert reseeding.given(SEED) == Reseed(SEED, "interval", None)
    assert reseeding.purpose(local=False) is None
    assert reseeding.due == math.inf


def test_it_waits_for_the_coordinator_so_long_and_no_longer() -> None:
    reseeding = Reseeding()
    reseeding.want("requests", 10.0)
    reseeding.want("requests", 10.5)  # it still is
    assert reseeding.due == 10.0 + ANSWER_WITHIN
    assert reseeding.overdue(10.0 + ANSWER_WITHIN - 0.01) is None
    assert reseeding.overdue(10.0 + ANSWER_WITHIN) == Reseed(None, "requests", "no answer")
    assert reseeding.overdue(1e9) is None


def test_a_refusal_is_not_waited_out() -> None:
    reseeding = Reseeding()
    reseeding.want("interval", 10.0)
    assert reseeding.refused("refused") == Reseed(None, "interval", "refused")


def test_while_the_coordinator_is_away_every_reseed_that_is_due_happens() -> None:
    reseeding = Reseeding()
    done = []
    for minute in range(1, 6):
        now = 60.0 * minute
        # Asked all the time, in vain.
        assert reseeding.purpose(local=minute > 1) == (None if minute == 1 else "coordinator")
        assert reseeding.refused("no answer") is None
        reseeding.want("interval", now)
        done.append(reseeding.overdue(now + ANSWER_WITHIN))
    assert done == [Reseed(None, "interval", "no answer")] * 5


def test_its_return_is_taken_up_unasked() -> None:
    reseeding = Reseeding()
    assert reseeding.purpose(local=True) == "coordinator"
    assert reseeding.given(SEED) == Reseed(SEED, "coordinator", None)


def test_an_order_is_named_before_what_was_due_anyway() -> None:
    reseeding = Reseeding()
    reseeding.want("interval", 10.0)
    reseeding.want("order", 10.5)
    reseeding.want("interval", 10.6)
    assert reseeding.due == 10.0 + ANSWER_WITHIN
    assert reseeding.given(SEED) == Reseed(SEED, "order", None)


@pytest.mark.parametrize("reason", ["continued", "suspended"])
def test_after_an_interruption_it_waits_for_nobody(reason: str) -> None:
    reseeding = Reseeding()
    reseeding.want("interval", 10.0)
    assert reseeding.interrupted(reason) == Reseed(None, reason, "not waited for")
    assert reseeding.due == math.inf
    assert reseeding.purpose(local=True) == reason
    assert reseeding.given(SEED) == Reseed(SEED, reason, None)
    assert reseeding.purpose(local=False) is None


def test_an_interruption_without_a_coordinator_is_over_with_the_first_reseed() -> None:
    reseeding = Reseeding()
    reseeding.interrupted("continued")
    assert reseeding.refused("no answer") is None
    assert reseeding.purpose(local=True) == "coordinator"


def test_no_seed_is_in_a_repr() -> None:
    text = repr(Reseed(SEED, "order", None))
    assert text == "Reseed(coordinator, reason='order', missing=None)"
