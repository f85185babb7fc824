"""Whether this process or its machine stood still for a while. Pure: clock values in, a word out.

A generator's state that was written to disk, copied or cloned meanwhile must not go on as if
nothing had happened (the DRBG is reseeded; :mod:`shard.link`). Three things can be told:

* the machine was **suspended**: ``CLOCK_BOOTTIME`` counts that time, ``CLOCK_MONOTONIC`` does not
  (clock_gettime(2));
* a virtual machine was **resumed from a snapshot**: both go on from where they were, but the wall
  clock is set right and so moves against them;
* the process was **frozen** without a signal (a cgroup's freezer, ``docker pause``): its own turns
  are far apart.

A process that was stopped with SIGSTOP gets SIGCONT, which says so itself. A clock that somebody
sets looks like a snapshot; a reseed too many does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FROZEN", "JUMP", "Clocks", "Interruptions"]

JUMP: Final = 1.0
"""Seconds by which one clock moves against another. NTP slews by 0.5 ms a second at most."""
FROZEN: Final = 5.0
"""Seconds between two looks that are meant to be less than one apart."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The three clocks at one moment, in seconds."""

    monotonic: float
    boottime: float
    realtime: float


class Interruptions:
    """For one thread, which looks at least once a second."""

    def __init__(self) -> None:
        self._last: Clocks | None = None

    def look(self, clocks: Clocks) -> str | None:
        """What happened since the last look: ``suspended``, ``continued``, or nothing (None)."""
        last, self._last = self._last, clocks
        if last is None:
            return None
        ran = clocks.monotonic - last.monotonic
        passed = clocks.boottime - last.boottime
        on_the_wall = clocks.realtime - last.realtime
        if passed - ran > JUMP or abs(on_the_wall - passed) > JUMP:
            return "suspended"
        return "continued" if ran > FROZEN else None
