"""``shardtls demo sharing``: the textbook generator repeats itself, ours does not."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.server import SHARDTLS

COUNTS = r"(none|[\d,]+) of ([\d,]+) repeated"
ROW = re.compile(rf"^(.*?) {{2,}}{COUNTS} +{COUNTS}$")

OURS_REPLACED = """
import os
from shard import _engine
from shard.demo.textbook import TextbookCtrDrbg
_engine.drbg_generate = TextbookCtrDrbg(os.getrandom(48)).generate
from shard.cli import main
main(["demo", "sharing", "--blocks", "1000"])
"""


def rows(text: str) -> dict[str, tuple[int, int, int, int]]:
    """By who shares: repeated and drawn of the textbook's, repeated and drawn of ours."""
    found = {}
    for line in text.splitlines():
        if row := ROW.match(line):
            sharers, *counts = row.groups()
            numbers = [0 if n == "none" else int(n.replace(",", "")) for n in counts]
            found[sharers] = (numbers[0], numbers[1], numbers[2], numbers[3])
    return found


def test_only_the_unguarded_one_repeats_itself_in_ten_million_blocks() -> None:
    done = subprocess.run([SHARDTLS, "demo", "sharing"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    threads, fork, clone = rows(done.stdout).values()
    assert threads[0] > 0
    assert threads[2] == 0
    assert threads[3] >= 10**7
    # The child draws what its parent draws, block by block.
    assert fork == (1000, 2000, 0, 2000)
    assert clone == (1000, 2000, 0, 2000)


def test_a_generator_that_repeats_itself_is_told_by_the_exit_code() -> None:
    done = subprocess.run([sys.executable, "-c", OURS_REPLACED], capture_output=True, text=True)
    assert done.returncode == 1
    assert "repeated itself" in done.stderr


@pytest.mark.parametrize("blocks", ["0", "ten", "100000001"])
def test_a_wrong_number_of_blocks_is_refused(blocks: str) -> None:
    done = subprocess.run(
        [SHARDTLS, "demo", "sharing", "--blocks", blocks], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--blocks" in done.stderr
