"""A noise source as the entropy service sees it: what is said of it, and what it is trusted with.

Pure: samples come in as bytes; where they are read is :mod:`coordinator.noise`. For the broker's
thread only.

A source is *starting* until it has passed the start-up test of NIST SP 800-90B §4.3, then
*healthy*. An alarm of a health test discards what was credited and, while it starts, begins the
start-up test anew; a failure, or a source that cannot be read, puts it into quarantine until its
next start-up test, which a timer allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from coordinator.health import STARTUP_SAMPLES, HealthTests
from coordinator.log import get_logger

__all__ = ["Source", "SourceSpec", "SourceState"]

_log = get_logger("entropy")


class SourceState(StrEnum):
    """What a source is trusted with."""

    STARTING = "starting"
    """Its start-up test is under way; its samples are tested and not credited."""
    HEALTHY = "healthy"
    QUARANTINED = "quarantined"
    """It failed a health test, or could not be read."""
    UNCREDITED = "uncredited"
    """Nothing is claimed of it: it is mixed in, never counted, and has no test to fail."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What is said of a source.

    :ivar claim: min-entropy in bits a byte, 0 to 8; of 0 nothing is ever credited.
    :ivar threshold: bytes it must have added since the last seed before it counts (PolarSSL's
        ``threshold`` of ``entropy_add_source``).
    """

    name: str
    claim: float
    threshold: int


class Source:
    """A source's state. `now` is in seconds of a monotonic clock.

    :ivar added: bytes since the last seed, of those that were credited.
    :ivar total: bytes that it gave, whatever became of them.
    """

    def __init__(self, spec: SourceSpec, retest: float) -> None:
        """
        :param retest: seconds from a failure to the next start-up test.
        """
        self.spec = spec
        self.state = SourceState.STARTING if spec.claim > 0 else SourceState.UNCREDITED
        self.added = 0
        self.total = 0
        self.failures = 0
        self._tests = HealthTests(spec.claim) if spec.claim > 0 else None
        self._tested = 0
        self._reason: str | None = None
        self._retest = retest
        self._retest_at: float | None = None
        self._failed_at: float | None = None
        self._fed_at: float | None = None

    def credit(self) -> float:
        """Bits of min-entropy that it has added since the last seed and that count."""
        if self.state is not SourceState.HEALTHY or self.added < self.spec.threshold:
            return 0.0
        return self.added * self.spec.claim

    def waits(self, now: float) -> bool:
        """Whether it is in quarantine and its next test is not due."""
        if self.state is not SourceState.QUARANTINED:
            return False
        return self._retest_at is None or now < self._retest_at

    def feed(self, samples: bytes, now: float) -> None:
        """Test and credit samples."""
        self.total += len(samples)
        if samples:
            self._fed_at = now
        if self._tests is None:
            self.added += len(samples)
            return
        if self.waits(now) or not samples:
            return
        if self.state is SourceState.QUARANTINED:
            self.state = SourceState.STARTING
            self._begin_start_up(self._tests)
        alarms = self._tests.alarms
        failed = self._tests.feed(samples)
        if failed is not None:
            self.fail(failed, now)
        elif self._tests.alarms > alarms:
            _log.warning("entropy source alarm", source=self.spec.name, state=str(self.state))
            self.added = 0
            if self.state is SourceState.STARTING:
                self._begin_start_up(self._tests)
        elif self.state is SourceState.HEALTHY:
            self.added += len(samples)
        else:
            self._start_up(len(samples))

    def fail(self, reason: str, now: float, *, for_good: bool = False) -> None:
        """Quarantine it; nothing new while it waits for its next test.

        :param for_good: it is never tested again.
        """
        if self.waits(now) and not for_good:
            return
        self.state = SourceState.QUARANTINED
        self.failures += 1
        self.added = 0
        self._reason = reason
        self._failed_at = now
        self._retest_at = None if for_good else now + self._retest
        _log.warning("entropy source quarantined", source=self.spec.name, reason=reason)

    def snapshot(self, now: float) -> dict[str, Any]:
        """For the status: plain values."""
        tests = self._tests
        return {
            "name": self.spec.name,
            "state": str(self.state),
            "reason": self._reason,
            "claim_bits_per_byte": self.spec.claim,
            "threshold_bytes": self.spec.threshold,
            "cutoffs": {
                "repetition": list(tests.repetition_cutoffs) if tests else None,
                "proportion": list(tests.proportion_cutoffs) if tests else None,
            },
            "bytes": self.total,
            "credited_bits": round(self.credit(), 1),
            "alarms": tests.alarms if tests else 0,
            "failures": self.failures,
            "last_sample_age": _age(self._fed_at, now),
            "last_failure_age": _age(self._failed_at, now),
        }

    def _begin_start_up(self, tests: HealthTests) -> None:
        self._tested = 0
        tests.reset()

    def _start_up(self, samples: int) -> None:
        self._tested += samples
        if self._tested < STARTUP_SAMPLES:
            return
        self.state = SourceState.HEALTHY
        self._reason = None
        self._retest_at = None
        tell = _log.info if self.failures else _log.debug
        tell("entropy source healthy", source=self.spec.name)


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(now - moment, 3)
