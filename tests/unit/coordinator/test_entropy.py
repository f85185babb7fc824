from __future__ import annotations

import random

import pytest

from coordinator.entropy import (
    REQUIRED_BITS,
    RETEST_SECONDS,
    EntropyAccumulator,
    InsufficientEntropyError,
    ReadReason,
    RepeatedSeedError,
    SourceSpec,
    SourceState,
)
from coordinator.health import FAILURE_ALPHA, STARTUP_SAMPLES, repetition_count_cutoff

STRONG = SourceSpec("strong", claim=8.0, threshold=32)
WEAK = SourceSpec("weak", claim=1.0, threshold=64)
UNCLAIMED = SourceSpec("back", claim=0.0, threshold=0)
STUCK = b"\x00" * 64


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def ready(*specs: SourceSpec) -> EntropyAccumulator:
    """Sources past their start-up tests that have added nothing since."""
    entropy = EntropyAccumulator(specs)
    for number, spec in enumerate(specs):
        entropy.add(spec.name, noise(number, STARTUP_SAMPLES), 0.0)
    return entropy


def test_a_seed_is_48_bytes_for_its_requester() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(9, 64), 0.0)
    seed = entropy.seed("a-0.1", "instantiate", 0.0, 1000.0)
    assert len(seed) == 48
    (issue,) = entropy.ledger()
    assert (issue.number, issue.requester, issue.purpose, issue.when, issue.sources) == (
        1,
        "a-0.1",
        "instantiate",
        1000.0,
        {"strong": 512.0},
    )


def test_start_up_samples_are_tested_and_not_credited() -> None:
    entropy = EntropyAccumulator([STRONG])
    assert entropy.add("strong", noise(0, STARTUP_SAMPLES - 1), 0.0) is SourceState.STARTING
    assert entropy.available() == 0
    assert entropy.add("strong", noise(1, 1), 0.0) is SourceState.HEALTHY
    assert entropy.available() == 0
    entropy.add("strong", noise(2, 64), 0.0)
    assert entropy.available() == 64 * 8


def test_no_seed_below_the_required_total() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, REQUIRED_BITS // 8 - 1), 0.0)
    with pytest.raises(InsufficientEntropyError) as refused:
        entropy.seed("w", "reseed", 0.0, 0.0)
    assert refused.value.available == REQUIRED_BITS - 8
    assert refused.value.required == REQUIRED_BITS
    entropy.add("strong", b"\x55", 0.0)
    entropy.seed("w", "reseed", 0.0, 0.0)


def test_every_seed_needs_new_entropy() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, 1000), 0.0)
    entropy.seed("w", "reseed", 0.0, 0.0)
    with pytest.raises(InsufficientEntropyError):
        entropy.seed("w", "reseed", 0.0, 0.0)


def test_sources_add_up_by_their_claims() -> None:
    entropy = ready(STRONG, WEAK)
    entropy.add("strong", noise(1, 40), 0.0)
    entropy.add("weak", noise(2, 128), 0.0)
    assert entropy.available() == 40 * 8 + 128
    entropy.seed("w", "reseed", 0.0, 0.0)
    assert entropy.ledger()[0].sources == {"strong": 320.0, "weak": 128.0}


def test_a_source_below_its_threshold_does_not_count() -> None:
    entropy = ready(STRONG, WEAK)
    entropy.add("weak", noise(2, WEAK.threshold - 1), 0.0)
    entropy.add("strong", noise(1, 64), 0.0)
    assert entropy.available() == 64 * 8
    entropy.seed("w", "reseed", 0.0, 0.0)
    assert entropy.ledger()[0].sources == {"weak": 0.0, "strong": 512.0}


def test_the_same_noise_gives_other_seeds_to_others() -> None:
    def seed(requester: str, purpose: str) -> bytes:
        entropy = ready(STRONG)
        entropy.add("strong", noise(1, 64), 0.0)
        return entropy.seed(requester, purpose, 0.0, 0.0)

    seeds = {seed("a", "x"), seed("b", "x"), seed("a", "y"), seed("ax", "")}
    assert len(seeds) == 4


def test_a_seed_depends_on_every_sample() -> None:
    def seed(last: bytes) -> bytes:
        entropy = ready(STRONG, WEAK)
        entropy.add("weak", last, 0.0)
        entropy.add("strong", noise(1, 64), 0.0)
        return entropy.seed("w", "x", 0.0, 0.0)

    assert seed(b"\x01") != seed(b"\x02")


def test_the_state_after_a_seed_does_not_hold_it() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, 64), 0.0)
    before = entropy._pool
    seed = entropy.seed("w", "x", 0.0, 0.0)
    assert entropy._pool != before
    state = repr(vars(entropy)) + repr([vars(s) for s in entropy._sources.values()])
    assert repr(seed)[2:-1] not in state
    assert repr(before)[2:-1] not in state


def test_many_seeds_all_differ() -> None:
    entropy = ready(STRONG)
    seeds = set()
    for number in range(500):
        entropy.add("strong", noise(number, 64), 0.0)
        seeds.add(entropy.seed("w", "reseed", 0.0, 0.0))
    assert len(seeds) == 500


def test_a_seed_that_came_before_stops_everything() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, 64), 0.0)
    pool = entropy._pool
    entropy.seed("w", "x", 0.0, 0.0)
    # A pool that does not move: what a broken implementation would do.
    entropy._pool, entropy._seeds = pool, 0
    entropy._sources["strong"].added = 64
    with pytest.raises(RepeatedSeedError) as refused:
        entropy.seed("w", "x", 0.0, 0.0)
    assert refused.value.earlier == "w"
    assert entropy.state("strong") is SourceState.QUARANTINED
    entropy.add("strong", noise(3, STARTUP_SAMPLES), 1e9)
    assert entropy.state("strong") is SourceState.QUARANTINED


def test_a_failing_source_is_quarantined_and_counts_for_nothing() -> None:
    entropy = ready(STRONG, WEAK)
    entropy.add("strong", noise(1, 64), 0.0)
    assert entropy.add("strong", STUCK, 0.0) is SourceState.QUARANTINED
    assert entropy.available() == 0
    source = entropy.snapshot(0.0, 16)["sources"][0]
    assert source["state"] == "quarantined"
    assert source["reason"] == "repetition count test"
    assert source["failures"] == 1
    # The other one goes on alone.
    entropy.add("weak", noise(2, REQUIRED_BITS), 0.0)
    entropy.seed("w", "x", 0.0, 0.0)
    assert entropy.ledger()[0].sources == {"weak": float(REQUIRED_BITS)}


def test_a_failure_during_the_start_up_test_is_one() -> None:
    entropy = EntropyAccumulator([STRONG])
    assert entropy.add("strong", STUCK, 0.0) is SourceState.QUARANTINED


def test_after_a_while_a_start_up_test_ends_the_quarantine() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", STUCK, 100.0)
    late = 100.0 + RETEST_SECONDS
    assert entropy.add("strong", noise(1, 64), late - 1) is SourceState.QUARANTINED
    assert entropy.add("strong", noise(2, 64), late) is SourceState.STARTING
    assert entropy.available() == 0
    assert entropy.add("strong", noise(3, STARTUP_SAMPLES), late) is SourceState.HEALTHY
    entropy.add("strong", noise(4, 64), late)
    assert entropy.available() == 64 * 8


def test_a_source_that_fails_its_retest_waits_for_the_next() -> None:
    entropy = ready(STRONG)
    for number in range(10):
        entropy.add("strong", STUCK, number * RETEST_SECONDS)
        # What comes while it waits changes nothing.
        entropy.fail("strong", "unreadable", number * RETEST_SECONDS + 1)
        source = entropy.snapshot(number * RETEST_SECONDS + 1, 0)["sources"][0]
        assert (source["failures"], source["reason"]) == (number + 1, "repetition count test")
        assert source["last_failure_age"] == 1.0
    entropy.add("strong", noise(1, STARTUP_SAMPLES), 10 * RETEST_SECONDS)
    assert entropy.state("strong") is SourceState.HEALTHY
    assert entropy.snapshot(0.0, 0)["sources"][0]["reason"] is None


def test_what_is_worth_a_read() -> None:
    entropy = EntropyAccumulator([STRONG, WEAK, UNCLAIMED], retest=5.0)
    first = {"strong": ReadReason.TEST, "weak": ReadReason.TEST, "back": ReadReason.SHORTAGE}
    assert entropy.to_read(0.0) == first
    entropy.add("strong", noise(0, STARTUP_SAMPLES), 0.0)
    entropy.add("strong", noise(1, 64), 0.0)
    entropy.fail("weak", "gone", 0.0)
    routine = {"strong": ReadReason.ROUTINE, "back": ReadReason.ROUTINE}
    assert entropy.to_read(4.9) == routine
    assert entropy.to_read(5.0) == {**routine, "weak": ReadReason.TEST}


def test_what_is_not_claimed_is_mixed_in_and_never_counts() -> None:
    entropy = ready(STRONG, UNCLAIMED)
    before = entropy._pool
    assert entropy.add("back", STUCK * 100, 0.0) is SourceState.UNCREDITED
    assert entropy._pool != before
    assert entropy.available() == 0
    entropy.add("strong", noise(1, 64), 0.0)
    entropy.seed("w", "x", 0.0, 0.0)
    assert entropy.ledger()[0].sources == {"strong": 512.0, "back": 0.0}


def test_an_alarm_discards_what_was_credited() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, 64), 0.0)
    # Four in a row: 2^-20, not yet 2^-40.
    assert entropy.add("strong", b"\x07\x07\x07\x07\x01", 0.0) is SourceState.HEALTHY
    assert entropy.available() == 0
    assert entropy.snapshot(0.0, 0)["sources"][0]["alarms"] == 1
    entropy.add("strong", noise(2, 64), 0.0)
    assert entropy.available() == 512


def test_an_alarm_begins_the_start_up_test_anew() -> None:
    entropy = EntropyAccumulator([STRONG])
    entropy.add("strong", noise(1, STARTUP_SAMPLES - 1), 0.0)
    assert entropy.add("strong", b"\x07\x07\x07\x07", 0.0) is SourceState.STARTING
    assert entropy.add("strong", noise(2, STARTUP_SAMPLES - 1), 0.0) is SourceState.STARTING
    assert entropy.add("strong", b"\x01", 0.0) is SourceState.HEALTHY


@pytest.mark.parametrize("claim", [8.0, 4.0, 1.0, 1 / 3])
def test_constant_bytes_are_quarantined_at_the_cutoff_to_the_sample(claim: float) -> None:
    entropy = ready(SourceSpec("s", claim, 32))
    cutoff = repetition_count_cutoff(claim, FAILURE_ALPHA)
    entropy.add("s", b"\x01", 0.0)
    for _ in range(cutoff - 1):
        assert entropy.add("s", b"\x00", 0.0) is SourceState.HEALTHY
    assert entropy.add("s", b"\x00", 0.0) is SourceState.QUARANTINED


def test_a_source_that_cannot_be_read_is_quarantined_with_the_reason() -> None:
    entropy = ready(STRONG)
    entropy.fail("strong", "Input/output error", 0.0)
    assert entropy.snapshot(0.0, 16)["sources"][0]["reason"] == "Input/output error"
    assert entropy.state("strong") is SourceState.QUARANTINED


def test_noise_of_a_quarantined_source_is_mixed_all_the_same() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", STUCK, 0.0)
    before = entropy._pool
    entropy.add("strong", noise(1, 8), 0.0)
    assert entropy._pool != before


def test_ledger_and_memory_of_seeds_are_bounded() -> None:
    entropy = EntropyAccumulator([STRONG], remembered=10, ledger=5)
    entropy.add("strong", noise(0, STARTUP_SAMPLES), 0.0)
    for number in range(30):
        entropy.add("strong", noise(number, 64), 0.0)
        entropy.seed("w", "x", 0.0, float(number))
    assert [issue.number for issue in entropy.ledger()] == [26, 27, 28, 29, 30]
    assert len(entropy._issued) == 10
    snapshot = entropy.snapshot(0.0, 2)
    assert (snapshot["seeds"], snapshot["ledger_length"]) == (30, 5)
    assert [line["number"] for line in snapshot["ledger"]] == [29, 30]
    assert entropy.snapshot(0.0, 0)["ledger"] == []


def test_split_samples_are_the_same_noise_to_the_tests() -> None:
    whole, split = EntropyAccumulator([STRONG]), EntropyAccumulator([STRONG])
    samples = noise(5, STARTUP_SAMPLES)
    whole.add("strong", samples, 0.0)
    for start in range(0, len(samples), 7):
        split.add("strong", samples[start : start + 7], 0.0)
    assert whole.state("strong") is split.state("strong") is SourceState.HEALTHY
