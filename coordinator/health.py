"""Health tests of a noise source: NIST SP 800-90B §4.4. Pure.

They look at raw samples of one byte each and know a source only by its claim: the min-entropy
that each sample is said to have. They notice a source that broke; they do not prove a claim.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = [
    "ALPHA",
    "STARTUP_SAMPLES",
    "WINDOW",
    "HealthTests",
    "adaptive_proportion_cutoff",
    "repetition_count_cutoff",
]

ALPHA: Final = 2.0**-30
"""Chance of a false alarm at each test of a sound source; §4.4 recommends 2⁻²⁰ to 2⁻⁴⁰."""

WINDOW: Final = 512
"""§4.4.2: the window size W is 1024 for a binary source and 512 for any other."""

STARTUP_SAMPLES: Final = 1024
"""§4.3: start-up tests see at least 1024 consecutive samples, which are not used before."""


def repetition_count_cutoff(claim: float, alpha: float = ALPHA) -> int:
    """How often one value in a row is a failure: §4.4.1, ``C = 1 + ⌈-log₂(alpha) / H⌉``.

    :param claim: H, bits of min-entropy a sample, over 0 and at most 8.
    """
    _check_claim(claim)
    return 1 + math.ceil(-math.log2(alpha) / claim)


def adaptive_proportion_cutoff(claim: float, alpha: float = ALPHA, window: int = WINDOW) -> int:
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

    :ivar repetition_cutoff: §4.4.1.
    :ivar proportion_cutoff: §4.4.2.
    """

    def __init__(self, claim: float, alpha: float = ALPHA) -> None:
        self.repetition_cutoff = repetition_count_cutoff(claim, alpha)
        self.proportion_cutoff = adaptive_proportion_cutoff(claim, alpha)
        self.reset()

    def reset(self) -> None:
        """Start over, as at the source's start-up."""
        self._last = -1
        self._repeats = 0
        self._first = -1
        self._matches = 0
        self._left = 0

    def feed(self, samples: bytes) -> str | None:
        """Test more samples, in the order in which they were made.

        :returns: None if all is well, else which test failed. Do not feed again before a
            :meth:`reset`.
        """
        for sample in samples:
            if sample == self._last:
                self._repeats += 1
                if self._repeats >= self.repetition_cutoff:
                    return "repetition count test"
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
                if self._matches >= self.proportion_cutoff:
                    return "adaptive proportion test"
        return None
