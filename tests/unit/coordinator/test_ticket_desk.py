"""Ticket keys over the control endpoint: a script of messages."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from coordinator.errors import MessageError
from coordinator.protocol import Order, Refusal, Reply, decode_from_coordinator
from coordinator.registry import MemberState, Registration, Registry, Role
from coordinator.stats import WorkerStats
from coordinator.strikes import StrikeRegister
from coordinator.ticket_desk import TicketDesk, Waiting
from coordinator.ticket_keys import KeyRing
from coordinator.watermarks import TicketFilter

WALL = 1_700_000_000.0
ADMIN = b"admin"


class Script:
    """A desk, its workers as they behave, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.registry = Registry(lease=2.0)
        strikes = StrikeRegister(capacity=10, now=0.0, wall=WALL)
        self.ring = KeyRing(rotate_every=3600.0, keep=4, random=secrets.token_bytes)
        self.desk = TicketDesk(self.ring, strikes, self.registry, settle=2.0)
        self.told: dict[str, dict[str, Any]] = {}
        self.answers: list[Reply | Refusal] = []

    def register(self, id_: str, about: dict[str, Any] | None = None) -> dict[str, Any]:
        registration = Registration(
            role=Role.WORKER,
            id=id_,
            pid=1,
            host="h",
            group="g",
            slot=None,
            version="1",
            state=MemberState.READY,
            key=None,
            routing=id_.encode(),
        )
        self.registry.register(registration, self.now)
        body = {"ticket_keys": {"holds": False, "watermarks": []} if about is None else about}
        reply = self.desk.registered(id_, body, self.now)["ticket_keys"]
        assert isinstance(reply, dict)
        self.told[id_] = reply
        return reply

    def take(self, outgoing: list[tuple[bytes, bytes]]) -> set[str]:
        """Take in what was sent; who was told a change."""
        told = set()
        for routing, frame in outgoing:
            message = decode_from_coordinator(frame)
            if isinstance(message, Order):
                assert (message.order, message.body["do"]) == (0, "ticket_keys")
                self.told[routing.decode()] = message.body["ticket_keys"]
                told.add(routing.decode())
            else:
                assert routing == ADMIN
                self.answers.append(message)
        return told

    def beat(self, *ids: str, serial: int | None = None) -> set[str]:
        """Heartbeats that acknowledge what was told, or `serial`."""
        told = set()
        for id_ in ids:
            member = self.registry.get(id_)
            assert member is not None
            had = self.told[id_]["serial"] if serial is None else serial
            member.worker = WorkerStats(ticket_serial=had)
            told |= self.take(self.desk.heard(member, self.now))
        return told

    def tick(self, seconds: float = 0.1) -> set[str]:
        self.now += seconds
        return self.take(self.desk.tick(self.now))

    def rotate(self, timeout: float = 10.0) -> set[str]:
        return self.take(self.desk.rotate(Waiting(ADMIN, 7, timeout), self.now))

    def purge(self, which: TicketFilter = TicketFilter(), **how: float) -> set[str]:  # noqa: B008
        waiting = Waiting(ADMIN, 8, 10.0)
        wall = WALL + self.now
        return self.take(
            self.desk.purge(waiting, which, {"sessions": 3}, now=self.now, wall=wall, **how)
        )


@pytest.fixture
def two() -> Script:
    """Two workers that have the ring."""
    script = Script()
    for id_ in ("a", "b"):
        script.register(id_)
        script.beat(id_)
    return script


def test_the_first_worker_gets_a_ring_that_seals_and_the_next_the_same() -> None:
    script = Script()
    first, second = script.register("a"), script.register("b")
    assert first["active"] is not None
    assert first == second
    assert first["watermarks"] == []


def test_a_worker_that_seals_no_tickets_is_told_nothing_and_holds_nothing_up(two: Script) -> None:
    assert two.desk.registered("c", {}, two.now) == {}
    assert two.rotate() == {"a", "b"}


def test_workers_of_an_earlier_coordinator_get_time_to_come() -> None:
    script = Script()
    assert script.register("a", {"holds": True, "watermarks": []})["active"] is None
    script.tick(1.0)
    assert script.register("b", {"holds": True, "watermarks": []})["active"] is None
    script.beat("a", "b")
    assert script.tick(1.1) == {"a", "b"}
    assert script.told["a"]["active"] is not None


def test_rotation_waits_for_every_live_worker_and_is_answered_when_all_seal(two: Script) -> None:
    before = two.told["a"]["active"]
    assert two.rotate() == {"a", "b"}
    assert two.told["a"]["active"] == before
    assert len(two.told["a"]["epochs"]) == 2
    two.beat("a")
    assert two.tick() == set()
    two.beat("b")
    assert two.tick() == {"a", "b"}
    assert two.told["a"]["active"] not in (before, None)
    two.beat("a")
    two.tick()
    assert two.answers == []
    two.beat("b")
    two.tick()
    (answer,) = two.answers
    assert isinstance(answer, Reply)
    assert answer.body["workers"] == 2
    assert answer.body["epoch"] == two.told["b"]["active"].hex()[:8]


def test_a_lost_worker_does_not_hold_rotation_up(two: Script) -> None:
    two.rotate()
    two.beat("a")
    lost = two.registry.get("b")
    assert lost is not None
    lost.state = MemberState.LOST
    assert two.tick() == {"a"}
    two.beat("a")
    two.tick()
    assert isinstance(two.answers[0], Reply)
    # It comes back with what it had, and is told what it missed.
    lost.state = MemberState.READY
    assert two.beat("b") == {"b"}


def test_a_worker_that_left_does_not_hold_rotation_up(two: Script) -> None:
    two.rotate()
    two.beat("a")
    two.registry.goodbye("b", None)
    assert two.tick() == {"a"}


def test_a_change_that_was_lost_is_told_again(two: Script) -> None:
    serial = two.ring.serial
    two.rotate()
    assert two.beat("a", serial=serial) == {"a"}
    assert two.beat("a") == set()


def test_a_serial_that_was_never_given_acknowledges_nothing_more(two: Script) -> None:
    two.beat("a", "b", serial=2**40)
    two.rotate()
    assert two.tick() == set()
    assert two.ring.next is not None


def test_who_does_not_acknowledge_is_named(two: Script) -> None:
    two.rotate(timeout=5.0)
    two.beat("a")
    two.tick(5.1)
    (answer,) = two.answers
    assert isinstance(answer, Refusal)
    assert answer.code == "expired"
    assert "from b" in answer.detail


def test_a_purge_is_set_again_once_all_have_it(two: Script) -> None:
    """As a worker that had not heard of it may have handed out another ticket."""
    two.now = 100.0
    assert two.purge() == {"a", "b"}
    ((first, *rest),) = two.told["a"]["watermarks"]
    assert first == int((WALL + 100.0) * 1000) + 1
    assert rest == [None] * 4
    two.beat("a", "b")
    assert two.tick(0.5) == {"a", "b"}
    ((second, *_),) = two.told["a"]["watermarks"]
    assert second == int((WALL + 100.5) * 1000) + 1
    assert two.answers == []
    two.beat("a", "b")
    two.tick()
    (answer,) = two.answers
    assert isinstance(answer, Reply)
    assert answer.body == {
        "ok": True,
        "sessions": 3,
        "tickets_before": second / 1000,
        "workers": 2,
    }


def test_a_purge_of_everything_drops_keys_that_only_open(two: Script) -> None:
    two.rotate()
    for _ in range(3):
        two.beat("a", "b")
        two.tick()
    assert len(two.ring) == 2
    two.purge(TicketFilter(server_name="a.example"))
    two.beat("a", "b")
    two.tick()
    assert len(two.ring) == 2
    two.purge()
    two.beat("a", "b")
    two.tick()
    assert len(two.ring) == 1


def test_a_purge_of_some_says_which_and_how_old(two: Script) -> None:
    which = TicketFilter(b"s" * 32, "a.example", b"c" * 32, "w-0.1")
    two.now = 100.0
    two.purge(which, older_than=60.0)
    ((before, *rest),) = two.told["a"]["watermarks"]
    assert before == int((WALL + 40.0) * 1000) + 1
    assert rest == [b"s" * 32, "a.example", b"c" * 32, "w-0.1"]


def test_purges_survive_the_coordinator_in_its_workers(two: Script) -> None:
    two.purge()
    known = two.told["a"]["watermarks"]
    later = Script()
    later.register("new")
    later.beat("new")
    assert later.register("a", {"holds": True, "watermarks": known})["watermarks"] == known
    assert later.tick() == {"a", "new"}
    assert later.told["new"]["watermarks"] == known


def test_what_a_worker_says_of_its_ring_is_checked() -> None:
    script = Script()
    for about in ([1], {"watermarks": [[1]]}):
        with pytest.raises(MessageError):
            script.register("a", about)  # type: ignore[arg-type]


def test_no_key_is_in_the_view(two: Script) -> None:
    view = two.desk.view(two.now)
    (epoch,) = two.told["a"]["epochs"]
    assert epoch[1].hex()[:16] not in repr(view)
    assert (view["workers"], view["keys"][0]["acknowledged"]) == (2, 2)
