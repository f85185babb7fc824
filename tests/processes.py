"""What the kernel knows of processes: alive, in a session, open descriptors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["alive", "descriptors", "in_session", "stopped"]


def _state_and_session(pid: int) -> tuple[str, int] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[3])


def alive(pid: int) -> bool:
    """It exists and is no zombie."""
    found = _state_and_session(pid)
    return found is not None and found[0] not in "ZX"


def in_session(leader: int) -> list[int]:
    """Processes of a session that are alive (zombies of an outer parent are not ours to reap)."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            found = _state_and_session(int(entry.name))
            if found is not None and found[1] == leader and found[0] not in "ZX":
                members.append(int(entry.name))
    return members


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP now, SIGCONT at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
