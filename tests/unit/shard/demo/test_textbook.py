"""The textbook generator is the standard's: what it does when shared is the sharing's fault, and
what it predicts is right.
"""

from __future__ import annotations

import pytest

from shard.demo.textbook import TextbookCtrDrbg
from tests.nist_vectors import cases


def test_nists_vectors_come_out() -> None:
    count = 0
    for case in cases():
        drbg = TextbookCtrDrbg(case.entropy, case.personalization)
        drbg.reseed(case.entropy_reseed, case.additional_reseed)
        first, second = case.additional
        drbg.generate(len(case.returned), first)
        assert drbg.generate(len(case.returned), second) == case.returned
        count += 1
    assert count == 240


def test_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="48 bytes"):
        TextbookCtrDrbg(bytes(47))
    with pytest.raises(ValueError, match="48 bytes"):
        TextbookCtrDrbg(bytes(48), bytes(49))
