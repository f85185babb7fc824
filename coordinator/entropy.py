"""The entropy service (PolarSSL's ``entropy_context``): one per deployment, here.

Pure: noise comes in as bytes, seeds go out as bytes; the sources themselves are in
:mod:`coordinator.noise`. It belongs to one thread, the broker's, and is reached only by message.

Noise is accumulated in a SHA-512 pool. Each source has a *claim* (min-entropy a byte), a
*threshold* (how much it must have added since the last seed before it counts), and the health
tests of SP 800-90B; one that fails them is quarantined: it counts for nothing until it has passed
a start-up test again. A seed is given when the sources that count have added
:data:`REQUIRED_BITS`, is derived for its requester, and changes the pool so that neither an
earlier nor a later seed follows from what is left.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from coordinator.errors import ShardError
from coordinator.health import STARTUP_SAMPLES, HealthTests
from coordinator.protocol import SEED_BYTES

__all__ = [
    "REQUIRED_BITS",
    "EntropyAccumulator",
    "InsufficientEntropyError",
    "SeedIssue",
    "SourceSpec",
    "SourceState",
]

REQUIRED_BITS: Final = SEED_BYTES * 8 + 64
"""For full entropy the input must exceed the output by 64 bits (SP 800-90C)."""

RETEST_SECONDS: Final = 60.0
MAX_FAILURES: Final = 3
"""After so many failures a source stays in quarantine: it is broken, not unlucky."""

_POOL_BYTES: Final = 64


class InsufficientEntropyError(ShardError):
    """No seed: the sources have not added enough.

    :ivar available: bits of min-entropy that count now.
    :ivar required: bits.
    """

    def __init__(self, available: float, required: int) -> None:
        self.available = available
        self.required = required
        super().__init__(f"{available:.0f} of {required} bits of entropy available")


class SourceState(StrEnum):
    """What a source is trusted with."""

    STARTING = "starting"
    """Its start-up test is under way; its samples are tested and not credited."""
    HEALTHY = "healthy"
    QUARANTINED = "quarantined"
    """It failed a health test, or could not be read."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What is said of a source.

    :ivar claim: min-entropy in bits a byte, over 0 and at most 8.
    :ivar threshold: bytes it must have added since the last seed before it counts.
    """

    name: str
    claim: float
    threshold: int


@dataclass(frozen=True, slots=True)
class SeedIssue:
    """A line of the ledger: a seed that was given. Never its bytes.

    :ivar number: counts from 1.
    :ivar when: Unix time in seconds.
    :ivar sources: the sources that counted.
    """

    number: int
    requester: str
    purpose: str
    when: float
    sources: tuple[str, ...]


class _Source:
    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self.state = SourceState.STARTING
        self.tests = HealthTests(spec.claim)
        self.tested = 0
        self.added = 0
        self.total = 0
        self.failures = 0
        self.reason: str | None = None
        self.retest_at: float | None = None

    def credit(self) -> float:
        """Bits of min-entropy that it has added since the last seed and that count."""
        if self.state is not SourceState.HEALTHY or self.added < self.spec.threshold:
            return 0.0
        return self.added * self.spec.claim

    def feed(self, samples: bytes, now: float) -> None:
        if self.state is SourceState.QUARANTINED:
            if self.retest_at is None or now < self.retest_at:
                return
            self.state = SourceState.STARTING
            self.tested = 0
            self.tests.reset()
        failed = self.tests.feed(samples)
        if failed is not None:
            self.fail(failed, now)
        elif self.state is SourceState.STARTING:
            self.tested += len(samples)
            if self.tested >= STARTUP_SAMPLES:
                self.state = SourceState.HEALTHY
                self.reason = None
                self.retest_at = None
        else:
            self.added += len(samples)

    def fail(self, reason: str, now: float) -> None:
        self.state = SourceState.QUARANTINED
        self.failures += 1
        self.reason = reason
        self.added = 0
        self.retest_at = now + RETEST_SECONDS if self.failures < MAX_FAILURES else None


class EntropyAccumulator:
    """The pool, its sources, and the ledger of what was given from it."""

    def __init__(
        self,
        sources: Iterable[SourceSpec],
        *,
        required_bits: int = REQUIRED_BITS,
        remembered: int = 4096,
        ledger: int = 1024,
    ) -> None:
        """
        :param required_bits: for one seed, at least :data:`REQUIRED_BITS` for full entropy.
        :param remembered: how many seeds are remembered (by a hash) to see that none comes twice.
        :param ledger: how many lines of the ledger are kept.
        """
        self.required_bits = required_bits
        self._sources = {spec.name: _Source(spec) for spec in sources}
        self._pool = bytes(_POOL_BYTES)
        self._issued: OrderedDict[bytes, None] = OrderedDict()
        self._remembered = remembered
        self._ledger: deque[SeedIssue] = deque(maxlen=ledger)
        self._seeds = 0
        self._refusals = 0

    def add(self, source: str, samples: bytes, now: float) -> SourceState:
        """Test a source's raw samples and mix them into the pool.

        Samples are mixed in whatever becomes of the tests: noise that does not count does no harm.

        :param now: Unix time in seconds.
        :returns: the source's state afterwards.
        :raises KeyError: there is no such source.
        """
        entry = self._sources[source]
        name = source.encode()
        self._pool = hashlib.sha512(
            b"shardtls pool v1"
            + self._pool
            + len(name).to_bytes(2, "big")
            + name
            + len(samples).to_bytes(8, "big")
            + samples
        ).digest()
        entry.total += len(samples)
        entry.feed(samples, now)
        return entry.state

    def fail(self, source: str, reason: str, now: float) -> None:
        """A source could not be read: quarantine it.

        :param reason: for the status.
        """
        self._sources[source].fail(reason, now)

    def state(self, source: str) -> SourceState:
        """A source's state."""
        return self._sources[source].state

    def available(self) -> float:
        """Bits of min-entropy that count now."""
        return sum(source.credit() for source in self._sources.values())

    def seed(self, requester: str, purpose: str, now: float) -> bytes:
        """48 bytes of full entropy for one use, given to nobody else.

        :param requester: who asks; the seed is bound to it.
        :param purpose: what for, such as ``instantiate`` or ``reseed``.
        :param now: Unix time in seconds, for the ledger.
        :raises InsufficientEntropyError: too little was added since the last seed; add more.
        """
        available = self.available()
        if available < self.required_bits:
            self._refusals += 1
            raise InsufficientEntropyError(available, self.required_bits)
        counted = tuple(name for name, source in self._sources.items() if source.credit() > 0)
        number = self._seeds + 1
        # The pool is a hash of all noise, hence already a pseudorandom key: HKDF's second step is
        # enough (RFC 5869 §3.3). The same key gives the pool's successor, under another info.
        context = b"\0".join(
            (b"shardtls seed v1", str(number).encode(), requester.encode(), purpose.encode())
        )
        seed = _expand(self._pool, context, SEED_BYTES)
        self._pool = _expand(self._pool, b"shardtls next pool v1", _POOL_BYTES)
        for source in self._sources.values():
            source.added = 0
        self._remember(seed)
        self._seeds = number
        self._ledger.append(SeedIssue(number, requester, purpose, now, counted))
        return seed

    def ledger(self) -> list[SeedIssue]:
        """The latest lines, oldest first."""
        return list(self._ledger)

    def snapshot(self) -> dict[str, Any]:
        """For the status: plain values, no secret."""
        return {
            "required_bits": self.required_bits,
            "available_bits": round(self.available(), 1),
            "seeds": self._seeds,
            "refusals": self._refusals,
            "sources": [
                {
                    "name": name,
                    "state": str(source.state),
                    "claim_bits_per_byte": source.spec.claim,
                    "threshold_bytes": source.spec.threshold,
                    "bytes": source.total,
                    "failures": source.failures,
                    "reason": source.reason,
                }
                for name, source in self._sources.items()
            ],
            "ledger": [asdict(issue) for issue in list(self._ledger)[-16:]],
        }

    def _remember(self, seed: bytes) -> None:
        mark = hashlib.sha256(seed).digest()
        if mark in self._issued:
            # 384 bits do not repeat by chance: the pool no longer moves. Nothing may be given.
            for source in self._sources.values():
                source.fail("a seed came twice", 0.0)
                source.retest_at = None
            self._refusals += 1
            raise InsufficientEntropyError(0, self.required_bits)
        self._issued[mark] = None
        if len(self._issued) > self._remembered:
            self._issued.popitem(last=False)


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA512(), length, info).derive(key)
