"""NIST's vectors through an engine of ``make known-seed``, given by its path. A program of its own,
as a process loads one engine; other vectors of the same form may be put into the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.engine.known_seed import load_engine
from tests.nist_vectors import cases


def main() -> None:
    """Tell how many of the answers are right."""
    engine = load_engine(Path(sys.argv[1]))
    right = total = 0
    for case in cases():
        drbg = engine.CtrDrbg(case.entropy, case.personalization)
        drbg.reseed(case.entropy_reseed, case.additional_reseed)
        first, second = case.additional
        drbg.generate(len(case.returned), first)
        right += drbg.generate(len(case.returned), second) == case.returned
        total += 1
    sys.stdout.write(f"{right} of {total}\n")


if __name__ == "__main__":
    main()
