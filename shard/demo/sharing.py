"""What comes of a random generator that several share: threads, forked processes, clones of one
memory image.

PolarSSL 1.3 left ``ctr_drbg_random`` unguarded and told its users to put a mutex around it. Each
experiment is made twice: with a textbook CTR_DRBG that has no guard, and with this process's own.

Nothing helps the textbook to fail but a short switch interval (:func:`sys.setswitchinterval`), so
that the interpreter changes between threads as often as a machine with many cores does all the
time. Nobody sleeps, and nothing is slowed down.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordinator.errors import StartError
from shard import _engine
from shard.demo.repeats import BLOCK_BYTES, repeated
from shard.demo.textbook import SEED_BYTES, TextbookCtrDrbg

__all__ = ["Experiment", "Outcome", "experiments"]

Draw = Callable[[int], bytes]
"""A generator: so many random bytes."""

THREADS: Final = 8
REQUEST: Final = 4096
"""Bytes that a thread asks our generator for at a time: 256 blocks."""
TEXTBOOK_BLOCKS: Final = 50_000
"""Asked for one at a time, by all threads together, in a round."""
TEXTBOOK_ROUNDS: Final = 20
"""At most: on a machine that is busy otherwise the threads seldom meet."""
PROCESS_BLOCKS: Final = 1000
"""Drawn by each of two processes, one at a time."""
SWITCH_INTERVAL: Final = 1e-6
"""Seconds."""
SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Blocks of 16 bytes drawn, and how many of them had come before."""

    drawn: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """Who shares one generator, and what it gave them.

    :ivar sharers: in words.
    """

    sharers: str
    textbook: Outcome
    ours: Outcome


def experiments(blocks: int) -> list[Experiment]:
    """All three. Instantiates the process's DRBG if nobody has; the process must have no other
    threads, as two of the experiments fork it.

    :param blocks: to be drawn from our generator by threads.
    :raises StartError: this machine's system call for a clone is not known.
    """
    if not _engine.drbg_status().seeded:
        _engine.drbg_seed(os.getrandom(SEED_BYTES), b"shardtls demo sharing")
    ours = _engine.drbg_generate
    textbook = TextbookCtrDrbg(os.getrandom(SEED_BYTES)).generate
    return [
        Experiment(
            f"{THREADS} threads",
            until_repeated(textbook),
            by_threads(ours, blocks, REQUEST),
        ),
        Experiment(
            "parent and child of fork()",
            by_two_processes(textbook, os.fork),
            by_two_processes(ours, os.fork),
        ),
        Experiment(
            "two clones of a memory image",
            by_two_processes(textbook, clone),
            by_two_processes(ours, clone),
        ),
    ]


def by_threads(draw: Draw, blocks: int, request: int) -> Outcome:
    """Have :data:`THREADS` threads draw `blocks` blocks, `request` bytes at a time; rounded up to
    whole requests for each.
    """
    share = -(-blocks * BLOCK_BYTES // (THREADS * request)) * request
    output = bytearray(THREADS * share)
    start = threading.Barrier(THREADS)

    def work(first: int) -> None:
        start.wait()
        for at in range(first, first + share, request):
            output[at : at + request] = draw(request)

    threads = [threading.Thread(target=work, args=(n * share,)) for n in range(THREADS)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return Outcome(len(output) // BLOCK_BYTES, repeated(output))


def until_repeated(draw: Draw) -> Outcome:
    """Have threads draw, round after round, until blocks of one round have come twice."""
    drawn = 0
    for _ in range(TEXTBOOK_ROUNDS):
        outcome = by_threads(draw, TEXTBOOK_BLOCKS, BLOCK_BYTES)
        drawn += outcome.drawn
        if outcome.repeated:
            break
    return Outcome(drawn, outcome.repeated)


def by_two_processes(draw: Draw, divide: Callable[[], int]) -> Outcome:
    """Divide this process in two, which then draw :data:`PROCESS_BLOCKS` blocks each."""
    draw(BLOCK_BYTES)
    readable, writable = os.pipe()
    child = divide()
    if child == 0:
        # The same code as the parent's, down to the number of requests.
        with os.fdopen(writable, "wb") as pipe:
            pipe.write(_some(draw))
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        output = _some(draw) + pipe.read()
    os.waitpid(child, 0)
    return Outcome(len(output) // BLOCK_BYTES, repeated(output))


def _some(draw: Draw) -> bytes:
    return b"".join(draw(BLOCK_BYTES) for _ in range(PROCESS_BLOCKS))


def clone() -> int:
    """Go on as two processes from one memory image, without telling anybody in it.

    The bare system call passes over the handlers that ``pthread_atfork`` and Python register, so
    to a generator this is what two virtual machines restored from one snapshot are: the same
    memory twice, and no sign of it.

    :returns: as :func:`os.fork`.
    :raises StartError: the number of the system call is not known for this machine.
    """
    try:
        number = SYS_CLONE[platform.machine()]
    except KeyError:
        raise StartError(f"no clone is known for {platform.machine()} machines") from None
    # PyDLL keeps the GIL, which the child then holds as its parent does.
    process: int = ctypes.PyDLL(None, use_errno=True).syscall(number, signal.SIGCHLD, 0, 0, 0, 0)
    if process < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return process
