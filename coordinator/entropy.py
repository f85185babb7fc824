"""The entropy service (PolarSSL's ``entropy_context``): one per deployment, here.

Pure: noise comes in as bytes, seeds go out as bytes; the sources themselves are in
:mod:`coordinator.noise`. It belongs to one thread, the broker's, and is reached only by message.

Noise is accumulated in a SHA-512 pool. Each source (:mod:`coordinator.source`) has a *claim*
(min-entropy a byte), a *threshold* (how much it must have added since the last seed before it
counts), and the health tests of SP 800-90B; one that fails them is quarantined: it counts for
nothing until it has passed a start-up test again. A seed is given when the sources that count have
added :data:`REQUIRED_BITS`, is derived for its requester, and changes the pool so that neither an
earlier nor a later seed follows from what is left.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from coordinator.errors import ShardError
from coordinator.protocol import MAX_LEDGER_LINES, SEED_BYTES
from coordinator.source import Source, SourceSpec, SourceState

__all__ = [
    "REQUIRED_BITS",
    "RETEST_SECONDS",
    "EntropyAccumulator",
    "InsufficientEntropyError",
    "ReadReason",
    "RepeatedSeedError",
    "SeedIssue",
    "SourceSpec",
    "SourceState",
]

REQUIRED_BITS: Final = SEED_BYTES * 8 + 64
"""For full entropy the input must exceed the output by 64 bits (SP 800-90C)."""

RETEST_SECONDS: Final = 60.0

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


class RepeatedSeedError(InsufficientEntropyError):
    """No seed, now or later: one came out that had been given before.

    :ivar earlier: who had got it.
    """

    def __init__(self, earlier: str, required: int) -> None:
        super().__init__(0, required)
        self.earlier = earlier


class ReadReason(StrEnum):
    """Why a source is to be read."""

    ROUTINE = "routine"
    SHORTAGE = "shortage"
    """The pool has too little for a seed."""
    TEST = "test"
    """Its start-up test is under way or due."""


@dataclass(frozen=True, slots=True)
class SeedIssue:
    """A line of the ledger: a seed that was given. Never its bytes.

    :ivar number: counts from 1.
    :ivar when: Unix time in seconds.
    :ivar sources: bits of min-entropy that each source had added since the last seed; 0 for one
        that was mixed in and not credited.
    """

    number: int
    requester: str
    purpose: str
    when: float
    sources: Mapping[str, float]


class EntropyAccumulator:
    """The pool, its sources, and the ledger of what was given from it.

    `now` is in seconds of a monotonic clock.
    """

    def __init__(
        self,
        sources: Iterable[SourceSpec],
        *,
        required_bits: int = REQUIRED_BITS,
        retest: float = RETEST_SECONDS,
        remembered: int = 4096,
        ledger: int = MAX_LEDGER_LINES,
    ) -> None:
        """
        :param required_bits: for one seed, at least :data:`REQUIRED_BITS` for full entropy.
        :param retest: seconds from a source's failure to its next start-up test.
        :param remembered: how many seeds are remembered (by a hash) to see that none comes twice.
        :param ledger: how many lines of the ledger are kept.
        """
        self.required_bits = required_bits
        self._sources = {spec.name: Source(spec, retest) for spec in sources}
        self._pool = bytes(_POOL_BYTES)
        self._issued: OrderedDict[bytes, str] = OrderedDict()
        self._remembered = remembered
        self._ledger: deque[SeedIssue] = deque(maxlen=ledger)
        self._seeds = 0
        self._refusals = 0

    def __contains__(self, source: str) -> bool:
        return source in self._sources

    def add(self, source: str, samples: bytes, now: float) -> SourceState:
        """Test a source's raw samples and mix them into the pool.

        Samples are mixed in whatever becomes of the tests: noise that does not count does no harm.

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

    def to_read(self, now: float) -> dict[str, ReadReason]:
        """The sources that are worth a read: all but those that wait in quarantine."""
        short = self.available() < self.required_bits
        usual = ReadReason.SHORTAGE if short else ReadReason.ROUTINE
        tested = (SourceState.HEALTHY, SourceState.UNCREDITED)
        return {
            name: usual if source.state in tested else ReadReason.TEST
            for name, source in self._sources.items()
            if not source.waits(now)
        }

    def seed(self, requester: str, purpose: str, now: float, wall: float) -> bytes:
        """48 bytes of full entropy for one use, given to nobody else.

        :param requester: who asks; the seed is bound to it.
        :param purpose: what for, such as ``instantiate`` or ``reseed``.
        :param wall: Unix time in seconds, for the ledger.
        :raises InsufficientEntropyError: too little was added since the last seed; add more.
        :raises RepeatedSeedError: the generator is broken; nothing is given any more.
        """
        available = self.available()
        if available < self.required_bits:
            self._refusals += 1
            raise InsufficientEntropyError(available, self.required_bits)
        sources = {
            name: round(source.credit(), 1)
            for name, source in self._sources.items()
            if source.added
        }
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
        self._remember(seed, requester, now)
        self._seeds = number
        self._ledger.append(SeedIssue(number, requester, purpose, wall, sources))
        return seed

    def ledger(self) -> list[SeedIssue]:
        """The latest lines, oldest first."""
        return list(self._ledger)

    def snapshot(self, now: float, lines: int) -> dict[str, Any]:
        """For the status: plain values, no secret.

        :param lines: how many of the ledger's latest.
        """
        latest = list(self._ledger)[-lines:] if lines else []
        return {
            "required_bits": self.required_bits,
            "available_bits": round(self.available(), 1),
            "seeds": self._seeds,
            "refusals": self._refusals,
            "sources": [source.snapshot(now) for source in self._sources.values()],
            "ledger_length": len(self._ledger),
            "ledger": [asdict(issue) for issue in latest],
        }

    def _remember(self, seed: bytes, requester: str, now: float) -> None:
        mark = hashlib.sha256(seed).digest()
        earlier = self._issued.get(mark)
        if earlier is not None:
            # 384 bits do not repeat by chance: the pool no longer moves. Nothing may be given.
            for source in self._sources.values():
                source.fail("a seed came twice", now, for_good=True)
            self._refusals += 1
            raise RepeatedSeedError(earlier, self.required_bits)
        self._issued[mark] = requester
        if len(self._issued) > self._remembered:
            self._issued.popitem(last=False)


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA512(), length, info).derive(key)
