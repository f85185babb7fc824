"""Waiting for a condition with a deadline, which is what tests do instead of sleeping."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["eventually", "pause"]

T = TypeVar("T")

_INTERVAL: Final = 0.01


def pause(seconds: float) -> None:
    """Let a span of time pass that is itself what is tested, such as a span of traffic."""
    select.select([], [], [], seconds)


def eventually(
    condition: Callable[[], T],
    *,
    within: float,
    what: str,
    every: float = _INTERVAL,
) -> T:
    """Ask again and again until the answer is true, and return it.

    :param condition: what is asked; an OSError counts as "not yet", as servers come and go.
    :param within: deadline in seconds.
    :param what: what is waited for, in words, for the failure's text.
    :raises AssertionError: the deadline passed.
    """
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            answer = condition()
        except OSError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {within:g} s: {what} (last: {last!r})")
        pause(every)
