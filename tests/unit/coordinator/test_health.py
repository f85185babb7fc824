from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from coordinator.health import (
    ALARM_ALPHA,
    FAILURE_ALPHA,
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


@pytest.mark.parametrize(
    ("window", "claims", "cutoffs"),
    [
        # SP 800-90B (second draft, 2016), table 2: W = 1024 for binary sources, 512 for others.
        (1024, (0.2, 0.4, 0.6, 0.8, 1), (941, 840, 748, 664, 589)),
        (512, (0.5, 1, 2, 4, 8), (410, 311, 177, 62, 13)),
    ],
)
def test_adaptive_proportion_cutoffs_are_the_standard_s_examples(
    window: int, claims: tuple[float, ...], cutoffs: tuple[int, ...]
) -> None:
    found = tuple(adaptive_proportion_cutoff(claim, 2.0**-20, window) for claim in claims)
    assert found == cutoffs


@pytest.mark.parametrize(
    ("alpha", "cutoffs"),
    [
        # jitterentropy: jent_apt_cutoff_lookup and jent_apt_cutoff_permanent_lookup, for claims
        # of 1, 1/2, 1/3, … bits: 2 + qbinom(1 - alpha, 511, 2^-H), as a window's first sample
        # is certain to match itself. At most a window's length.
        (2.0**-30, (325, 422, 459, 477, 488, 494, 499, 502, 505, 507, 508, 509, 510, 511, 512)),
        (2.0**-60, (355, 447, 479, 494, 502, 507, 510, 512)),
    ],
)
def test_adaptive_proportion_cutoffs_agree_with_jitterentropy(
    alpha: float, cutoffs: tuple[int, ...]
) -> None:
    claims = [1 / rate for rate in range(1, len(cutoffs) + 1)]
    found = tuple(min(WINDOW, 1 + adaptive_proportion_cutoff(h, alpha, 511)) for h in claims)
    assert found == cutoffs


def test_both_cutoffs_of_a_full_byte_and_of_jitter() -> None:
    full, jitter = HealthTests(8.0), HealthTests(1 / 3)
    assert (full.repetition_cutoffs, full.proportion_cutoffs) == ((4, 6), (13, 19))
    assert (jitter.repetition_cutoffs, jitter.proportion_cutoffs) == ((61, 121), (449, 466))


@pytest.mark.parametrize("claim", [0.0, -1.0, 8.5, math.nan])
def test_impossible_claims_are_refused(claim: float) -> None:
    with pytest.raises(ValueError, match="claim"):
        repetition_count_cutoff(claim, ALARM_ALPHA)
    with pytest.raises(ValueError, match="claim"):
        adaptive_proportion_cutoff(claim, ALARM_ALPHA)


def test_a_stuck_source_fails_at_the_cutoff_to_the_sample() -> None:
    tests = HealthTests(8.0)
    assert tests.feed(bytes([1, 2, 3]) + b"\x07" * (tests.repetition_cutoffs[1] - 1)) is None
    assert tests.feed(b"\x07") == "repetition count test"


def test_a_repetition_is_seen_across_calls() -> None:
    tests = HealthTests(8.0)
    results = [tests.feed(b"\x00") for _ in range(tests.repetition_cutoffs[1])]
    assert results == [None] * (tests.repetition_cutoffs[1] - 1) + ["repetition count test"]


def test_a_biased_source_fails_the_proportion_test() -> None:
    tests = HealthTests(8.0)
    # Never two in a row, so that only the proportion is wrong.
    samples = bytes(itertools.chain.from_iterable((0, 1 + n % 250) for n in range(WINDOW // 2)))
    assert tests.feed(samples) == "adaptive proportion test"


def test_each_window_counts_for_itself() -> None:
    tests = HealthTests(8.0)
    below = tests.proportion_cutoffs[0] - 1
    window = bytearray(1 + n % 250 for n in range(WINDOW))
    for index in range(below):
        window[index * 2] = 255
    assert tests.feed(bytes(window) * 3) is None


def test_good_noise_passes() -> None:
    noise = random.Random(20260101).randbytes(200_000)
    tests = HealthTests(8.0)
    assert tests.feed(noise) is None
    assert tests.alarms == 0


def test_a_reset_forgets() -> None:
    tests = HealthTests(8.0)
    tests.feed(b"\x07" * (tests.repetition_cutoffs[1] - 1))
    tests.reset()
    assert tests.feed(b"\x07" * (tests.repetition_cutoffs[1] - 1)) is None


def test_the_chances_are_the_ends_of_the_recommended_range() -> None:
    assert (ALARM_ALPHA, FAILURE_ALPHA) == (2.0**-20, 2.0**-40)


def test_an_alarm_comes_before_a_failure_and_once_a_run() -> None:
    tests = HealthTests(8.0)
    alarm, failure = tests.repetition_cutoffs
    assert tests.feed(b"\x07" * (alarm - 1)) is None
    assert tests.alarms == 0
    assert tests.feed(b"\x07" * (failure - alarm)) is None
    assert tests.alarms == 1


def test_a_slight_bias_is_an_alarm_of_the_proportion_test() -> None:
    tests = HealthTests(8.0)
    window = bytearray(1 + n % 250 for n in range(WINDOW))
    for index in range(tests.proportion_cutoffs[0]):
        window[index * 2] = 255
    assert tests.feed(bytes(window)) is None
    assert tests.alarms == 1
