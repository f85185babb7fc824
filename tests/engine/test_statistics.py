"""A statistical smoke test of the generator: that of FIPS 140-2 (change notice 1) §4.9.1 on blocks
of 20,000 bits.

It finds a generator that is broken, never one that is predictable: for that see
``test_known_seed.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

from shard import _engine
from tests.engine.echo_loop import seed_once

BLOCK = 2500
"""Bytes: 20,000 bits."""
MEBIBYTE = 1 << 20
RUNS = {
    1: range(2315, 2686),
    2: range(1114, 1387),
    3: range(527, 724),
    4: range(240, 385),
    5: range(103, 210),
    6: range(103, 210),
}
"""How many runs of a length (6: of 6 and more) there may be, of zeros and of ones."""
LONG_RUN = 26
MAY_FAIL = 8
"""Of 419 blocks. Of good randomness one in 1,250 fails, most by a long run: more than this many do
in one test of 10^9."""


def passes(block: bytes) -> bool:
    """Monobit, poker, runs and long run test."""
    bits = format(int.from_bytes(block, "big"), f"0{8 * BLOCK}b")
    nibbles = Counter(block.hex())
    poker = 16 / 5000 * sum(count**2 for count in nibbles.values()) - 5000
    runs = {bit: Counter(map(len, bits.split("10"[int(bit)]))) for bit in "01"}
    for lengths in runs.values():
        del lengths[0]
    longest = max(max(lengths, default=0) for lengths in runs.values())
    return (
        9725 < bits.count("1") < 10275
        and 2.16 < poker < 46.17
        and all(
            sum(count for length, count in lengths.items() if min(length, 6) == kind) in allowed
            for lengths in runs.values()
            for kind, allowed in RUNS.items()
        )
        and longest < LONG_RUN
    )


def failures(output: bytes) -> int:
    """The number of blocks that fail; what is less than a block at the end is not looked at."""
    blocks = [output[at : at + BLOCK] for at in range(0, len(output) - BLOCK + 1, BLOCK)]
    return sum(not passes(block) for block in blocks)


def test_a_mebibyte_of_the_generators_output_passes() -> None:
    seed_once()
    output = b"".join(_engine.drbg_generate(65536) for _ in range(MEBIBYTE // 65536))
    assert len(output) == MEBIBYTE
    assert failures(output) <= MAY_FAIL


def biased() -> bytes:
    """One bit in 8 is set three times out of four."""
    return bytes(a | (b & 1) for a, b in zip(os.urandom(BLOCK), os.urandom(BLOCK), strict=True))


@pytest.mark.parametrize(
    "broken",
    [
        lambda: bytes(BLOCK),
        lambda: b"\x55" * BLOCK,
        lambda: b"".join(n.to_bytes(4, "big") for n in range(BLOCK // 4)),
        biased,
        lambda: (os.urandom(16) * BLOCK)[:BLOCK],
        lambda: bytes(byte & 0x7F for byte in os.urandom(BLOCK)),
    ],
    ids=["constant", "alternating", "counter", "biased bit", "repeating block", "stuck bit"],
)
def test_broken_generators_fail(broken: Callable[[], bytes]) -> None:
    output = b"".join(broken() for _ in range(20))
    assert failures(output) > 15


def test_a_single_long_run_fails() -> None:
    good = next(block for block in iter(lambda: os.urandom(BLOCK), b"") if passes(block))
    assert passes(good)
    # 38 zeros and some ones more: too few to be seen by the other tests.
    assert not passes(good[:100] + b"\x80\0\0\0\0\x01" + b"\xff" * 2 + good[108:])
