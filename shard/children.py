"""Processes that the supervisor starts, each at the other end of a lifeline."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from coordinator.errors import StartError
from coordinator.lifeline import Lifeline

__all__ = ["Child", "Programs", "how_it_ended", "reap"]

_HELD_BACK: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Signals that a terminal sends to the whole process group. What they mean is the supervisor's to
decide; it tells its children by their lifelines. Children start with them blocked (a signal mask
outlives exec), so there is no moment at which one of them could end a child.
"""


@dataclass(frozen=True, slots=True)
class Programs:
    """The argv of each kind of child."""

    # -P: neither finds its own modules in the directory that the server was started in. A worker
    # looks there for the user's application, and only for that (shard.apps.load).
    coordinator: Sequence[str] = (sys.executable, "-P", "-m", "coordinator")
    worker: Sequence[str] = (sys.executable, "-P", "-m", "shard.worker")


class Child:
    """A process and our end of its lifeline. For the supervisor's thread only."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], lifeline: Lifeline) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._lifeline = lifeline

    @classmethod
    def spawn(
        cls, name: str, argv: Sequence[str], settings: Mapping[str, Any], inherited: Sequence[int]
    ) -> Self:
        """Start a process and send its settings, which thus are neither in argv nor in the
        environment.

        :param inherited: descriptors that it keeps, under their numbers.
        :raises StartError: it cannot be started.
        """
        try:
            lifeline, theirs = Lifeline.pair()
        except OSError as error:
            raise StartError(f"cannot start {name}: {error.strerror}") from None
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            process = subprocess.Popen(argv, stdin=theirs.fileno(), pass_fds=tuple(inherited))
        except OSError as error:
            lifeline.close()
            raise StartError(f"cannot start {argv[0]}: {error.strerror}") from None
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
            theirs.close()
        lifeline.send({"type": "settings", "settings": dict(settings)})
        return cls(name, process, lifeline)

    def fileno(self) -> int:
        """The lifeline, for a selector."""
        return self._lifeline.fileno()

    def tell(self, order: str) -> None:
        """Send an order; one that is gone already misses nothing."""
        self._lifeline.send({"type": order})

    def kill(self) -> None:
        """SIGKILL. Until it is reaped its pid is not reused."""
        os.kill(self.pid, signal.SIGKILL)

    def heard(self) -> tuple[list[dict[str, Any]], bool]:
        """Frames that have arrived, without waiting, and whether more may come."""
        frames: list[dict[str, Any]] = []
        alive = True
        poll = select.poll()
        poll.register(self, select.POLLIN)
        # Asked anew each time: a descendant that inherited the other end can keep it open.
        while alive and poll.poll(0):
            more, alive = self._lifeline.poll()
            frames += more
        return frames, alive

    def ended(self, status: int) -> None:
        """It was reaped, with this exit status."""
        self._process.returncode = status  # or Popen would wait for it again
        self._lifeline.close()


def reap() -> list[tuple[int, int]]:
    """All children that have ended, as (pid, exit status; negative: a signal).

    As PID 1 of a container the supervisor inherits orphans too; they are among these.
    """
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))


def how_it_ended(status: int) -> str:
    """For a log: ``exit status 1`` or ``killed by SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
