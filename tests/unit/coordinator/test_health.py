from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from coordinator.health import (
    ALPHA,
    WINDOW,
    HealthTests,
    adaptive_proportion_cutoff,
    repetition_count_cutoff,
)


@pytest.mark.parametrize(
    ("claim", "alpha", "cutoff"),
    [
        # SP 800-90B §4.4.1 gives this one: "the cutoff value … is 1 + ⌈20/2.0⌉ = 11".
        (2.0, 2.0**-20, 11),
        (8.0, 2.0**-30, 5),
        (1.0, 2.0**-30, 31),
        (0.5, 2.0**-30, 61),
    ],
)
def test_repetition_count_cutoffs(claim: float, alpha: float, cutoff: int) -> None:
    assert repetition_count_cutoff(claim, alpha) == cutoff


@pytest.mark.parametrize("claim", [8.0, 4.0, 2.0, 1.0, 0.5, 0.2])
@pytest.mark.parametrize("alpha_exponent", [20, 30, 40])
def test_adaptive_proportion_cutoffs_are_the_binomial_s(claim: float, alpha_exponent: int) -> None:
    alpha = Fraction(1, 2**alpha_exponent)
    p = Fraction(2.0**-claim)
    q = 1 - p
    cumulative = Fraction(0)
    for critical in range(WINDOW + 1):
        cumulative += math.comb(WINDOW, critical) * p**critical * q ** (WINDOW - critical)
        if cumulative >= 1 - alpha:
            break
    expected = min(WINDOW, 1 + critical)
    assert adaptive_proportion_cutoff(claim, 2.0**-alpha_exponent) == expected


def test_a_known_cutoff() -> None:
    # The value that implementations of SP 800-90B use for one bit a sample.
    assert adaptive_proportion_cutoff(1.0, 2.0**-30) == 325


@pytest.mark.parametrize("claim", [0.0, -1.0, 8.5, math.nan])
def test_impossible_claims_are_refused(claim: float) -> None:
    with pytest.raises(ValueError, match="claim"):
        repetition_count_cutoff(claim)
    with pytest.raises(ValueError, match="claim"):
        adaptive_proportion_cutoff(claim)


def test_a_stuck_source_fails_at_the_cutoff_to_the_sample() -> None:
    tests = HealthTests(8.0)
    assert tests.feed(bytes([1, 2, 3]) + b"\x07" * (tests.repetition_cutoff - 1)) is None
    assert tests.feed(b"\x07") == "repetition count test"


def test_a_repetition_is_seen_across_calls() -> None:
    tests = HealthTests(8.0)
    results = [tests.feed(b"\x00") for _ in range(tests.repetition_cutoff)]
    assert results == [None] * (tests.repetition_cutoff - 1) + ["repetition count test"]


def test_a_biased_source_fails_the_proportion_test() -> None:
    tests = HealthTests(8.0)
    # Never two in a row, so that only the proportion is wrong.
    samples = bytes(itertools.chain.from_iterable((0, 1 + n % 250) for n in range(WINDOW // 2)))
    assert tests.feed(samples) == "adaptive proportion test"


def test_each_window_counts_for_itself() -> None:
    tests = HealthTests(8.0)
    below = tests.proportion_cutoff - 1
    window = bytearray(1 + n % 250 for n in range(WINDOW))
    for index in range(below):
        window[index * 2] = 255
    assert tests.feed(bytes(window) * 3) is None


def test_good_noise_passes() -> None:
    noise = random.Random(20260101).randbytes(200_000)
    assert HealthTests(8.0).feed(noise) is None


def test_a_reset_forgets() -> None:
    tests = HealthTests(8.0)
    tests.feed(b"\x07" * (tests.repetition_cutoff - 1))
    tests.reset()
    assert tests.feed(b"\x07" * (tests.repetition_cutoff - 1)) is None


def test_alpha_is_in_the_recommended_range() -> None:
    assert 2.0**-40 <= ALPHA <= 2.0**-20
