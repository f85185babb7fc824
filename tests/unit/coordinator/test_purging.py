"""The purge desk: one purge after the other, acknowledged when nothing is under way any more."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from coordinator.errors import MessageError
from coordinator.lookups import SessionDesk
from coordinator.parking import ParkingTable
from coordinator.protocol import Answer, Lookup, LookupOp, Put, SessionsRequest
from coordinator.purges import PurgeFilter
from coordinator.purging import LATEST, MAX_WAITING, READERS_WITHIN, Purge, PurgeDesk, read_filter
from coordinator.sessions import PART_ENTRIES, SessionCache
from coordinator.strikes import StrikeRegister

SCOPE = b"s" * 32


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def put(number: int, mark: int | None = None, name: str = "a.example") -> SessionsRequest:
    return SessionsRequest("w", (Put(SCOPE, id_of(number), b"v", name),), (), mark=mark)


def hello(mark: int) -> SessionsRequest:
    return SessionsRequest("w", (), (), mark=mark)


def take(token: int, number: int) -> SessionsRequest:
    return SessionsRequest("w", (), (Lookup(token, LookupOp.TAKE, SCOPE, (id_of(number),)),))


def sessions(max_entries: int = 100, park: float = 1.0) -> SessionDesk:
    cache = SessionCache(ttl=100.0, max_bytes=1 << 40, max_entries=max_entries, first_mark=7)
    return SessionDesk(
        cache, ParkingTable(park=park), StrikeRegister(capacity=10, now=0.0, wall=0.0)
    )


def asked(request: int = 1, **what: Any) -> Purge:
    return Purge(b"cli", request, PurgeFilter(**what), "ops", 1e9)


def test_it_is_acknowledged_with_a_count_once_every_part_is_done() -> None:
    desk = sessions(max_entries=4 * PART_ENTRIES)
    for number in range(40):
        desk.handle(b"r", put(number), 0.0)
    purges = PurgeDesk(desk)
    purges.ask(asked())
    assert purges.due == 0.0
    assert [purges.advance(0.0) for _ in range(3)] == [[], [], []]
    assert purges.advance(0.0) == [(asked(), 40)]
    assert purges.advance(0.0) == []
    assert purges.due is None


def test_purges_come_one_after_the_other() -> None:
    desk = sessions()
    desk.handle(b"r", put(1, name="a.example"), 0.0)
    desk.handle(b"r", put(2, name="b.example"), 0.0)
    purges = PurgeDesk(desk)
    first, second = asked(1, server_name="b.example"), asked(2)
    purges.ask(first)
    purges.ask(second)
    assert purges.advance(0.0) == [(first, 1)]
    assert purges.advance(0.0) == [(second, 1)]


def test_too_many_at_a_time_are_refused() -> None:
    purges = PurgeDesk(sessions())
    for number in range(MAX_WAITING):
        purges.ask(asked(number))
    with pytest.raises(MessageError) as refused:
        purges.ask(asked())
    assert refused.value.code == "refused"


def test_it_waits_for_the_readers_and_counts_what_they_hand_over() -> None:
    desk = sessions()
    for reader in (b"r", b"q"):
        desk.handle(reader, hello(7), 0.0)
    assert desk.take_untold() == set()
    purges = PurgeDesk(desk)
    purges.ask(asked())
    assert purges.advance(0.0) == []
    assert desk.take_untold() == {b"r", b"q"}
    desk.handle(b"r", put(1, mark=7), 0.001)
    desk.handle(b"r", hello(8), 0.001)
    assert purges.advance(0.001) == []
    assert purges.due is not None
    assert 0.001 < purges.due < 0.1
    desk.handle(b"q", hello(8), 0.002)
    assert purges.advance(0.002) == [(asked(), 1)]


def test_a_reader_that_does_not_answer_is_waited_for_once_and_not_long() -> None:
    desk = sessions()
    desk.handle(b"dead", hello(7), 0.0)
    purges = PurgeDesk(desk)
    purges.ask(asked())
    assert purges.advance(0.0) == []
    assert purges.advance(READERS_WITHIN - 0.001) == []
    assert len(purges.advance(READERS_WITHIN)) == 1
    purges.ask(asked())
    assert len(purges.advance(1.0)) == 1
    # It lives after all: what it has held back meanwhile is refused, and it learns the mark.
    desk.take_untold()
    desk.handle(b"dead", put(1, mark=7), 2.0)
    assert len(desk.cache) == 0
    assert desk.take_untold() == {b"dead"}


def test_a_reader_without_marks_is_told_nothing_and_waited_for_never() -> None:
    desk = sessions()
    desk.handle(b"old", put(1), 0.0)
    purges = PurgeDesk(desk)
    purges.ask(asked())
    assert purges.advance(0.0) == [(asked(), 1)]
    assert desk.take_untold() == set()
    desk.handle(b"old", put(2), 1.0)
    assert len(desk.cache) == 1


def test_a_new_reader_learns_the_mark() -> None:
    desk = sessions()
    desk.handle(b"new", hello(0), 0.0)
    assert desk.take_untold() == {b"new"}
    desk.handle(b"new", hello(7), 0.0)
    assert desk.take_untold() == set()


def test_a_lookup_that_waits_is_not_answered_with_a_purged_session() -> None:
    desk = sessions()
    desk.handle(b"r", take(5, 1), 0.0)
    purges = PurgeDesk(desk)
    purges.ask(asked())
    purges.advance(0.0)
    desk.handle(b"q", put(1, mark=7), 0.001)
    assert desk.take_answers() == {b"r": [Answer(5, None, None, "purged")]}


def test_a_lookup_that_waits_under_another_scope_is_told_so() -> None:
    desk = sessions(park=0.01)
    desk.handle(b"r", take(5, 1), 0.0)
    other = SessionsRequest("w", (Put(b"o" * 32, id_of(1), b"v", None),), ())
    desk.handle(b"q", other, 0.001)
    desk.tick(0.01)
    assert desk.take_answers() == {b"r": [Answer(5, None, None, "scope")]}


def test_it_is_recorded_with_who_asked_and_for_what(caplog: pytest.LogCaptureFixture) -> None:
    desk = sessions()
    purges = PurgeDesk(desk)
    purges.ask(asked(scope=SCOPE, older_than=60.0))
    with caplog.at_level(logging.INFO, "shardtls.audit"):
        purges.advance(0.0)
    (record,) = caplog.records
    assert record.name == "shardtls.audit"
    assert record.shardtls_fields == {  # type: ignore[attr-defined]
        "by": "ops",
        "sessions": 0,
        "scope": SCOPE.hex(),
        "older_than": 60.0,
    }
    assert list(purges.latest) == [
        {
            "when": 1e9,
            "by": "ops",
            "what": {"scope": SCOPE.hex(), "older_than": 60.0},
            "sessions": 0,
        }
    ]
    for number in range(LATEST + 5):
        purges.ask(asked(number))
        purges.advance(0.0)
    assert len(purges.latest) == LATEST


def test_conditions_are_read() -> None:
    body = {
        "scope": SCOPE,
        "server_name": "A.Example",
        "certificate": b"c" * 32,
        "client": "alice",
        "worker": "w",
        "older_than": 3,
        "timeout": 60.0,
    }
    assert read_filter(body) == PurgeFilter(
        scope=SCOPE,
        server_name="a.example",
        certificate=b"c" * 32,
        client="alice",
        worker="w",
        older_than=3.0,
    )
    assert read_filter({}) == read_filter({"all": True}) == PurgeFilter()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"scope": "s" * 64}, "shape"),
        ({"scope": b"s"}, "shape"),
        ({"certificate": b"s" * 33}, "shape"),
        ({"server_name": ""}, "shape"),
        ({"server_name": "a\nb"}, "shape"),
        ({"client": 1}, "shape"),
        ({"worker": b"w"}, "shape"),
        ({"older_than": 0}, "shape"),
        ({"older_than": -1}, "shape"),
        ({"older_than": float("nan")}, "shape"),
        ({"older_than": 10**400}, "shape"),
        ({"older_than": True}, "shape"),
        ({"server": "a"}, "refused"),
        ({"all": False}, "refused"),
        ({"all": True, "worker": "w"}, "refused"),
    ],
)
def test_a_condition_that_is_wrong_purges_nothing(body: dict[str, Any], code: str) -> None:
    with pytest.raises(MessageError) as refused:
        read_filter(body)
    assert refused.value.code == code
