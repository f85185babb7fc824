"""What the kernel knows of processes: alive, in a session, open descriptors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["alive", "descriptors", "in_session", "stopped"]


def _stat(file: Path) -> list[str] | None:
    """The fields of a stat file from the state on; None if the process or thread is gone."""
    try:
        return file.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def alive(pid: int) -> bool:
    """It exists and is no zombie. A process whose first thread has ended is alive as long as
    another thread of it is still ending: until then its descriptors are open.
    """
    threads = [_stat(file) for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return any(fields is not None and fields[0] not in "ZX" for fields in threads)


def in_session(leader: int) -> list[int]:
    """Processes of a session that are alive (zombies of an outer parent are not ours to reap)."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(entry / "stat")
            if fields is not None and int(fields[3]) == leader and alive(int(entry.name)):
                members.append(int(entry.name))
    return members


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP now, SIGCONT at the end, unless it is gone by then."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
