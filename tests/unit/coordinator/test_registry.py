from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.errors import MessageError
from coordinator.registry import (
    MemberState,
    Registration,
    Registry,
    Role,
    read_registration,
    read_state,
)

LEASE = 2.0
FORGET = 30.0
BODY: dict[str, Any] = {
    "role": "worker",
    "id": "a-0.1",
    "pid": 42,
    "host": "h",
    "group": "a",
    "slot": 0,
    "version": "1",
    "state": "starting",
}


def worker(id_: str = "a-0.1", slot: int = 0, key: str | None = None) -> Registration:
    return read_registration({**BODY, "id": id_, "slot": slot}, key, b"route-" + id_.encode())


def supervisor(id_: str = "a", key: str | None = None) -> Registration:
    body = {**BODY, "role": "supervisor", "id": id_, "group": id_, "slot": None}
    return read_registration(body, key, b"route-" + id_.encode())


def registry(max_members: int = 10) -> Registry:
    return Registry(lease=LEASE, forget=FORGET, max_members=max_members)


def states(members: Registry) -> dict[str, str]:
    return {member.id: str(member.state) for member in members}


def test_a_member_registers_renews_and_leaves() -> None:
    members = registry()
    members.register(worker(), 0.0)
    assert states(members) == {"a-0.1": "starting"}
    members.renew(members.member("a-0.1", None), b"r", MemberState.READY, 1.0)
    assert states(members) == {"a-0.1": "ready"}
    assert members.goodbye("a-0.1", None) is not None
    assert states(members) == {}
    assert members.goodbye("a-0.1", None) is None


def test_silence_beyond_the_lease_is_loss_told_once() -> None:
    members = registry()
    members.register(worker(), 0.0)
    assert members.sweep(LEASE) == ([], [])
    lost, dropped = members.sweep(LEASE + 0.1)
    assert [m.id for m in lost] == ["a-0.1"]
    assert dropped == []
    assert members.sweep(LEASE + 0.2) == ([], [])
    assert states(members) == {"a-0.1": "lost"}


def test_a_lost_member_may_come_back() -> None:
    members = registry()
    members.register(worker(), 0.0)
    members.sweep(5.0)
    members.renew(members.member("a-0.1", None), b"r", MemberState.READY, 5.5)
    assert members.sweep(6.0) == ([], [])
    assert states(members) == {"a-0.1": "ready"}


def test_a_lost_member_is_dropped_after_a_while() -> None:
    members = registry()
    members.register(worker(), 0.0)
    members.sweep(5.0)
    assert members.sweep(LEASE + FORGET) == ([], [])
    _, dropped = members.sweep(LEASE + FORGET + 0.1)
    assert [m.id for m in dropped] == ["a-0.1"]
    assert len(members) == 0


def test_a_successor_in_the_slot_replaces_a_lost_one() -> None:
    members = registry()
    members.register(worker("a-0.1", slot=0), 0.0)
    members.register(worker("a-1.1", slot=1), 0.0)
    members.sweep(5.0)
    members.register(worker("a-0.2", slot=0), 5.0)
    assert states(members) == {"a-1.1": "lost", "a-0.2": "starting"}


def test_one_that_is_lost_after_its_successor_came_is_dropped_at_once() -> None:
    members = registry()
    members.register(worker("a-0.1"), 0.0)
    members.register(worker("a-0.2"), 1.0)
    assert states(members) == {"a-0.1": "starting", "a-0.2": "starting"}
    lost, dropped = members.sweep(2.5)
    assert [m.id for m in lost] == [m.id for m in dropped] == ["a-0.1"]


def test_registering_again_keeps_age_and_counters_and_takes_the_new_connection() -> None:
    members = registry()
    first = members.register(worker(), 0.0)
    first.worker = replace(first.worker, full=7)
    again = members.register(replace(worker(), routing=b"other"), 9.0)
    assert (again.registered_at, again.seen_at, again.routing) == (0.0, 9.0, b"other")
    assert again.worker.full == 7
    assert len(members) == 1


def test_an_unknown_member_is_told_to_register() -> None:
    with pytest.raises(MessageError) as refused:
        registry().member("nobody", None)
    assert refused.value.code == "unregistered"


def test_an_id_belongs_to_its_key() -> None:
    members = registry()
    members.register(worker(key="key-1"), 0.0)
    attempts: list[Callable[[], object]] = [
        lambda: members.register(worker(key="key-2"), 0.0),
        lambda: members.member("a-0.1", "key-2"),
        lambda: members.goodbye("a-0.1", "key-2"),
        lambda: members.goodbye("a-0.1", None),
    ]
    for attempt in attempts:
        with pytest.raises(MessageError) as refused:
            attempt()
        assert refused.value.code == "forbidden"
    assert len(members) == 1


def test_a_supervisor_may_say_goodbye_for_its_own_workers_only() -> None:
    members = registry()
    members.register(supervisor("a", key="sup-a"), 0.0)
    members.register(supervisor("b", key="sup-b"), 0.0)
    members.register(worker(key="web"), 0.0)
    with pytest.raises(MessageError):
        members.goodbye("a-0.1", "sup-b")
    assert members.goodbye("a-0.1", "sup-a") is not None


def test_an_id_does_not_change_its_role() -> None:
    members = registry()
    members.register(worker("x"), 0.0)
    with pytest.raises(MessageError) as refused:
        members.register(supervisor("x"), 0.0)
    assert refused.value.code == "forbidden"


def test_the_number_of_members_is_bounded() -> None:
    members = registry(max_members=3)
    for slot in range(3):
        members.register(worker(f"a-{slot}.1", slot), 0.0)
    with pytest.raises(MessageError) as refused:
        members.register(worker("a-3.1", 3), 0.0)
    assert refused.value.code == "refused"
    members.register(worker("a-0.1", 0), 1.0)


def test_roles_are_listed_apart() -> None:
    members = registry()
    members.register(supervisor(), 0.0)
    members.register(worker(), 0.0)
    assert [m.id for m in members.workers()] == ["a-0.1"]
    assert [m.id for m in members.supervisors()] == ["a"]
    members.sweep(5.0)
    assert members.supervisors(live=True) == []
    assert members.supervisors()[0].registration.role is Role.SUPERVISOR


@pytest.mark.parametrize(
    "change",
    [
        {"role": "admin"},
        {"role": ["worker"]},
        {"id": ""},
        {"id": "x" * 256},
        {"id": "a\nb"},
        {"id": b"bytes"},
        {"pid": -1},
        {"pid": True},
        {"pid": "42"},
        {"host": None},
        {"slot": "0"},
        {"state": "lost"},
        {"state": ["ready"]},
        {"version": 1},
    ],
)
def test_a_registration_of_the_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as refused:
        read_registration({**BODY, **change}, None, b"r")
    assert refused.value.code == "shape"


def test_a_supervisor_s_group_is_itself_unless_it_says_otherwise() -> None:
    body = {key: value for key, value in BODY.items() if key not in ("group", "slot")}
    assert read_registration({**body, "role": "supervisor"}, None, b"r").group == "a-0.1"
    with pytest.raises(MessageError):
        read_registration(body, None, b"r")


def test_lost_is_concluded_never_reported() -> None:
    with pytest.raises(MessageError):
        read_state({"state": "lost"})
    assert read_state({"state": "draining"}) is MemberState.DRAINING


def test_who_did_not_listen_does_not_judge() -> None:
    """After a pause of the coordinator itself nobody is lost before a whole lease has passed."""
    members = registry()
    members.register(worker(), 0.0)
    now = 0.0
    while now < 1.0:
        members.sweep(now)
        now += 0.1
    resumed = 60.0
    assert members.sweep(resumed) == ([], [])
    now = resumed
    while now < resumed + LEASE:
        assert members.sweep(now) == ([], [])
        now += 0.1
    assert [m.id for m in members.sweep(resumed + LEASE + 0.1)[0]] == ["a-0.1"]
