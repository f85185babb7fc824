"""CPU time of a process tree, from ``/proc/PID/stat``.

A server's cost is the user and system time of all its processes, and of those that ended and were
reaped by one of them. The kernel scales both to the scheduler's exact run time, so the sum is good
to one tick (10 ms).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["TICK", "ProcessTimes", "parse_stat", "tree", "tree_seconds"]

TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
"""Seconds."""


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """One line of ``/proc/PID/stat`` (proc(5)).

    :ivar ticks: user + system of the process and of its reaped children.
    """

    pid: int
    parent: int
    ticks: int


def parse_stat(line: str) -> ProcessTimes:
    """Read the fields that matter. The command name may hold blanks and parentheses."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    return ProcessTimes(
        pid=int(head.split(" ", 1)[0]),
        parent=int(fields[1]),
        ticks=sum(int(field) for field in fields[11:15]),
    )


def _all() -> dict[int, ProcessTimes]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                times = parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            found[times.pid] = times
    return found


def tree(root: int) -> list[ProcessTimes]:
    """`root` and all its descendants that live now, parents first."""
    processes = _all()
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    order = [root] if root in processes else []
    for pid in order:  # grows while it is walked
        order.extend(children.get(pid, []))
    return [processes[pid] for pid in order]


def tree_seconds(root: int) -> float:
    """CPU seconds that the tree has used so far."""
    return TICK * sum(process.ticks for process in tree(root))
