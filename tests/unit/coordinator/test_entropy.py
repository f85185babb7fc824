from __future__ import annotations

import random

import pytest

from coordinator.entropy import (
    MAX_FAILURES,
    REQUIRED_BITS,
    RETEST_SECONDS,
    EntropyAccumulator,
    InsufficientEntropyError,
    SourceSpec,
    SourceState,
)
from coordinator.health import STARTUP_SAMPLES

STRONG = SourceSpec("strong", claim=8.0, threshold=32)
WEAK = SourceSpec("weak", claim=1.0, threshold=64)
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
    seed = entropy.seed("a-0.1", "instantiate", 1000.0)
    assert len(seed) == 48
    (issue,) = entropy.ledger()
    assert (issue.number, issue.requester, issue.purpose, issue.when, issue.sources) == (
        1,
        "a-0.1",
        "instantiate",
        1000.0,
        ("strong",),
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
        entropy.seed("w", "reseed", 0.0)
    assert refused.value.available == REQUIRED_BITS - 8
    assert refused.value.required == REQUIRED_BITS
    entropy.add("strong", b"\x55", 0.0)
    entropy.seed("w", "reseed", 0.0)


def test_every_seed_needs_new_entropy() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, 1000), 0.0)
    entropy.seed("w", "reseed", 0.0)
    with pytest.raises(InsufficientEntropyError):
        entropy.seed("w", "reseed", 0.0)


def test_sources_add_up_by_their_claims() -> None:
    entropy = ready(STRONG, WEAK)
    entropy.add("strong", noise(1, 40), 0.0)
    entropy.add("weak", noise(2, 128), 0.0)
    assert entropy.available() == 40 * 8 + 128
    entropy.seed("w", "reseed", 0.0)
    assert entropy.ledger()[0].sources == ("strong", "weak")


def test_a_source_below_its_threshold_does_not_count() -> None:
    entropy = ready(STRONG, WEAK)
    entropy.add("weak", noise(2, WEAK.threshold - 1), 0.0)
    entropy.add("strong", noise(1, 64), 0.0)
    assert entropy.available() == 64 * 8
    entropy.seed("w", "reseed", 0.0)
    assert entropy.ledger()[0].sources == ("strong",)


def test_the_same_noise_gives_other_seeds_to_others() -> None:
    def seed(requester: str, purpose: str) -> bytes:
        entropy = ready(STRONG)
        entropy.add("strong", noise(1, 64), 0.0)
        return entropy.seed(requester, purpose, 0.0)

    seeds = {seed("a", "x"), seed("b", "x"), seed("a", "y"), seed("ax", "")}
    assert len(seeds) == 4


def test_a_seed_depends_on_every_sample() -> None:
    def seed(last: bytes) -> bytes:
        entropy = ready(STRONG, WEAK)
        entropy.add("weak", last, 0.0)
        entropy.add("strong", noise(1, 64), 0.0)
        return entropy.seed("w", "x", 0.0)

    assert seed(b"\x01") != seed(b"\x02")


def test_the_state_after_a_seed_does_not_hold_it() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, 64), 0.0)
    before = entropy._pool
    seed = entropy.seed("w", "x", 0.0)
    assert entropy._pool != before
    state = repr(vars(entropy)) + repr([vars(s) for s in entropy._sources.values()])
    assert repr(seed)[2:-1] not in state
    assert repr(before)[2:-1] not in state


def test_many_seeds_all_differ() -> None:
    entropy = ready(STRONG)
    seeds = set()
    for number in range(500):
        entropy.add("strong", noise(number, 64), 0.0)
        seeds.add(entropy.seed("w", "reseed", 0.0))
    assert len(seeds) == 500


def test_a_seed_that_came_before_stops_everything() -> None:
    entropy = ready(STRONG)
    entropy.add("strong", noise(1, 64), 0.0)
    pool = entropy._pool
    entropy.seed("w", "x", 0.0)
    # A pool that does not move: what a broken implementation would do.
    entropy._pool, entropy._seeds = pool, 0
    entropy._sources["strong"].added = 64
    with pytest.raises(InsufficientEntropyError):
        entropy.seed("w", "x", 0.0)
    assert entropy.state("strong") is SourceState.QUARANTINED
    entropy.add("strong", noise(3, STARTUP_SAMPLES), 1e9)
    assert entropy.state("strong") is SourceState.QUARANTINED


def test_a_failing_source_is_quarantined_and_counts_for_nothing() -> None:
    entropy = ready(STRONG, WEAK)
    entropy.add("strong", noise(1, 64), 0.0)
    assert entropy.add("strong", STUCK, 0.0) is SourceState.QUARANTINED
    assert entropy.available() == 0
    source = entropy.snapshot()["sources"][0]
    assert source["state"] == "quarantined"
    assert source["reason"] == "repetition count test"
    assert source["failures"] == 1
    # The other one goes on alone.
    entropy.add("weak", noise(2, REQUIRED_BITS), 0.0)
    entropy.seed("w", "x", 0.0)
    assert entropy.ledger()[0].sources == ("weak",)


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


def test_a_source_that_fails_again_and_again_stays_out() -> None:
    entropy = ready(STRONG)
    now = 0.0
    for _ in range(MAX_FAILURES):
        entropy.add("strong", STUCK, now)
        now += RETEST_SECONDS
    for number in range(100):
        entropy.add("strong", noise(number, STARTUP_SAMPLES), now + number * RETEST_SECONDS)
    assert entropy.state("strong") is SourceState.QUARANTINED


def test_a_source_that_cannot_be_read_is_quarantined_with_the_reason() -> None:
    entropy = ready(STRONG)
    entropy.fail("strong", "Input/output error", 0.0)
    assert entropy.snapshot()["sources"][0]["reason"] == "Input/output error"
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
        entropy.seed("w", "x", float(number))
    assert [issue.number for issue in entropy.ledger()] == [26, 27, 28, 29, 30]
    assert len(entropy._issued) == 10
    assert entropy.snapshot()["seeds"] == 30


def test_split_samples_are_the_same_noise_to_the_tests() -> None:
    whole, split = EntropyAccumulator([STRONG]), EntropyAccumulator([STRONG])
    samples = noise(5, STARTUP_SAMPLES)
    whole.add("strong", samples, 0.0)
    for start in range(0, len(samples), 7):
        split.add("strong", samples[start : start + 7], 0.0)
    assert whole.state("strong") is split.state("strong") is SourceState.HEALTHY
