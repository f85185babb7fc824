"""Real commands, read as the entropy thread reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from coordinator import command_source
from coordinator.command_source import MAX_OUTPUT, CommandSource
from tests.processes import alive
from tests.waiting import eventually


@contextmanager
def command(*arguments: str) -> Iterator[CommandSource]:
    source = CommandSource("command", arguments, 1.0)
    try:
        yield source
    finally:
        source.close()


def printed(source: CommandSource) -> bytes:
    """All of one run."""
    found = bytearray()

    def ended() -> bool:
        found.extend(source.read())
        return source._child is None

    eventually(ended, within=5, what="the command's end")
    return bytes(found)


def test_what_it_prints_are_the_samples() -> None:
    with command("/bin/echo", "-n", "$HOME; noise") as source:
        assert printed(source) == b"$HOME; noise"


def test_it_is_not_run_again_at_once() -> None:
    with command("/bin/echo", "noise") as source:
        assert printed(source) == b"noise\n"
        assert source.read() == b""
        assert source._child is None


def test_one_that_prints_without_end_is_stopped_at_the_bound() -> None:
    with command("/bin/cat", "/dev/zero") as source:
        assert printed(source) == bytes(MAX_OUTPUT)


def reason(source: CommandSource) -> str:
    """Why a read failed at last."""

    def failure() -> str | None:
        try:
            source.read()
        except OSError as error:
            return str(error.strerror)
        return None

    return eventually(failure, within=5, what="a failure") or ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("/bin/false",), "exit status 1"),
        (("/bin/true",), "it printed nothing"),
        (("/no/such/program",), "No such file or directory"),
        (("/etc/passwd",), "Permission denied"),
    ],
)
def test_a_command_that_fails_says_why(arguments: tuple[str, ...], expected: str) -> None:
    with command(*arguments) as source:
        assert reason(source) == expected


def test_one_that_takes_too_long_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with command("/bin/sleep", "60") as source:
        assert source.read() == b""
        child = source._child
        assert child is not None
        monkeypatch.setattr(command_source, "DEADLINE", 0.0)
        assert reason(source) == "it did not end within 0 s"
        assert not alive(child.pid)


def test_closing_kills_what_runs() -> None:
    with command("/bin/sleep", "60") as source:
        source.read()
        child = source._child
        assert child is not None
        source.close()
        assert not alive(child.pid)
