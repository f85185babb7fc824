from __future__ import annotations

import pytest

from coordinator.sessions import ENTRY_OVERHEAD, PART_ENTRIES, MissReason, SessionCache

SCOPE = b"s" * 32
OTHER = b"o" * 32


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def from_id(id_: bytes) -> int:
    return int.from_bytes(id_, "big")


def cache(
    *, ttl: float = 10.0, max_bytes: int = 1 << 20, max_entries: int = 100, remembered: int = 1000
) -> SessionCache:
    return SessionCache(
        ttl=ttl, max_bytes=max_bytes, max_entries=max_entries, remembered=remembered
    )


def put(sessions: SessionCache, number: int, value: bytes = b"v", now: float = 0.0) -> bool:
    return sessions.put(SCOPE, id_of(number), value, None, "w", now) is None


def test_get_finds_again_and_again() -> None:
    sessions = cache()
    put(sessions, 1)
    assert sessions.get(SCOPE, id_of(1), 1.0) == b"v"
    assert sessions.get(SCOPE, id_of(1), 2.0) == b"v"


def test_take_finds_once() -> None:
    sessions = cache()
    put(sessions, 1)
    assert sessions.take(SCOPE, id_of(1), 1.0) == b"v"
    assert sessions.take(SCOPE, id_of(1), 1.0) is MissReason.USED
    assert sessions.get(SCOPE, id_of(1), 1.0) is MissReason.USED
    assert (len(sessions), sessions.bytes_charged) == (0, 0)


def test_what_was_used_cannot_be_put_again() -> None:
    sessions = cache()
    put(sessions, 1)
    sessions.take(SCOPE, id_of(1), 0.0)
    assert not put(sessions, 1)
    assert sessions.take(SCOPE, id_of(1), 0.0) is MissReason.USED


def test_a_session_is_never_found_under_another_scope() -> None:
    sessions = cache()
    put(sessions, 1)
    assert sessions.get(OTHER, id_of(1), 0.0) is MissReason.SCOPE
    assert sessions.take(OTHER, id_of(1), 0.0) is MissReason.SCOPE
    assert sessions.get(SCOPE, id_of(1), 0.0) == b"v"


def test_a_life_ends_at_lookup_to_the_moment() -> None:
    sessions = cache(ttl=10.0)
    put(sessions, 1, now=5.0)
    put(sessions, 2, now=5.0)
    assert sessions.get(SCOPE, id_of(1), 14.999) == b"v"
    assert sessions.get(SCOPE, id_of(1), 15.0) is MissReason.EXPIRED
    assert sessions.take(SCOPE, id_of(2), 15.0) is MissReason.EXPIRED
    assert sessions.take(SCOPE, id_of(2), 15.0) is MissReason.EXPIRED
    assert len(sessions) == 0


def test_a_get_does_not_lengthen_a_life() -> None:
    sessions = cache(ttl=10.0)
    put(sessions, 1, now=0.0)
    sessions.get(SCOPE, id_of(1), 9.0)
    assert sessions.get(SCOPE, id_of(1), 10.0) is MissReason.EXPIRED


def test_the_least_recently_used_makes_room() -> None:
    sessions = cache(max_entries=3)
    for number in (1, 2, 3):
        put(sessions, number)
    sessions.get(SCOPE, id_of(1), 1.0)
    put(sessions, 4)
    assert sessions.get(SCOPE, id_of(2), 1.0) is MissReason.EVICTED
    assert [sessions.get(SCOPE, id_of(n), 1.0) for n in (1, 3, 4)] == [b"v", b"v", b"v"]
    assert sessions.evicted == 1


def test_a_large_one_makes_as_much_room_as_it_needs() -> None:
    unit = ENTRY_OVERHEAD + 100
    sessions = cache(max_bytes=4 * unit)
    for number in range(4):
        put(sessions, number, bytes(100))
    assert sessions.bytes_charged == 4 * unit
    put(sessions, 9, bytes(100 + unit + 1))
    assert [sessions.get(SCOPE, id_of(n), 0.0) is MissReason.EVICTED for n in range(4)] == [
        True,
        True,
        True,
        False,
    ]
    assert sessions.bytes_charged <= sessions.max_bytes


def test_one_larger_than_the_cache_is_refused_and_evicts_nothing() -> None:
    sessions = cache(max_bytes=ENTRY_OVERHEAD + 100)
    put(sessions, 1, bytes(100))
    assert not put(sessions, 2, bytes(101))
    assert sessions.get(SCOPE, id_of(1), 0.0) == bytes(100)
    assert sessions.refused == 1


def test_a_put_of_the_same_id_replaces() -> None:
    sessions = cache()
    put(sessions, 1, bytes(10))
    put(sessions, 1, bytes(20))
    assert len(sessions) == 1
    assert sessions.bytes_charged == ENTRY_OVERHEAD + 20
    assert sessions.get(SCOPE, id_of(1), 0.0) == bytes(20)


def test_the_server_name_is_charged() -> None:
    sessions = cache()
    sessions.put(SCOPE, id_of(1), b"", "a" * 200, "w", 0.0)
    assert sessions.bytes_charged >= ENTRY_OVERHEAD + 200
    sessions.take(SCOPE, id_of(1), 0.0)
    assert sessions.bytes_charged == 0


def test_room_made_of_an_expired_session_is_no_eviction() -> None:
    sessions = cache(ttl=10.0, max_entries=1)
    put(sessions, 1, now=0.0)
    put(sessions, 2, now=20.0)
    assert sessions.get(SCOPE, id_of(1), 20.0) is MissReason.EXPIRED
    assert (sessions.evicted, sessions.expired) == (0, 1)


def test_sweep_removes_the_expired_in_bounded_steps() -> None:
    sessions = cache(ttl=10.0)
    for number in range(5):
        put(sessions, number, now=0.0)
    put(sessions, 9, now=8.0)
    assert sessions.sweep(9.0, limit=10) == 0
    assert sessions.sweep(10.0, limit=3) == 3
    assert sessions.sweep(10.0, limit=10) == 2
    assert sessions.get(SCOPE, id_of(9), 10.0) == b"v"


def test_a_large_cache_keeps_its_bounds_over_all_parts() -> None:
    """Parts are no bounds of their own: what is put goes in, whatever part it falls into."""
    sessions = cache(max_bytes=1 << 40, max_entries=20 * PART_ENTRIES)
    for number in range(30 * PART_ENTRIES):
        assert put(sessions, number)
        assert len(sessions) <= sessions.max_entries
    assert len(sessions) == sessions.max_entries == len(list(sessions))
    assert sessions.evicted == 10 * PART_ENTRIES
    assert sum(number % 2 for number in map(from_id, sessions)) > 9 * PART_ENTRIES
    # Nearly all that is left are the newest.
    newest = sum(from_id(id_) >= 10 * PART_ENTRIES for id_ in sessions)
    assert newest > 0.98 * len(sessions)


def test_room_is_made_by_another_part_if_its_own_is_empty() -> None:
    sessions = cache(max_bytes=1 << 40, max_entries=PART_ENTRIES + 1)
    for number in range(PART_ENTRIES + 1):
        put(sessions, number)
    sessions.max_entries = 1
    for number in range(100):
        assert put(sessions, PART_ENTRIES + 1 + number)
    assert len(sessions) == 1


def test_sweep_reaches_every_part() -> None:
    sessions = cache(ttl=10.0, max_entries=10 * PART_ENTRIES)
    sessions.max_bytes = 1 << 40
    for number in range(1000):
        put(sessions, number)
    removed = []
    while sessions:
        removed.append(sessions.sweep(10.0, limit=300))
    assert removed == [300, 300, 300, 100]


def test_an_id_that_is_there_under_another_scope_cannot_be_displaced() -> None:
    sessions = cache()
    put(sessions, 1)
    assert sessions.put(OTHER, id_of(1), b"x", None, "w", 0.0) is MissReason.SCOPE
    assert sessions.refused == 1
    assert sessions.get(SCOPE, id_of(1), 0.0) == b"v"


def test_a_life_begins_with_its_issue() -> None:
    sessions = cache(ttl=10.0)
    sessions.put(SCOPE, id_of(1), b"v", None, "w", 100.0, age=4.0)
    assert sessions.get(SCOPE, id_of(1), 105.9) == b"v"
    assert sessions.get(SCOPE, id_of(1), 106.0) is MissReason.EXPIRED
    assert sessions.put(SCOPE, id_of(2), b"v", None, "w", 100.0, age=10.0) is MissReason.EXPIRED
    assert sessions.get(SCOPE, id_of(2), 100.0) is MissReason.EXPIRED


def test_the_memory_of_used_ids_is_bounded() -> None:
    sessions = cache(max_entries=10_000, remembered=100)
    for number in range(1000):
        put(sessions, number)
        sessions.take(SCOPE, id_of(number), 0.0)
    reasons = [sessions.take(SCOPE, id_of(number), 0.0) for number in range(1000)]
    assert 50 <= reasons.count(MissReason.USED) <= 100
    assert set(reasons[-50:]) == {MissReason.USED}


@pytest.mark.parametrize("outcome", [b"value", *MissReason])
def test_outcomes_are_counted_by_reason(outcome: bytes | MissReason) -> None:
    sessions = cache()
    sessions.count(outcome)
    assert sessions.hits == (1 if outcome == b"value" else 0)
    assert sessions.misses == {reason: int(reason is outcome) for reason in MissReason}
