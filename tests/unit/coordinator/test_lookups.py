"""The session desk: messages in, answers out, with parked lookups in between."""

from __future__ import annotations

from coordinator.lookups import RECALL_AFTER, SessionDesk
from coordinator.parking import ParkingTable
from coordinator.protocol import Answer, Lookup, LookupOp, Put, SessionsRequest
from coordinator.sessions import SessionCache
from coordinator.strikes import StrikeRegister

SCOPE = b"s" * 32
PARK = 0.015


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def put(number: int, value: bytes = b"v", scope: bytes = SCOPE) -> SessionsRequest:
    return SessionsRequest("w", (Put(scope, id_of(number), value, None),), ())


def take(token: int, *numbers: int) -> SessionsRequest:
    lookup = Lookup(token, LookupOp.TAKE, SCOPE, tuple(id_of(n) for n in numbers))
    return SessionsRequest("w", (), (lookup,))


def get(token: int, *numbers: int) -> SessionsRequest:
    lookup = Lookup(token, LookupOp.GET, SCOPE, tuple(id_of(n) for n in numbers))
    return SessionsRequest("w", (), (lookup,))


def known(request: SessionsRequest) -> SessionsRequest:
    """Of a reader that says which purges it knows of, as all do."""
    return request._replace(mark=0)


def found(token: int, number: int, value: bytes = b"v") -> Answer:
    return Answer(token, id_of(number), value, None)


def missed(token: int, reason: str) -> Answer:
    return Answer(token, None, None, reason)


def desk(*, limit: int = 100, max_entries: int = 100, park: float = PARK) -> SessionDesk:
    cache = SessionCache(ttl=10.0, max_bytes=1 << 20, max_entries=max_entries)
    strikes = StrikeRegister(capacity=100, now=0.0, wall=0.0)
    return SessionDesk(cache, ParkingTable(park=park, limit=limit), strikes)


def test_puts_of_a_message_come_before_its_lookups() -> None:
    sessions = desk()
    both = SessionsRequest("w", put(1).puts, take(7, 1).lookups)
    sessions.handle(b"r", both, 0.0)
    assert sessions.take_answers() == {b"r": [found(7, 1)]}
    assert sessions.take_answers() == {}


def test_a_strike_is_answered_at_once_and_is_no_lookup_of_the_cache() -> None:
    sessions = desk()
    ask = Lookup(7, LookupOp.STRIKE, SCOPE, (id_of(1),), 1000, 600_000)
    for reader in (b"a", b"b"):
        sessions.handle(reader, SessionsRequest("w", (), (ask,)), 1.0)
    assert sessions.take_answers() == {b"a": [found(7, 1, b"")], b"b": [missed(7, "used")]}
    assert sessions.next_deadline() is None
    assert (sessions.cache.hits, sum(sessions.cache.misses.values())) == (0, 0)


def test_a_lookup_waits_for_its_put_and_is_answered_with_it() -> None:
    sessions = desk()
    sessions.handle(b"r", take(7, 1), 0.0)
    assert sessions.take_answers() == {}
    assert sessions.next_deadline() == RECALL_AFTER
    sessions.tick(RECALL_AFTER)
    assert sessions.next_deadline() == PARK
    sessions.handle(b"q", put(1), 0.010)
    assert sessions.take_answers() == {b"r": [found(7, 1)]}
    assert sessions.next_deadline() is None
    assert sessions.cache.hits == 1
    assert sum(sessions.cache.misses.values()) == 0


def test_a_lookup_that_waited_in_vain_is_unknown() -> None:
    sessions = desk()
    sessions.handle(b"r", take(7, 1), 1.0)
    sessions.tick(1.0 + PARK - 0.001)
    assert sessions.take_answers() == {}
    sessions.tick(1.0 + PARK)
    assert sessions.take_answers() == {b"r": [missed(7, "unknown")]}
    sessions.handle(b"q", put(1), 1.1)
    assert sessions.take_answers() == {}
    assert len(sessions.parking) == 0


def test_a_lookup_that_waits_recalls_what_readers_collect() -> None:
    """Each reader is asked once, and again only after its next message."""
    sessions = desk()
    sessions.handle(b"a", known(put(1)), 0.0)
    sessions.handle(b"b", known(put(2)), 0.0)
    sessions.handle(b"r", known(take(7, 3)), 1.0)
    assert sessions.take_recalls() == []
    sessions.tick(1.0 + RECALL_AFTER)
    assert sessions.take_recalls() == [b"a", b"b", b"r"]
    sessions.handle(b"r", known(take(8, 4)), 1.003)
    sessions.tick(1.003 + RECALL_AFTER)
    assert sessions.take_recalls() == [b"r"]
    sessions.handle(b"a", known(put(3)), 1.006)
    assert sessions.take_answers() == {b"r": [found(7, 3)]}
    sessions.handle(b"r", known(take(9, 5)), 1.010)
    sessions.tick(1.010 + RECALL_AFTER)
    assert sorted(sessions.take_recalls()) == [b"a", b"r"]


def test_a_lookup_answered_in_time_recalls_nothing() -> None:
    sessions = desk()
    sessions.handle(b"a", known(put(1)), 0.0)
    sessions.handle(b"r", known(take(7, 2)), 1.0)
    sessions.handle(b"a", known(put(2)), 1.001)
    sessions.tick(1.0 + RECALL_AFTER)
    assert sessions.take_recalls() == []
    # Its moment has passed; the next one has its own.
    sessions.handle(b"r", known(take(8, 3)), 2.0)
    assert sessions.next_deadline() == 2.0 + RECALL_AFTER


def test_of_several_parked_takes_the_first_gets_it() -> None:
    sessions = desk()
    for token, reader in ((1, b"a"), (2, b"b"), (3, b"c")):
        sessions.handle(reader, take(token, 9), 0.0)
    sessions.handle(b"q", put(9), 0.001)
    assert sessions.take_answers() == {
        b"a": [found(1, 9)],
        b"b": [missed(2, "used")],
        b"c": [missed(3, "used")],
    }
    assert len(sessions.cache) == 0


def test_of_several_parked_gets_all_get_it() -> None:
    sessions = desk()
    sessions.handle(b"a", get(1, 9), 0.0)
    sessions.handle(b"b", get(2, 9), 0.0)
    sessions.handle(b"q", put(9), 0.001)
    assert sessions.take_answers() == {b"a": [found(1, 9)], b"b": [found(2, 9)]}
    assert len(sessions.cache) == 1


def test_a_definite_miss_is_answered_at_once() -> None:
    sessions = desk(max_entries=1)
    sessions.handle(b"q", put(1), 0.0)
    sessions.handle(b"q", take(1, 1), 0.0)
    sessions.handle(b"q", put(2), 0.0)
    sessions.handle(b"q", put(3), 0.0)
    sessions.take_answers()
    sessions.handle(b"r", take(2, 1), 0.0)
    sessions.handle(b"r", take(3, 2), 0.0)
    sessions.handle(b"r", take(4, 3), 10.0)
    assert sessions.take_answers() == {
        b"r": [missed(2, "used"), missed(3, "evicted"), missed(4, "expired")]
    }


def test_the_first_of_two_ids_that_is_there_is_the_answer() -> None:
    sessions = desk()
    sessions.handle(b"q", put(2), 0.0)
    sessions.handle(b"r", take(7, 1, 2), 0.0)
    assert sessions.take_answers() == {b"r": [found(7, 2)]}


def test_a_lookup_of_two_ids_waits_for_either() -> None:
    sessions = desk()
    sessions.handle(b"r", take(7, 1, 2), 0.0)
    sessions.handle(b"q", put(2), 0.001)
    assert sessions.take_answers() == {b"r": [found(7, 2)]}
    sessions.handle(b"q", put(1), 0.002)
    assert sessions.take_answers() == {}
    assert len(sessions.cache) == 1


def test_one_used_id_does_not_end_the_wait_for_the_other() -> None:
    sessions = desk()
    sessions.handle(b"q", put(1), 0.0)
    sessions.handle(b"q", take(1, 1), 0.0)
    sessions.take_answers()
    sessions.handle(b"r", take(7, 1, 2), 0.0)
    assert sessions.take_answers() == {}
    sessions.handle(b"q", put(2), 0.001)
    assert sessions.take_answers() == {b"r": [found(7, 2)]}


def test_losing_the_race_for_one_id_leaves_the_other_to_wait_for() -> None:
    sessions = desk()
    sessions.handle(b"a", take(1, 5), 0.0)
    sessions.handle(b"b", take(2, 5, 6), 0.0)
    sessions.handle(b"q", put(5), 0.001)
    assert sessions.take_answers() == {b"a": [found(1, 5)]}
    sessions.handle(b"q", put(6), 0.002)
    assert sessions.take_answers() == {b"b": [found(2, 6)]}


def test_the_same_id_twice_in_a_lookup_is_one() -> None:
    sessions = desk()
    sessions.handle(b"r", take(7, 1, 1), 0.0)
    sessions.handle(b"q", put(1), 0.001)
    assert sessions.take_answers() == {b"r": [found(7, 1)]}
    sessions.tick(1.0)
    assert sessions.take_answers() == {}


def test_a_put_under_another_scope_wakes_nobody() -> None:
    sessions = desk()
    sessions.handle(b"r", take(7, 1), 0.0)
    sessions.handle(b"q", put(1, scope=b"x" * 32), 0.001)
    assert sessions.take_answers() == {}


def test_a_full_table_answers_at_once() -> None:
    sessions = desk(limit=3)
    for token in range(5):
        sessions.handle(b"r", take(token, 100 + token), 0.0)
    assert sessions.take_answers() == {b"r": [missed(3, "unknown"), missed(4, "unknown")]}
    assert sessions.parking.overflowed == 2
    sessions.tick(PARK)
    assert len(sessions.take_answers()[b"r"]) == 3
    sessions.handle(b"r", take(9, 9), PARK)
    assert sessions.take_answers() == {}


def test_parking_can_be_off() -> None:
    sessions = desk(park=0.0)
    sessions.handle(b"r", take(7, 1), 0.0)
    assert sessions.take_answers() == {b"r": [missed(7, "unknown")]}


def test_answers_to_one_reader_travel_together() -> None:
    sessions = desk()
    sessions.handle(b"q", put(1), 0.0)
    sessions.handle(b"q", put(2), 0.0)
    sessions.handle(b"r", take(1, 1), 0.0)
    sessions.handle(b"r", take(2, 2), 0.0)
    assert sessions.take_answers() == {b"r": [found(1, 1), found(2, 2)]}
