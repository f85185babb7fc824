"""The control desk: a script of messages in and messages out."""

from __future__ import annotations

import secrets
from typing import Any

import msgpack
import pytest

from coordinator.control import ControlDesk, Outgoing
from coordinator.entropy import EntropyAccumulator
from coordinator.gathering import fill
from coordinator.lookups import SessionDesk
from coordinator.noise import SystemRandomSource, WorkersSource
from coordinator.orders import OrderBook
from coordinator.parking import ParkingTable
from coordinator.permissions import LOCAL, AllowList, Peer
from coordinator.protocol import (
    CONTROL_TYPES,
    VERSION,
    Order,
    Refusal,
    Reply,
    decode_from_coordinator,
    encode_ack,
    encode_request,
)
from coordinator.registry import Registry
from coordinator.sessions import SessionCache
from coordinator.settings import AllowedKey
from coordinator.status import Process, not_ready_reason
from coordinator.strikes import StrikeRegister
from coordinator.ticket_desk import TicketDesk
from coordinator.ticket_keys import KeyRing
from coordinator.traffic import Traffic

CLI, SUP, WORKER = b"cli", b"sup", b"worker"
WORKER_BODY: dict[str, Any] = {
    "role": "worker",
    "id": "a-0.1",
    "pid": 42,
    "host": "h",
    "group": "a",
    "slot": 0,
    "version": "1",
    "state": "starting",
}
SUPERVISOR_BODY = {**WORKER_BODY, "role": "supervisor", "id": "a", "slot": None}


class Script:
    """A desk, and a clock that the test moves."""

    def __init__(self, *, entropy: bool = True, back: bool = False) -> None:
        self.now = 0.0
        source = SystemRandomSource()
        specs = [source.spec] if entropy else []
        self.entropy = EntropyAccumulator([*specs, WorkersSource.spec] if back else specs)
        self.traffic = Traffic()
        self.cache = SessionCache(ttl=10.0, max_bytes=1 << 20, max_entries=100)
        strikes = StrikeRegister(capacity=100, now=0.0, wall=0.0)
        registry = Registry(lease=2.0)
        ring = KeyRing(rotate_every=43200.0, keep=4, random=secrets.token_bytes)
        self.desk = ControlDesk(
            process=Process(pid=1, started=0.0, boot="b00t", version="9", deployment=""),
            registry=registry,
            orders=OrderBook(),
            entropy=self.entropy,
            sessions=SessionDesk(self.cache, ParkingTable(park=0.0), strikes),
            tickets=TicketDesk(ring, strikes, registry, settle=2.0),
            gather=lambda: fill(
                [source] if entropy else [],
                lambda: self.entropy.available() >= self.entropy.required_bits,
                lambda name, samples: self.entropy.add(name, samples, 0.0),
                lambda name, reason: self.entropy.fail(name, reason, 0.0),
            ),
            traffic=self.traffic,
            heartbeat=0.5,
            order_timeout=60.0,
        )

    def send(self, routing: bytes, frame: bytes, peer: Peer = LOCAL) -> list[tuple[bytes, Any]]:
        return decoded(self.desk.handle(routing, peer, frame, self.now, self.now))

    def ask(
        self, routing: bytes, type_: str, body: dict[str, Any], peer: Peer = LOCAL
    ) -> list[tuple[bytes, Any]]:
        return self.send(routing, encode_request(type_, 5, body), peer)

    def reply(self, routing: bytes, type_: str, body: dict[str, Any]) -> dict[str, Any]:
        ((to, answer),) = self.ask(routing, type_, body)
        assert to == routing
        assert isinstance(answer, Reply), answer
        assert answer.request == 5
        return answer.body

    def refusal(
        self, routing: bytes, type_: str, body: dict[str, Any], peer: Peer = LOCAL
    ) -> Refusal:
        ((to, answer),) = self.ask(routing, type_, body, peer)
        assert to == routing
        assert isinstance(answer, Refusal), answer
        assert answer.request == 5
        return answer

    def order(self, type_: str, body: dict[str, Any]) -> tuple[bytes, Order]:
        ((to, order),) = self.ask(CLI, type_, body)
        assert isinstance(order, Order), order
        return to, order

    def status(self) -> dict[str, Any]:
        return self.desk.status(self.now, self.now)


def decoded(outgoing: list[Outgoing]) -> list[tuple[bytes, Any]]:
    return [(routing, decode_from_coordinator(frame)) for routing, frame in outgoing]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def staffed(script: Script) -> Script:
    """One supervisor and one worker of it."""
    script.reply(SUP, "register", SUPERVISOR_BODY)
    script.reply(WORKER, "register", WORKER_BODY)
    return script


def test_a_worker_s_life_is_in_the_status(script: Script) -> None:
    reply = script.reply(WORKER, "register", WORKER_BODY)
    assert reply == {"boot": "b00t", "heartbeat": 0.5, "lease": 2.0}
    assert not_ready_reason(script.status()) == "no worker is ready: 1 starting"
    stats = {"connections": 3, "handshakes": {"full": 1, "resumed": 2}}
    body = {"id": "a-0.1", "state": "ready", "stats": stats}
    assert script.reply(WORKER, "heartbeat", body) == {"boot": "b00t"}
    status = script.status()
    (worker,) = status["workers"]
    assert (worker["state"], worker["connections"]) == ("ready", 3)
    assert worker["handshakes"] == {"full": 1, "resumed": 2, "failed": 0}
    assert not_ready_reason(status) is None
    script.now = 5.0
    script.desk.tick(script.now)
    assert script.status()["workers"][0]["state"] == "lost"
    assert not_ready_reason(script.status()) is not None
    script.reply(WORKER, "heartbeat", body)
    assert script.status()["workers"][0]["state"] == "ready"
    assert script.reply(WORKER, "goodbye", {"id": "a-0.1"}) == {}
    assert script.status()["workers"] == []


def test_a_supervisor_s_stats_are_in_the_status(staffed: Script) -> None:
    stats = {"workers_wanted": 4, "restarts": 2}
    staffed.reply(SUP, "heartbeat", {"id": "a", "state": "ready", "stats": stats})
    server = staffed.status()["server"]
    assert (server["workers_wanted"], server["restarts"]) == (4, 2)
    assert [s["id"] for s in server["supervisors"]] == ["a"]
    assert [w["id"] for w in staffed.status()["workers"]] == ["a-0.1"]


def test_a_heartbeat_of_an_unknown_id_asks_to_register(script: Script) -> None:
    answer = script.refusal(WORKER, "heartbeat", {"id": "x", "state": "ready", "stats": {"a": []}})
    assert answer.code == "unregistered"


def test_a_refused_heartbeat_changes_nothing(staffed: Script) -> None:
    staffed.now = 1.0
    body = {"id": "a-0.1", "state": "ready", "stats": {"connections": -1}}
    assert staffed.refusal(WORKER, "heartbeat", body).code == "shape"
    (worker,) = staffed.status()["workers"]
    assert (worker["state"], worker["silent_seconds"]) == ("starting", 1.0)


def test_the_status_is_json_and_msgpack(staffed: Script) -> None:
    import json

    status = staffed.status()
    assert json.loads(json.dumps(status)) == status
    assert staffed.reply(CLI, "status", {})["status"]["workers"] == status["workers"]


def test_every_seed_differs_and_is_in_the_ledger(script: Script) -> None:
    seeds = [
        script.reply(WORKER, "seed", {"id": "a-0.1", "purpose": "instantiate"})["seed"]
        for _ in range(20)
    ]
    assert {len(seed) for seed in seeds} == {48}
    assert len(set(seeds)) == 20
    entropy = script.status()["coordinator"]["entropy"]
    assert entropy["seeds"] == 20
    assert entropy["ledger"][-1]["requester"] == "a-0.1"


def test_without_entropy_a_seed_is_refused_and_counted() -> None:
    script = Script(entropy=False)
    answer = script.refusal(WORKER, "seed", {"id": "a-0.1", "purpose": "instantiate"})
    assert answer.code == "insufficient_entropy"
    assert "bits of entropy" in answer.detail
    assert script.status()["coordinator"]["entropy"]["refusals"] == 1


def test_scale_becomes_an_order_and_its_acknowledgement_the_reply(staffed: Script) -> None:
    to, order = staffed.order("scale", {"workers": 3})
    assert (to, order.body) == (SUP, {"do": "scale", "workers": 3})
    answers = staffed.send(SUP, encode_ack(order.order, {"ok": True, "workers": 3}))
    assert answers == [(CLI, Reply(5, {"ok": True, "workers": 3}))]


def test_an_acknowledgement_counts_from_the_member_that_was_asked_only(staffed: Script) -> None:
    _, order = staffed.order("reload", {})
    assert staffed.send(WORKER, encode_ack(order.order, {"ok": True})) == []
    assert staffed.send(b"stranger", encode_ack(order.order, {"ok": True})) == []
    assert len(staffed.desk.orders) == 1


def test_a_supervisor_may_acknowledge_on_a_new_connection(staffed: Script) -> None:
    _, order = staffed.order("reload", {})
    staffed.reply(b"sup-2", "heartbeat", {"id": "a", "state": "ready", "stats": {}})
    answers = staffed.send(b"sup-2", encode_ack(order.order, {"ok": True}))
    assert answers == [(CLI, Reply(5, {"ok": True}))]


def test_a_refused_order_is_a_refusal(staffed: Script) -> None:
    _, order = staffed.order("reload", {})
    answers = staffed.send(SUP, encode_ack(order.order, {"ok": False, "detail": "tls.key: bad"}))
    assert answers == [(CLI, Refusal(5, "refused", "tls.key: bad"))]


def test_an_order_expires_when_its_request_says_so(staffed: Script) -> None:
    staffed.order("reload", {"timeout": 0.5})
    staffed.now = 0.5
    ((to, answer),) = decoded(staffed.desk.tick(staffed.now))
    assert (to, answer.code) == (CLI, "expired")


def test_an_order_to_a_supervisor_that_is_lost_fails_with_it(staffed: Script) -> None:
    staffed.order("reload", {})
    staffed.now = 3.0
    answers = decoded(staffed.desk.tick(staffed.now))
    assert [(to, answer.code) for to, answer in answers] == [(CLI, "refused")]


def test_an_order_to_one_that_says_goodbye_fails_with_it(staffed: Script) -> None:
    staffed.order("reload", {})
    answers = staffed.ask(SUP, "goodbye", {"id": "a"})
    assert answers[0] == (SUP, Reply(5, {}))
    assert (answers[1][0], answers[1][1].code) == (CLI, "refused")


def test_drain_goes_to_the_worker_s_own_supervisor(staffed: Script) -> None:
    staffed.reply(b"sup-b", "register", {**SUPERVISOR_BODY, "id": "b", "group": "b"})
    to, order = staffed.order("drain", {"worker": "a-0.1"})
    assert (to, order.body) == (SUP, {"do": "drain", "worker": "a-0.1"})


@pytest.mark.parametrize("worker", ["nobody", "a"])
def test_drain_of_what_is_no_worker_is_refused(staffed: Script, worker: str) -> None:
    assert staffed.refusal(CLI, "drain", {"worker": worker}).code == "refused"


def test_several_supervisors_reload_together_and_scale_by_name(staffed: Script) -> None:
    staffed.reply(b"sup-b", "register", {**SUPERVISOR_BODY, "id": "b", "group": "b"})
    assert staffed.refusal(CLI, "scale", {"workers": 2}).detail == (
        "name one of the supervisors: a, b"
    )
    assert staffed.order("scale", {"workers": 2, "supervisor": "b"})[0] == b"sup-b"
    assert staffed.refusal(CLI, "scale", {"workers": 2, "supervisor": "c"}).code == "refused"
    orders = staffed.ask(CLI, "reload", {})
    assert [to for to, _ in orders] == [SUP, b"sup-b"]
    number = orders[0][1].order
    assert staffed.send(SUP, encode_ack(number, {"ok": True})) == []
    ((_, answer),) = staffed.send(b"sup-b", encode_ack(number, {"ok": True}))
    assert answer.body["ok"] is True


@pytest.mark.parametrize(
    ("type_", "body"),
    [("scale", {"workers": 2}), ("reload", {}), ("rotate", {"drbg": True})],
)
def test_orders_need_somebody(script: Script, type_: str, body: dict[str, Any]) -> None:
    assert script.refusal(CLI, type_, body).code == "absent"


@pytest.mark.parametrize("workers", [-1, 1.5, "2", None, True, 10**6])
def test_a_number_of_workers_is_checked(staffed: Script, workers: object) -> None:
    assert staffed.refusal(CLI, "scale", {"workers": workers}).code == "shape"


def test_rotate_reseeds_the_workers_and_has_no_ticket_keys(staffed: Script) -> None:
    to, order = staffed.order("rotate", {"drbg": True})
    assert (to, order.body) == (WORKER, {"do": "reseed"})
    assert staffed.send(WORKER, encode_ack(order.order, {"ok": True}))[0][0] == CLI
    assert "no ticket keys" in staffed.refusal(CLI, "rotate", {}).detail


def test_rotate_names_the_workers_that_cannot_reseed_and_waits_for_none_of_them(
    staffed: Script,
) -> None:
    other = {**WORKER_BODY, "id": "a-1.1", "slot": 1}
    staffed.reply(b"worker-b", "register", other)
    for now in (0.5, 1.0, 1.5, 2.0, 2.5):
        staffed.now = now
        staffed.reply(b"worker-b", "heartbeat", {"id": "a-1.1", "state": "ready"})
        staffed.desk.tick(now)
    sent = staffed.send(CLI, encode_request("rotate", 9, {"drbg": True}))
    orders = [(to, message) for to, message in sent if isinstance(message, Order)]
    assert {to for to, _ in orders} == {WORKER, b"worker-b"}
    number = orders[0][1].order
    ((to, refused),) = staffed.send(b"worker-b", encode_ack(number, {"ok": True}))
    assert to == CLI
    assert isinstance(refused, Refusal)
    assert refused.detail == "a-0.1: it is lost; 1 of 2 did it"


def test_purge_tells_how_many(script: Script) -> None:
    script.cache.put(b"s" * 32, b"i" * 32, b"v", None, "w", 0.0)
    assert script.ask(CLI, "purge", {}) == []
    assert decoded(script.desk.advance_purges(0.0, 0.0)) == [
        (CLI, Reply(5, {"ok": True, "sessions": 1}))
    ]
    assert decoded(script.desk.advance_purges(0.0, 0.0)) == []
    assert script.desk.purges.due is None


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", "shape"),
        (b"\xc1", "shape"),
        (msgpack.packb([VERSION + 1, "ping", 1, {}]), "version"),
        (msgpack.packb([VERSION, "obey", 1, {}]), "type"),
        (msgpack.packb([VERSION, "ping", -1, {}]), "shape"),
        (msgpack.packb([VERSION, "ping", 1, []]), "shape"),
        (msgpack.packb([VERSION, "ping", 1]), "shape"),
        (msgpack.packb({"ping": 1}), "shape"),
    ],
)
def test_garbage_gets_an_error_and_is_counted(script: Script, frame: bytes, code: str) -> None:
    ((to, answer),) = script.send(CLI, frame)
    assert (to, answer.request, answer.code) == (CLI, None, code)
    assert script.traffic.errors == {code: 1}


ALLOWED = AllowList(
    AllowedKey(public=role * 8, role=role, name=role) for role in ("worker", "supervisor", "admin")
)
MAY = {
    "worker": {"register", "heartbeat", "goodbye", "seed", "ping"},
    "supervisor": {"register", "heartbeat", "goodbye", "seed", "ping"},
    "admin": {"status", "entropy", "scale", "drain", "reload", "rotate", "purge", "ping"},
}


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("type_", sorted(CONTROL_TYPES))
def test_a_role_may_send_its_messages_only(role: str, type_: str) -> None:
    script = Script()
    answers = script.ask(b"r", type_, {}, ALLOWED.peer(role * 8))
    codes = {answer.code for _, answer in answers if isinstance(answer, Refusal)}
    assert ("forbidden" in codes) == (type_ not in MAY[role])
    assert script.status()["workers"] == []


def test_a_worker_s_key_cannot_register_a_supervisor(script: Script) -> None:
    peer = ALLOWED.peer("worker" * 8)
    assert script.refusal(b"r", "register", SUPERVISOR_BODY, peer).code == "forbidden"
    assert script.status()["server"]["supervisors"] == []


def test_an_administrator_s_key_cannot_acknowledge(staffed: Script) -> None:
    _, order = staffed.order("reload", {})
    ((_, answer),) = staffed.send(
        SUP, encode_ack(order.order, {"ok": True}), ALLOWED.peer("admin" * 8)
    )
    assert answer.code == "forbidden"


def test_a_seed_cannot_be_asked_for_in_another_s_name(script: Script) -> None:
    script.reply(WORKER, "register", WORKER_BODY)
    body = {"id": "a-0.1", "purpose": "reseed"}
    assert script.refusal(b"r", "seed", body, ALLOWED.peer("worker" * 8)).code == "forbidden"
