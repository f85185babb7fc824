"""How many blocks of a generator's output came before. Pure.

A set of ten million numbers takes a gigabyte, so the blocks are looked at in parts: those whose
first byte is in one range, then those of the next. No repetition is missed, as equal blocks are in
the same part.
"""

from __future__ import annotations

from itertools import compress
from typing import Final

__all__ = ["BLOCK_BYTES", "repeated"]

BLOCK_BYTES: Final = 16
PART: Final = 1 << 21
"""About how many blocks of random output are in a part: 200 MB."""


def repeated(output: bytes | bytearray) -> int:
    """The number of blocks that are equal to an earlier one.

    Blocks count as equal if their first 8 bytes are. Of ten million random blocks two do so by
    chance once in 370,000 runs (n²/2 of 2^64).

    :param output: whole blocks of 16 bytes.
    """
    blocks = len(output) // BLOCK_BYTES
    first_bytes = bytes(output[::BLOCK_BYTES])
    keys = memoryview(output).cast("Q")[::2]
    parts = min(256, -(-blocks // PART))
    found = 0
    for part in range(parts):
        selected = first_bytes.translate(bytes(byte * parts // 256 == part for byte in range(256)))
        found += selected.count(1) - len(set(compress(keys, selected)))
    return found
