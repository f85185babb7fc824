"""CPU timing jitter: how long the same few steps take, to the nanosecond.

What varies is caches, interrupts, frequency and the scheduler. The idea, and the claim of a third
of a bit for each time delta, are jitterentropy's (Linux ``crypto/jitterentropy.c``); the sample is
the raw delta's lowest byte, so that the health tests see the source and not a whitened form of it.
For the entropy thread: it keeps the CPU busy for some microseconds a sample.
"""

from __future__ import annotations

import time
from typing import Final

from coordinator.source import SourceSpec

__all__ = ["JitterSource"]

CLAIM: Final = 1 / 3
THRESHOLD: Final = 192
"""Samples that are worth 64 bits."""
SAMPLES: Final = 64
"""A read's: about 0.1 ms, for which this thread holds the interpreter and the broker may wait."""

_MEMORY_BYTES: Final = 64 * 1024
"""More than most first-level data caches."""
_STEPS: Final = 8
_STRIDE: Final = 4099
"""A prime, and no multiple of a cache line: every step meets another line."""


class JitterSource:
    """See the module."""

    spec = SourceSpec("jitter", CLAIM, THRESHOLD)
    immediate = False

    def __init__(self) -> None:
        self._memory = bytearray(_MEMORY_BYTES)
        self._position = 0

    def read(self) -> bytes:
        clock, memory, position = time.perf_counter_ns, self._memory, self._position
        samples = bytearray()
        before = clock()
        for _ in range(SAMPLES):
            for _ in range(_STEPS):
                position = (position + _STRIDE) % _MEMORY_BYTES
                memory[position] = (memory[position] + 1) & 0xFF
            after = clock()
            samples.append((after - before) & 0xFF)
            before = after
        self._position = position
        return bytes(samples)

    def close(self) -> None:
        pass
