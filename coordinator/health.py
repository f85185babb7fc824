"""Health tests of a noise source: NIST SP 800-90B §4.4. Pure.

They look at raw samples of one byte each and know a source only by its claim: the min-entropy
that each sample is said to have. They notice a source that broke; they do not prove a claim.

Each test has two cut-offs, at the ends of the range that §4.4 recommends for the chance of a false
alarm: an *alarm* at 2⁻²⁰, which a sound source raises now and then (an intermittent failure of
§4.3), and a *failure* at 2⁻⁴⁰, which it does not (a persistent one). Linux's jitterentropy has the
same two, at 2⁻³⁰ and 2⁻⁶⁰.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = [
    "ALARM_ALPHA",
    "FAILURE_ALPHA",
    "STARTUP_SAMPLES",
    "WINDOW",
    "HealthTests",
    "adaptive_proportion_cutoff",
    "repetition_count_cutoff",
]

ALARM_ALPHA: Final = 2.0**-20
FAILURE_ALPHA: Final = 2.0**-40
"""Chances that a sound source reaches a cut-off; §4.4 recommends 2⁻²⁰ to 2⁻⁴⁰."""

WINDOW: Final = 512
"""§4.4.2: the window size W is 1024 for a binary source and 512 for any other."""

STARTUP_SAMPLES: Final = 1024
"""§4.3: start-up tests see at least 1024 consecutive samples, which are not used before."""


def repetition_count_cutoff(claim: float, alpha: float) -> int:
    """How often one value in a row is a failure: §4.4.1, ``C = 1 + ⌈-log₂(alpha) / H⌉``.

    :param claim: H, bits of min-entropy a sample, over 0 and at most 8.
    """
    _check_claim(claim)
    return 1 + math.ceil(-math.log2(alpha) / claim)


def adaptive_proportion_cutoff(claim: float, alpha: float, window: int = WINDOW) -> int:
    """How often a window's first value in that window is a failure: §4.4.2.

    ``C = 1 + critbinom(W, 2^-H, 1 - alpha)``, where critbinom is the least x for which the
    binomial distribution has ``P(X ≤ x) ≥ 1 - alpha``; computed from the upper tail,
    where doubles are exact enough. At most W.

    :param claim: H, bits of min-entropy a sample, over 0 and at most 8.
    """
    _check_claim(claim)
    p = 2.0**-claim
    tail = 0.0
    for x in range(window, 0, -1):
        log_choose = math.lgamma(window + 1) - math.lgamma(x + 1) - math.lgamma(window - x + 1)
        tail += math.exp(log_choose + x * math.log(p) + (window - x) * math.log1p(-p))
        # tail is P(X ≥ x), so x - 1 is where P(X ≤ x - 1) would fall short of 1 - alpha.
        if tail > alpha:
            return min(window, x + 1)
    return 1


def _check_claim(claim: float) -> None:
    if not 0 < claim <= 8:
        raise ValueError("a claim is over 0 and at most 8 bits of min-entropy a byte")


class HealthTests:
    """The continuous tests of one source: Repetition Count and Adaptive Proportion.

    :ivar repetition_cutoffs: §4.4.1, of an alarm and of a failure.
    :ivar proportion_cutoffs: §4.4.2, likewise.
    :ivar alarms: how many there were.
    """

    def __init__(self, claim: float) -> None:
        alphas = (ALARM_ALPHA, FAILURE_ALPHA)
        self.repetition_cutoffs = tuple(repetition_count_cutoff(claim, a) for a in alphas)
        self.proportion_cutoffs = tuple(adaptive_proportion_cutoff(claim, a) for a in alphas)
        self.alarms = 0
        self.reset()

    def reset(self) -> None:
        """Start over, as at the source's start-up."""
        self._last = -1
        self._repeats = 0
        self._first = -1
        self._matches = 0
        self._left = 0

    def feed(self, samples: bytes) -> str | None:
        """Test more samples, in the order in which they were made; count alarms.

        :returns: None unless a test failed, else which. Do not feed again before a :meth:`reset`.
        """
        repetition_alarm, repetition_failure = self.repetition_cutoffs
        proportion_alarm, proportion_failure = self.proportion_cutoffs
        for sample in samples:
            if sample == self._last:
                self._repeats += 1
                if self._repeats >= repetition_failure:
                    return "repetition count test"
                self.alarms += self._repeats == repetition_alarm
            else:
                self._last = sample
                self._repeats = 1
            if self._left == 0:
                self._first = sample
                self._matches = 1
                self._left = WINDOW - 1
                continue
            self._left -= 1
            if sample == self._first:
                self._matches += 1
                if self._matches >= proportion_failure:
                    return "adaptive proportion test"
                self.alarms += self._matches == proportion_alarm
        return None
