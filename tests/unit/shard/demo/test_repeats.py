"""Blocks that came before are counted, wherever they are."""

from __future__ import annotations

import os

import pytest

from shard.demo import repeats
from shard.demo.repeats import repeated


def test_nothing_repeats_in_distinct_blocks() -> None:
    assert repeated(b"") == 0
    assert repeated(b"".join(n.to_bytes(8, "big") + bytes(8) for n in range(10_000))) == 0


def test_each_repetition_counts() -> None:
    first, second, third = (os.urandom(16) for _ in range(3))
    assert repeated(first + second + first + third + first + second) == 3
    assert repeated(bytearray(16 * 10)) == 9


@pytest.mark.parametrize("part", [1, 7, 100, 10**6])
def test_parts_miss_none(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(repeats, "PART", part)
    blocks = [bytes([n]) + os.urandom(15) for n in range(256)]
    assert repeated(b"".join(blocks)) == 0
    assert repeated(b"".join(blocks + blocks[::2])) == 128
