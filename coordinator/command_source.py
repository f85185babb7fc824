"""An operator's own command as a noise source: what it prints are the samples.

It is run again and again, without a shell, and never waited for: each read takes what has come so
far. For the entropy thread.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from coordinator.source import SourceSpec

__all__ = ["CommandSource"]

THRESHOLD: Final = 32
MAX_OUTPUT: Final = 4096
"""Bytes of one run that are taken; a command that prints more is stopped there."""
DEADLINE: Final = 5.0
"""Seconds that one run may take."""
EVERY: Final = 5.0
"""Seconds from one run's start to the next's."""


class CommandSource:
    """See the module."""

    immediate = False

    def __init__(self, name: str, arguments: Sequence[str], claim: float) -> None:
        """
        :param arguments: the program's absolute path, and what it is given.
        :param claim: bits of min-entropy a byte.
        """
        self.spec = SourceSpec(name, claim, THRESHOLD)
        self._arguments = list(arguments)
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._taken = 0
        self._started = -EVERY

    def read(self) -> bytes:
        """What the command has printed since the last read.

        :raises OSError: it cannot be run, failed, printed nothing, or took too long.
        """
        now = time.monotonic()
        if self._child is None:
            if now - self._started < EVERY:
                return b""
            self._start(now)
        try:
            samples = os.read(self._pipe, MAX_OUTPUT - self._taken)
        except BlockingIOError:
            if now - self._started < DEADLINE:
                return b""
            self.close()
            raise OSError(errno.ETIMEDOUT, f"it did not end within {DEADLINE:g} s") from None
        self._taken += len(samples)
        if self._taken >= MAX_OUTPUT:
            self.close()
        elif not samples:
            self._end(now)
        return samples

    def close(self) -> None:
        """Kill the command and whatever it has started, if it runs."""
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        os.close(self._pipe)
        child.wait()

    def _start(self, now: float) -> None:
        self._started = now
        readable, writable = os.pipe2(os.O_CLOEXEC)
        try:
            self._child = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=writable,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError:
            os.close(readable)
            raise
        finally:
            os.close(writable)
        os.set_blocking(readable, False)
        self._pipe, self._taken = readable, 0

    def _end(self, now: float) -> None:
        """Its output has ended; the process may live on until its deadline."""
        assert self._child is not None
        code = self._child.poll()
        if code is None and now - self._started < DEADLINE:
            return
        taken = self._taken
        self.close()
        if code:
            raise OSError(errno.EIO, f"exit status {code}")
        if not taken:
            raise OSError(errno.ENODATA, "it printed nothing")
