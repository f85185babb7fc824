from __future__ import annotations

import os

from coordinator.remembered import PurgedIds, RecentIds


def ids(count: int) -> list[bytes]:
    return [os.urandom(32) for _ in range(count)]


def test_the_latest_ids_are_remembered_and_no_others() -> None:
    recent = RecentIds(100)
    some = ids(1000)
    for id_ in some:
        recent.add(id_)
    known = [id_ in recent for id_ in some]
    assert all(known[-50:])
    assert 50 <= sum(known) <= 100


def test_purged_ids_are_all_remembered_up_to_the_capacity() -> None:
    purged = PurgedIds(1 << 12)
    some = ids(1 << 12)
    for id_ in some:
        purged.add(id_)
    assert all(id_ in purged for id_ in some)


def test_a_stranger_is_seldom_taken_for_a_purged_id() -> None:
    purged = PurgedIds(1 << 12)
    for id_ in ids(2 << 12):
        purged.add(id_)
    assert sum(id_ in purged for id_ in ids(20_000)) < 400  # about 200 are expected


def test_purged_ids_are_forgotten_when_there_are_too_many() -> None:
    purged = PurgedIds(1 << 10)
    first = ids(1 << 10)
    for id_ in [*first, *ids(2 << 10)]:
        purged.add(id_)
    assert sum(id_ in purged for id_ in first) < 50


def test_nothing_is_known_at_first() -> None:
    assert b"i" * 32 not in PurgedIds()
    assert b"i" * 32 not in RecentIds(10)
