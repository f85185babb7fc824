"""Scripts of what a worker says to the control endpoint; time is a number."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.protocol import (
    MAX_FIRST_OUTPUTS,
    Ack,
    Request,
    decode_control,
    encode_error,
    encode_order,
    encode_reply,
)
from shard.membership import (
    ANSWER_WITHIN,
    HEARTBEAT,
    SEED_RETRY,
    Answering,
    Event,
    Identity,
    Membership,
    Ordered,
    Registered,
    SeedGiven,
    SeedRefused,
)

IDENTITY = Identity(worker="w-0.1", pid=42, host="h", group="w", slot=0, version="1.0")
STATS = {"connections": 3}
SEED = bytes(range(48))


class Script:
    """A membership and the coordinator's side of it."""

    def __init__(self) -> None:
        self.membership = Membership(IDENTITY)

    def said(self, now: float) -> list[Request]:
        requests = []
        for frame in self.membership.frames(STATS, now):
            request = decode_control(frame)
            assert isinstance(request, Request)
            requests.append(request)
        return requests

    def reply(self, request: Request, body: dict[str, Any], now: float) -> list[Event]:
        return self.membership.received(encode_reply(request.request, body), now)

    def register(self, now: float, boot: str = "b1", **body: Any) -> list[Event]:
        (request,) = self.said(now)
        assert request.type == "register"
        return self.reply(request, {"boot": boot} | body, now)

    def beat(self, now: float, boot: str = "b1") -> list[Event]:
        (request,) = self.said(now)
        assert request.type == "heartbeat"
        return self.reply(request, {"boot": boot}, now)


def test_it_registers_first_with_everything_it_is() -> None:
    script = Script()
    (request,) = script.said(1.0)
    assert request.type == "register"
    assert request.body == {
        "role": "worker",
        "id": "w-0.1",
        "pid": 42,
        "host": "h",
        "group": "w",
        "slot": 0,
        "version": "1.0",
        "state": "starting",
    }
    assert script.reply(request, {"boot": "b1"}, 1.01) == [
        Answering(returned=True),
        Registered("b1", {"boot": "b1"}),
    ]
    assert script.membership.registered


def test_what_else_it_says_is_asked_for_at_each_registration() -> None:
    script = Script()
    said = iter([{"more": 1}, {"more": 2}])
    script.membership = Membership(IDENTITY, about=lambda: next(said))
    (request,) = script.said(1.0)
    assert request.body["more"] == 1
    script.membership.overdue(2.0)
    (request,) = script.said(2.0)
    assert request.body["more"] == 2


def test_keys_in_what_it_is_told_are_in_no_repr() -> None:
    body = {"ticket_keys": b"key" * 8}
    assert "key" not in repr(Registered("b1", body))
    assert "keykey" not in repr(Ordered(0, "ticket_keys", body))


def test_the_first_heartbeat_follows_at_once_and_then_one_each_interval() -> None:
    script = Script()
    script.register(1.0)
    (request,) = script.said(1.0)
    assert request.type == "heartbeat"
    assert request.body == {"id": "w-0.1", "state": "starting", "stats": STATS}
    assert script.reply(request, {"boot": "b1"}, 1.0) == [Answering(returned=False)]
    assert script.membership.due == 1.0 + HEARTBEAT
    assert script.said(1.0 + HEARTBEAT - 0.01) == []
    assert script.said(1.0 + HEARTBEAT)[0].type == "heartbeat"


@pytest.mark.parametrize(("told", "kept"), [(0.1, 0.1), (1e9, 10.0), (0.0, 0.05), ("x", 0.5)])
def test_the_coordinator_names_the_interval_within_bounds(told: object, kept: float) -> None:
    script = Script()
    script.register(1.0, heartbeat=told)
    script.beat(1.0)
    assert script.membership.due == 1.0 + kept


def test_a_new_coordinator_is_noticed_and_registered_with() -> None:
    script = Script()
    script.register(1.0)
    script.beat(1.0)
    assert script.beat(1.5, boot="b2") == [Answering(returned=True)]
    assert script.register(1.5, boot="b2", heartbeat=1) == [
        Answering(returned=True),
        Registered("b2", {"boot": "b2", "heartbeat": 1}),
    ]


def test_a_coordinator_that_forgot_it_is_registered_with_again() -> None:
    script = Script()
    script.register(1.0)
    (request,) = script.said(1.0)
    refusal = encode_error(request.request, "unregistered", "who?")
    assert script.membership.received(refusal, 1.1) == [Answering(returned=False)]
    assert script.said(1.1)[0].type == "register"


def test_silence_leaves_one_request_a_second_and_no_pile() -> None:
    script = Script()
    script.register(1.0)
    sent = 0
    now = 1.0
    while now < 11.0:
        script.membership.overdue(now)
        sent += len(script.said(now))
        now += 0.05
    assert 9 <= sent <= 11


def test_the_first_answer_after_silence_says_so_even_if_it_is_late() -> None:
    script = Script()
    script.register(1.0)
    (request,) = script.said(1.0)
    script.membership.overdue(1.0 + ANSWER_WITHIN)
    assert script.reply(request, {"boot": "b1"}, 2.5) == [Answering(returned=True)]


def test_a_change_of_state_is_told_at_once() -> None:
    script = Script()
    script.register(1.0)
    script.beat(1.0)
    script.membership.change_state("ready", 1.1)
    (request,) = script.said(1.1)
    assert request.body["state"] == "ready"


def test_a_seed_is_asked_for_behind_the_registration_and_handed_on() -> None:
    script = Script()
    script.membership.want_seed("instantiate", 1.0)
    register, seed = script.said(1.0)
    assert (register.type, seed.type) == ("register", "seed")
    assert seed.body == {"id": "w-0.1", "purpose": "instantiate"}
    script.reply(register, {"boot": "b1"}, 1.0)
    events = script.reply(seed, {"seed": SEED}, 1.01)
    assert events == [Answering(returned=False), SeedGiven(SEED)]
    assert [r.type for r in script.said(1.02)] == ["heartbeat"]


def test_output_goes_back_with_a_request_for_a_seed() -> None:
    script = Script()
    script.membership = Membership(IDENTITY, lambda: b"noise")
    script.membership.want_seed("interval", 1.0)
    assert script.said(1.0)[1].body["noise"] == b"noise"


def test_a_first_output_is_told_once_with_the_next_heartbeat() -> None:
    script = Script()
    script.membership.note_first_output(bytes(32))
    script.register(1.0)
    for now, marks in ((1.0, [bytes(32)]), (1.0 + HEARTBEAT, None)):
        (request,) = script.said(now)
        assert request.body.get("first_outputs") == marks
        script.reply(request, {"boot": "b1"}, now)


def test_no_more_first_outputs_are_kept_than_a_heartbeat_may_have() -> None:
    script = Script()
    for number in range(MAX_FIRST_OUTPUTS + 1):
        script.membership.note_first_output(bytes([number]) * 32)
    script.register(1.0)
    (request,) = script.said(1.0)
    assert [mark[0] for mark in request.body["first_outputs"]] == list(
        range(1, MAX_FIRST_OUTPUTS + 1)
    )


def test_a_seed_is_not_in_the_repr() -> None:
    assert repr(SeedGiven(SEED)) == "SeedGiven(<48 bytes>)"


@pytest.mark.parametrize("seed", [b"", bytes(47), "x" * 48, None])
def test_a_seed_of_another_shape_is_none(seed: object) -> None:
    script = Script()
    script.membership.want_seed("interval", 1.0)
    request = script.said(1.0)[1]
    events = script.reply(request, {"seed": seed}, 1.0)
    assert isinstance(events[-1], SeedRefused)
    assert script.membership.malformed == 1


def test_a_refused_seed_is_asked_for_again_later() -> None:
    script = Script()
    script.membership.want_seed("interval", 1.0)
    request = script.said(1.0)[1]
    refusal = encode_error(request.request, "refused", "too little entropy")
    assert script.membership.received(refusal, 1.1)[-1] == SeedRefused(
        "refused", "too little entropy"
    )
    script.membership.want_seed("coordinator", 1.2)
    seeds = [r.type for t in (1.2, 2.0, 1.1 + SEED_RETRY) for r in script.said(t)]
    assert seeds.count("seed") == 1
    assert seeds[-1] == "seed"


def test_a_seed_without_an_answer_is_told_as_refused() -> None:
    script = Script()
    script.membership.want_seed("interval", 1.0)
    script.said(1.0)
    assert script.membership.overdue(1.0 + ANSWER_WITHIN) == [SeedRefused("no answer", "")]


def test_a_second_answer_to_a_seed_request_is_ignored() -> None:
    script = Script()
    script.membership.want_seed("interval", 1.0)
    request = script.said(1.0)[1]
    script.reply(request, {"seed": SEED}, 1.0)
    assert script.reply(request, {"seed": SEED}, 1.0) == []


def test_an_order_is_handed_on_and_acknowledged() -> None:
    script = Script()
    frame = encode_order(7, {"do": "reseed"})
    assert script.membership.received(frame, 1.0) == [Ordered(7, "reseed", {"do": "reseed"})]
    assert decode_control(script.membership.acknowledge(7)) == Ack(7, {"ok": True})
    refused = decode_control(script.membership.acknowledge(7, "no"))
    assert refused == Ack(7, {"ok": False, "detail": "no"})


def test_a_forbidden_registration_is_kept_for_the_operator() -> None:
    script = Script()
    (request,) = script.said(1.0)
    script.membership.received(encode_error(request.request, "forbidden", "key"), 1.0)
    assert script.membership.refused == "forbidden: key"
    assert not script.membership.registered


@pytest.mark.parametrize("frame", [b"", b"\xc1", encode_reply(10**9, {})])
def test_garbage_and_strangers_replies_change_nothing(frame: bytes) -> None:
    script = Script()
    script.said(1.0)
    assert script.membership.received(frame, 1.0) == []
    assert not script.membership.registered


def test_goodbye_names_it() -> None:
    request = decode_control(Membership(IDENTITY).goodbye())
    assert isinstance(request, Request)
    assert (request.type, request.body) == ("goodbye", {"id": "w-0.1"})
