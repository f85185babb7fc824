"""Talking to a program over its pipes, with deadlines."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from typing import Final, Self

__all__ = ["Dialog", "answer"]

PATIENCE: Final = 10.0
"""Seconds for any step."""


class Dialog:
    """A program that runs: what it says on both outputs, mixed, and what it is told."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            assert self._process.stdout is not None
            self._process.stdout.close()

    def tell(self, line: str) -> None:
        """One line of input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def wait_for(self, text: str) -> str:
        """Read until it says this, or said it since the last call; what it said up to there.

        :raises AssertionError: it did not, and what it said instead.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while text not in self.said:
                assert selector.select(max(0.0, deadline - time.monotonic())), self.said
                chunk = os.read(self._process.stdout.fileno(), 65536)
                assert chunk, f"ended without saying {text!r}:\n{self.said}"
                self.said += chunk.decode("latin-1")
        before, _, self.said = self.said.partition(text)
        return before + text


def answer(command: Sequence[str], told: bytes = b"") -> str:
    """Run it to its end; both outputs.

    :raises AssertionError: it failed.
    """
    done = subprocess.run(
        command, input=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE
    )
    text = done.stdout.decode("latin-1")
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{text}"
    return text
