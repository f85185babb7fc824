"""Purging sealed tickets by the time of their issue."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.errors import MessageError
from coordinator.watermarks import MAX_WATERMARKS, TicketFilter, Watermarks

EVERYTHING = TicketFilter()


def named(name: str) -> TicketFilter:
    return TicketFilter(server_name=name)


def test_the_latest_moment_counts() -> None:
    marks = Watermarks()
    assert marks.set(named("a"), 100)
    assert not marks.set(named("a"), 100)
    assert not marks.set(named("a"), 99)
    assert marks.set(named("a"), 101)
    assert marks.wire() == [[101, None, "a", None, None]]


def test_purging_everything_takes_in_what_came_before() -> None:
    marks = Watermarks()
    marks.set(named("a"), 100)
    marks.set(named("b"), 300)
    marks.set(EVERYTHING, 200)
    assert sorted(at for at, *_ in marks.wire()) == [200, 300]


def test_what_goes_over_the_wire_comes_back() -> None:
    marks = Watermarks()
    marks.set(TicketFilter(b"s" * 32, "a", b"c" * 32, "w-0.1"), 100)
    marks.set(named("b"), 200)
    other = Watermarks()
    assert other.merge(marks.wire())
    assert not other.merge(marks.wire())
    assert other.wire() == marks.wire()


def test_there_are_never_too_many() -> None:
    marks = Watermarks()
    week_ms = 604_800_000
    for number in range(MAX_WATERMARKS):
        marks.set(named(str(number)), week_ms + number)
    with pytest.raises(MessageError, match="purge all"):
        marks.set(named("more"), week_ms + 2000)
    # Rather all tickets than one too few.
    assert marks.merge([[week_ms + 2000, None, "more", None, None]])
    assert marks.wire() == [[week_ms + 2000, None, None, None, None]]


def test_those_that_concern_no_living_ticket_make_room() -> None:
    marks = Watermarks()
    for number in range(MAX_WATERMARKS):
        marks.set(named(str(number)), 1000 + number)
    assert marks.set(named("more"), 604_800_000 + 5000)
    assert len(marks) == 1


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        [1],
        [[1, None, None, None]],
        [["1", None, None, None, None]],
        [[True, None, None, None, None]],
        [[0, None, None, None, None]],
        [[2**60, None, None, None, None]],
        [[1, b"short", None, None, None]],
        [[1, None, "", None, None]],
        [[1, None, b"a", None, None]],
        [[1, None, None, b"short", None]],
        [[1, None, None, None, "w" * 256]],
        [[1, None, None, None, None]] * (MAX_WATERMARKS + 1),
    ],
)
def test_what_cannot_be_read_is_refused(told: Any) -> None:
    marks = Watermarks()
    with pytest.raises(MessageError):
        marks.merge(told)
    assert len(marks) == 0
