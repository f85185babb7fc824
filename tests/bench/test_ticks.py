"""The measure itself: CPU time is found where it was spent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.bench.syscalls import parse_summary
from tests.bench.ticks import TICK, parse_stat, tree, tree_seconds
from tests.waiting import eventually

BURN = """
import os, sys, time
def burn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
burn(0.2)
if os.fork() == 0:  # a child that lives on
    burn(0.2)
    sys.stdin.read()
    os._exit(0)
done = os.fork()  # a child that ends and is reaped
if done == 0:
    burn(0.2)
    os._exit(0)
os.waitpid(done, 0)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def burner() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_the_tree_has_its_own_time_and_that_of_children_living_and_reaped(
    burner: subprocess.Popen[str],
) -> None:
    assert burner.stdout is not None
    assert burner.stdout.readline() == "done\n"
    assert tree(burner.pid)[0].pid == burner.pid
    eventually(lambda: tree_seconds(burner.pid) >= 0.6 - 3 * TICK, within=10, what="0.6 s found")
    assert tree_seconds(burner.pid) < 1.0


def test_a_command_name_may_hold_anything() -> None:
    line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 95867 1 1"
    found = parse_stat(line)
    assert (found.pid, found.parent, found.ticks) == (42, 7, 127)


def test_a_process_that_is_gone_has_no_tree() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert tree(process.pid) == []
    assert tree(os.getpid())


def test_the_summary_of_strace_is_read() -> None:
    text = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.006000           6      1000           sendto
 40.00    0.004000           4      1000       250 accept4
------ ----------- ----------- --------- --------- ----------------
100.00    0.010000           5      2000       250 total
"""
    assert parse_summary(text) == {"sendto": (1000, 0), "accept4": (1000, 250)}
