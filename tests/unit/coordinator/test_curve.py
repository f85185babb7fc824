"""CURVE over TCP: who gets in, and what each may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import zmq

from coordinator.client import ControlClient, dealer
from coordinator.coordinator import Coordinator
from coordinator.errors import CommandRefusedError, CoordinatorUnavailableError, StartError
from coordinator.protocol import (
    Answer,
    Lookup,
    LookupOp,
    Put,
    Refusal,
    decode_answers,
    encode_sessions,
)
from coordinator.settings import ROLES, AllowedKey, ServerCurve
from tests.unit.coordinator.conftest import StartCoordinator
from tests.waiting import eventually

SCOPE = b"s" * 32
WORKER = {
    "role": "worker",
    "id": "a-0.1",
    "pid": 42,
    "host": "h",
    "group": "a",
    "version": "1",
    "state": "ready",
}


@dataclass(frozen=True)
class Keys:
    """As :class:`coordinator.client.CurveCredentials`."""

    server_public: str
    public: str
    secret: str


def key_pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


SERVER = key_pair()
PAIRS = {role: key_pair() for role in ROLES}
STRANGER = key_pair()


def keys(pair: tuple[str, str], server: str = SERVER[0]) -> Keys:
    return Keys(server, *pair)


@pytest.fixture
def coordinator(start: StartCoordinator) -> Coordinator:
    return start(
        sessions_endpoint="tcp://127.0.0.1:*",
        control_endpoint="tcp://127.0.0.1:*",
        curve=ServerCurve(public=SERVER[0], secret=SERVER[1]),
        allowed=tuple(
            AllowedKey(public=pair[0], role=role, name=role) for role, pair in PAIRS.items()
        ),
    )


def request(
    coordinator: Coordinator, credentials: Keys | None, type_: str, body: dict[str, Any]
) -> dict[str, Any]:
    with ControlClient(coordinator.control_address, credentials) as client:
        return client.request(type_, body, 5)


@pytest.mark.parametrize("role", ROLES)
def test_a_listed_key_gets_in(coordinator: Coordinator, role: str) -> None:
    assert request(coordinator, keys(PAIRS[role]), "ping", {})["boot"]


@pytest.mark.parametrize(
    "credentials",
    [keys(STRANGER), keys(PAIRS["admin"], server=STRANGER[0]), None],
    ids=["unknown key", "wrong server key", "no CURVE"],
)
def test_others_get_no_answer(coordinator: Coordinator, credentials: Keys | None) -> None:
    with (
        ControlClient(coordinator.control_address, credentials) as client,
        pytest.raises(CoordinatorUnavailableError),
    ):
        client.request("ping", {}, 0.5)
    assert request(coordinator, keys(PAIRS["admin"]), "ping", {})["boot"]


def test_a_refused_key_is_counted(coordinator: Coordinator) -> None:
    with (
        ControlClient(coordinator.control_address, keys(STRANGER)) as client,
        pytest.raises(CoordinatorUnavailableError),
    ):
        client.request("ping", {}, 0.2)

    def counted() -> bool:
        messages = coordinator.status().result(5)["coordinator"]["messages"]
        return bool(messages["connections_refused"] > 0)

    eventually(counted, within=5, what="the refused connection is counted")


def test_a_role_limits_what_its_key_may_send(coordinator: Coordinator) -> None:
    for role, type_, body in (
        ("worker", "status", {}),
        ("worker", "purge", {}),
        ("worker", "register", {**WORKER, "role": "supervisor"}),
        ("supervisor", "scale", {"workers": 1}),
        ("admin", "seed", {"id": "x", "purpose": "y"}),
        ("admin", "register", WORKER),
    ):
        with pytest.raises(CommandRefusedError) as refused:
            request(coordinator, keys(PAIRS[role]), type_, body)
        assert refused.value.code == "forbidden", (role, type_)
    assert request(coordinator, keys(PAIRS["worker"]), "register", WORKER)["boot"]
    status = request(coordinator, keys(PAIRS["admin"]), "status", {})["status"]
    assert [worker["id"] for worker in status["workers"]] == ["a-0.1"]
    assert status["server"]["supervisors"] == []
    assert status["coordinator"]["messages"]["errors"] == {"forbidden": 6}


def test_sessions_travel_for_workers_only(
    coordinator: Coordinator, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    frame = encode_sessions(
        "w",
        [Put(SCOPE, SCOPE, b"value", None)],
        [Lookup(1, LookupOp.TAKE, SCOPE, (SCOPE,))],
    )
    admin = dealer(context, coordinator.sessions_address, keys(PAIRS["admin"]))
    admin.send(frame)
    assert admin.poll(5000)
    refusal = decode_answers(admin.recv())
    assert isinstance(refusal, Refusal)
    assert refusal.code == "forbidden"
    worker = dealer(context, coordinator.sessions_address, keys(PAIRS["worker"]))
    worker.send(frame)
    assert worker.poll(5000)
    assert decode_answers(worker.recv()) == (Answer(1, SCOPE, b"value", None),)


def test_a_message_of_several_frames_is_refused(
    coordinator: Coordinator, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    worker = dealer(context, coordinator.sessions_address, keys(PAIRS["worker"]))
    worker.send_multipart([b"a", b"b", b"c"])
    assert worker.poll(5000)
    refusal = decode_answers(worker.recv())
    assert isinstance(refusal, Refusal)
    assert refusal.code == "shape"


def test_plain_tcp_is_refused_at_start(start: StartCoordinator) -> None:
    with pytest.raises(StartError, match="open to everybody"):
        start(control_endpoint="tcp://127.0.0.1:*")


def test_a_port_in_use_is_a_start_error(start: StartCoordinator, coordinator: Coordinator) -> None:
    with pytest.raises(StartError, match=r"coordinator\.sessions: cannot bind .*in use"):
        start(
            sessions_endpoint=coordinator.sessions_address,
            curve=ServerCurve(public=SERVER[0], secret=SERVER[1]),
        )
