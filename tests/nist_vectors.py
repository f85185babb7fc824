"""NIST's CAVP vectors for CTR_DRBG, AES-256 without derivation function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Case", "cases"]

FILE: Final = Path(__file__).parent / "vectors/CTR_DRBG_AES256_no_df_pr_false.rsp"


@dataclass(frozen=True, slots=True)
class Case:
    """Instantiate, reseed, generate twice, compare the second output (DRBGVS §6.1)."""

    entropy: bytes
    personalization: bytes
    entropy_reseed: bytes
    additional_reseed: bytes
    additional: tuple[bytes, bytes]
    returned: bytes


def cases() -> Iterator[Case]:
    """All 240: with and without personalization, with and without additional input."""
    for block in FILE.read_text().split("COUNT = ")[1:]:
        lines = [line.split(" =", 1) for line in block.splitlines() if " =" in line]
        values = [(key, bytes.fromhex(value)) for key, value in lines if not key.startswith("[")]
        one = dict(values)
        first, second = (value for key, value in values if key == "AdditionalInput")
        yield Case(
            entropy=one["EntropyInput"],
            personalization=one["PersonalizationString"],
            entropy_reseed=one["EntropyInputReseed"],
            additional_reseed=one["AdditionalInputReseed"],
            additional=(first, second),
            returned=one["ReturnedBits"],
        )
