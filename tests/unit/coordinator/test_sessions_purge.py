"""What a purge is for, what it removes, and what it reaches that has not arrived yet."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.purges import RULES, PurgeFilter
from coordinator.sessions import PART_ENTRIES, PURGE_STEP, MissReason, SessionCache

SCOPE, OTHER = b"s" * 32, b"o" * 32
CERTIFICATE, RENEWED = b"c" * 32, b"r" * 32
FIRST_MARK = 1000


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def cache(max_entries: int = 100) -> SessionCache:
    return SessionCache(
        ttl=1000.0, max_bytes=1 << 40, max_entries=max_entries, first_mark=FIRST_MARK
    )


def put(sessions: SessionCache, number: int, **facts: Any) -> MissReason | None:
    facts = {"scope": SCOPE, "server_name": "a.example", "worker": "w-0", "now": 0.0, **facts}
    return sessions.put(id_=id_of(number), value=b"v", **facts)


def purge(sessions: SessionCache, now: float = 0.0, **what: Any) -> int:
    """Purge to the end, and how many it was."""
    before = sessions.purged
    sessions.begin_purge(PurgeFilter(**what), now)
    while sessions.purge_step():
        pass
    return sessions.purged - before


def reason(sessions: SessionCache, number: int, now: float = 0.0) -> bytes | MissReason:
    return sessions.get(SCOPE, id_of(number), now)


def test_a_purge_of_all_tells_how_many_and_why_they_are_gone() -> None:
    sessions = cache()
    for number in range(7):
        put(sessions, number)
    assert purge(sessions) == 7
    assert (len(sessions), sessions.bytes_charged, sessions.purged) == (0, 0, 7)
    assert {reason(sessions, number) for number in range(7)} == {MissReason.PURGED}
    assert reason(sessions, 8) is MissReason.UNKNOWN
    assert put(sessions, 1) is None
    assert reason(sessions, 1) == b"v"


MATCHING: dict[str, Any] = {
    "scope": SCOPE,
    "server_name": "a.example",
    "worker": "w-0",
    "certificate": CERTIFICATE,
    "client": "alice",
}
ELSE: dict[str, Any] = {
    "scope": OTHER,
    "server_name": "b.example",
    "worker": "w-1",
    "certificate": RENEWED,
    "client": "bob",
}


@pytest.mark.parametrize("fact", MATCHING)
def test_a_condition_spares_those_of_another_kind(fact: str) -> None:
    sessions = cache()
    put(sessions, 1, **MATCHING)
    put(sessions, 2, **{**MATCHING, fact: ELSE[fact]})
    if fact not in ("scope", "worker"):
        put(sessions, 3, **{**MATCHING, fact: None})
    left = set(sessions) - {id_of(1)}
    assert purge(sessions, **{fact: MATCHING[fact]}) == 1
    assert set(sessions) == left


@pytest.mark.parametrize("fact", MATCHING)
def test_all_conditions_must_be_true(fact: str) -> None:
    sessions = cache()
    put(sessions, 1, **{**MATCHING, fact: ELSE[fact]})
    assert purge(sessions, **MATCHING) == 0
    put(sessions, 2, **MATCHING)
    assert purge(sessions, **MATCHING) == 1


def test_older_than_counts_from_the_issue() -> None:
    sessions = cache()
    put(sessions, 1, now=100.0)
    put(sessions, 2, now=150.0, age=50.0)
    put(sessions, 3, now=150.0)
    assert purge(sessions, now=160.0, older_than=60.0) == 2
    assert reason(sessions, 3, 160.0) == b"v"


def test_it_takes_effect_at_once_and_spares_what_is_stored_after() -> None:
    """Between two parts of the work: nothing purged is found, nothing new is lost."""
    sessions = cache(max_entries=8 * PART_ENTRIES)
    for number in range(100):
        put(sessions, number)
    sessions.begin_purge(PurgeFilter(), 0.0)
    assert reason(sessions, 1) is MissReason.PURGED
    assert sessions.take(SCOPE, id_of(2), 0.0) is MissReason.PURGED
    for number in range(1000, 1100):
        assert put(sessions, number, mark=sessions.history.mark) is None
    while sessions.purge_step():
        pass
    assert sessions.purged == 100
    assert len(sessions) == 100
    assert reason(sessions, 1000) == b"v"


def test_what_makes_room_during_a_purge_counts_as_purged() -> None:
    sessions = cache(max_entries=2)
    put(sessions, 1)
    put(sessions, 2)
    sessions.begin_purge(PurgeFilter(), 0.0)
    put(sessions, 3)
    assert reason(sessions, 1) is MissReason.PURGED
    assert sessions.evicted == 0


def test_one_step_looks_at_a_bounded_number() -> None:
    sessions = cache(max_entries=8 * PART_ENTRIES)
    for number in range(8 * PART_ENTRIES):
        put(sessions, number)
    sessions.begin_purge(PurgeFilter(), 0.0)
    sizes = []
    more = True
    while more:
        before = len(sessions)
        more = sessions.purge_step()
        sizes.append(before - len(sessions))
    assert sum(sizes) == 8 * PART_ENTRIES
    assert max(sizes) == PURGE_STEP


def test_what_is_put_in_place_of_a_purged_one_meanwhile_stays() -> None:
    sessions = cache(max_entries=PART_ENTRIES)
    for number in range(PURGE_STEP + 1):
        put(sessions, number)
    sessions.begin_purge(PurgeFilter(), 0.0)
    assert sessions.purge_step()
    (last,) = sessions
    put(sessions, int.from_bytes(last, "big"))
    while sessions.purge_step():
        pass
    assert list(sessions) == [last]
    assert sessions.purged == PURGE_STEP


@pytest.mark.parametrize("mark", [FIRST_MARK, 0, 1, FIRST_MARK + 5])
def test_what_was_issued_before_and_arrives_after_is_refused(mark: int) -> None:
    """The worker knew of no purge yet, or of those of another coordinator."""
    sessions = cache()
    purge(sessions)
    assert put(sessions, 1, mark=mark) is MissReason.PURGED
    assert reason(sessions, 1) is MissReason.PURGED
    assert (len(sessions), sessions.purged) == (0, 1)
    assert put(sessions, 2, mark=sessions.history.mark) is None


def test_what_is_under_way_is_tried_against_the_purges_since_its_mark() -> None:
    sessions = cache()
    purge(sessions, server_name="a.example")
    mark = sessions.history.mark
    purge(sessions, worker="w-9")
    assert put(sessions, 1, mark=FIRST_MARK) is MissReason.PURGED
    assert put(sessions, 2, mark=mark) is None
    assert put(sessions, 3, mark=mark, worker="w-9") is MissReason.PURGED
    assert put(sessions, 4, mark=FIRST_MARK, server_name="b.example") is None


def test_older_than_reaches_what_was_held_back() -> None:
    sessions = cache()
    purge(sessions, now=100.0, older_than=60.0)
    assert put(sessions, 1, now=105.0, age=66.0, mark=FIRST_MARK) is MissReason.PURGED
    assert put(sessions, 2, now=105.0, age=64.0, mark=FIRST_MARK) is None


def test_without_a_purge_any_mark_is_good() -> None:
    sessions = cache()
    assert [put(sessions, n, mark=m) for n, m in enumerate((0, 1, FIRST_MARK, 2**63 - 1))] == [
        None
    ] * 4


def test_who_has_missed_more_purges_than_are_kept_has_everything_refused() -> None:
    sessions = cache()
    for number in range(RULES + 3):
        purge(sessions, server_name=f"{number}.example")
    assert put(sessions, 1, mark=FIRST_MARK + 2) is MissReason.PURGED
    assert put(sessions, 2, mark=FIRST_MARK + 3) is None


def test_what_was_used_stays_used() -> None:
    sessions = cache()
    put(sessions, 1)
    sessions.take(SCOPE, id_of(1), 0.0)
    purge(sessions)
    assert put(sessions, 1, mark=FIRST_MARK) is MissReason.USED
    assert put(sessions, 1) is MissReason.USED


def test_scopes_are_shown_with_their_certificates() -> None:
    sessions = cache()
    put(sessions, 1, certificate=CERTIFICATE)
    put(sessions, 2, certificate=RENEWED, worker="w-1")
    put(sessions, 3, scope=OTHER)
    assert sessions.scopes() == {SCOPE: {CERTIFICATE, RENEWED}, OTHER: set()}


def test_what_sessions_have_in_common_is_kept_once_and_bounded() -> None:
    sessions = cache(max_entries=10_000)
    for number in range(10_000):
        put(sessions, number, worker=f"w-{number}")
    assert len(sessions._origins) <= 4096
    assert purge(sessions, worker="w-17") == 1
