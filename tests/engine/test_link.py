"""The link thread against a control endpoint that does as the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import zmq

from coordinator import protocol
from coordinator.protocol import Ack, Request, encode_error, encode_order, encode_reply
from shard import _engine
from shard.drbg import Drbg
from shard.link import Link
from shard.membership import Identity
from shard.ticket_keys import TicketKeys
from tests.engine.router import RouterThread
from tests.waiting import eventually

TIMEOUT = 5.0
SEED = bytes(range(48))


def ring(serial: int) -> dict[str, Any]:
    """A ring with one key, which seals."""
    name = b"n" * 16
    epochs = [[name, b"k" * 32, 100.0]]
    return {"serial": serial, "epochs": epochs, "active": name, "watermarks": []}


class Generator:
    """What the link does to the DRBG.

    :ivar reseeds: (seed, reason).
    :ivar missing: why the last one was without the coordinator's seed.
    """

    def __init__(self) -> None:
        self.reseeds: list[tuple[bytes | None, str]] = []
        self.wants_coordinator = False
        self.is_due: str | None = None
        self.missing: str | None = None
        self.failed = False
        self.breaks = False

    def reseed(
        self, seed: bytes | None, reason: str, now: float, missing: str | None = None
    ) -> None:
        if self.breaks:
            raise RuntimeError("the DRBG has failed")
        self.reseeds.append((seed, reason))
        self.missing = missing
        self.is_due = None
        self.wants_coordinator = seed is None

    def due(self, now: float) -> str | None:
        return self.is_due

    def coordinator_missing(self, why: str) -> None:
        self.missing = why


class Control(RouterThread):
    """A *control* endpoint.

    :ivar requests: all that came.
    :ivar seeds: whether a seed is given, refused ("refused"), or not answered at all (None).
    :ivar boot: its identity; change it to be another coordinator.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.requests: list[Request] = []
        self.acks: list[Ack] = []
        self.seeds: str | None = "given"
        self.boot = "b1"
        self.orders: list[bytes] = []
        self.silent = False
        self.heartbeat = 0.05
        self._peer = b""

    def kinds(self) -> list[str]:
        """Types of the requests so far."""
        return [request.type for request in self.requests]

    def received(self, peer: bytes, frame: bytes) -> list[bytes]:
        self._peer = peer
        message = protocol.decode_control(frame)
        if isinstance(message, Ack):
            self.acks.append(message)
            return []
        self.requests.append(message)
        reply = self._answer(message)
        return [] if reply is None or self.silent else [reply]

    def turn(self, send: Callable[[bytes, bytes], None]) -> None:
        while self.orders and self._peer:
            send(self._peer, self.orders.pop(0))

    def _answer(self, request: Request) -> bytes | None:
        if request.type == "seed":
            if self.seeds is None:
                return None
            if self.seeds == "refused":
                return encode_error(request.request, "refused", "too little entropy")
            return encode_reply(request.request, {"seed": SEED})
        body: dict[str, Any] = {"boot": self.boot, "heartbeat": self.heartbeat}
        if "ticket_keys" in request.body:
            body["ticket_keys"] = ring(1)
        return encode_reply(request.request, body)


class Linked:
    """A link that runs."""

    def __init__(
        self,
        endpoint: str,
        context: zmq.Context[zmq.Socket[bytes]],
        ticket_keys: TicketKeys | None = None,
    ) -> None:
        self.drbg = Generator()
        self.answers = 0
        self.sick: list[str] = []
        self.link = Link(
            Identity(worker="w-0.1", pid=1, host="h", group="w", slot=0, version="1"),
            endpoint,
            None,
            drbg=cast("Drbg", self.drbg),
            stats=lambda: {"connections": 7},
            answers=self._answered,
            sick=self.sick.append,
            zmq_context=context,
            ticket_keys=ticket_keys,
        )
        self.link.thread.start()

    def _answered(self) -> None:
        self.answers += 1


@contextmanager
def linked(endpoint: str, ticket_keys: TicketKeys | None = None) -> Iterator[Linked]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Linked(endpoint, context, ticket_keys)
    try:
        yield made
    finally:
        made.link.stop()
        made.link.thread.join(TIMEOUT)
        assert not made.link.thread.is_alive()
        context.term()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    with Control(f"ipc://{tmp_path}/control") as running:
        yield running


def test_it_registers_sends_heartbeats_and_says_goodbye(control: Control) -> None:
    with linked(control.endpoint) as made:
        made.link.change_state("ready")
        eventually(
            lambda: control.kinds().count("heartbeat") >= 3, within=TIMEOUT, what="heartbeats"
        )
        beat = control.requests[-1].body
        assert (beat["id"], beat["state"], beat["stats"]) == ("w-0.1", "ready", {"connections": 7})
        assert control.kinds()[0] == "register"
        assert made.answers >= 3
    eventually(lambda: control.kinds()[-1] == "goodbye", within=TIMEOUT, what="a goodbye")


def test_the_first_seed_is_handed_over_and_none_asked_for_again(control: Control) -> None:
    with linked(control.endpoint) as made:
        assert made.link.first_seed(TIMEOUT) == SEED
        made.link.instantiated()
        eventually(
            lambda: control.kinds().count("heartbeat") >= 5, within=TIMEOUT, what="heartbeats"
        )
        assert control.kinds().count("seed") == 1
        assert made.drbg.reseeds == []


def test_without_a_coordinator_the_start_does_not_wait_and_the_seed_follows(
    tmp_path: Path,
) -> None:
    endpoint = f"ipc://{tmp_path}/later"
    with linked(endpoint) as made:
        assert made.link.first_seed(0.05) is None
        made.drbg.wants_coordinator = True
        made.link.instantiated()
        with Control(endpoint):
            eventually(lambda: made.drbg.reseeds, within=TIMEOUT, what="a reseed")
            assert made.drbg.reseeds == [(SEED, "coordinator")]


def test_a_refusal_ends_the_wait_for_the_first_seed(control: Control) -> None:
    control.seeds = "refused"
    with linked(control.endpoint) as made:
        assert made.link.first_seed(TIMEOUT) is None


@pytest.mark.parametrize("reason", ["requests", "interval"])
def test_a_reseed_that_is_due_mixes_the_coordinators_seed_in(control: Control, reason: str) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.instantiated()
        made.drbg.is_due = reason
        eventually(lambda: made.drbg.reseeds, within=TIMEOUT, what="a reseed")
        assert made.drbg.reseeds == [(SEED, reason)]
        assert control.requests[-1].type in ("seed", "heartbeat")


@pytest.mark.parametrize("seeds", ["refused", None])
def test_a_reseed_that_is_due_happens_without_the_coordinator_too(
    control: Control, seeds: str | None
) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.instantiated()
        control.seeds = seeds
        made.drbg.is_due = "interval"
        eventually(lambda: made.drbg.reseeds, within=TIMEOUT, what="a reseed")
        assert made.drbg.reseeds == [(None, "interval")]
        assert made.drbg.missing == ("refused" if seeds else "no answer")
        # The coordinator is asked in the background meanwhile; that keeps nothing from being due.
        made.drbg.is_due = "requests"
        eventually(lambda: len(made.drbg.reseeds) == 2, within=TIMEOUT, what="another one")
        assert made.drbg.reseeds[1] == (None, "requests")


def test_a_stopped_process_that_goes_on_reseeds_at_once_and_then_with_the_coordinator(
    control: Control,
) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.instantiated()
        made.link.continued()
        eventually(lambda: len(made.drbg.reseeds) == 2, within=TIMEOUT, what="two reseeds")
        assert made.drbg.reseeds == [(None, "continued"), (SEED, "continued")]


def test_a_generator_that_failed_is_told_once_and_orders_to_it_are_refused(
    control: Control,
) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.instantiated()
        made.drbg.failed = True
        eventually(lambda: made.sick, within=TIMEOUT, what="it is told")
        control.orders.append(encode_order(5, {"do": "reseed"}))
        eventually(lambda: control.acks, within=TIMEOUT, what="an acknowledgement")
        assert control.acks == [Ack(5, {"ok": False, "detail": "the DRBG has failed"})]
        count = len(control.requests)
        eventually(lambda: len(control.requests) > count + 2, within=TIMEOUT, what="heartbeats")
        assert made.sick == ["the DRBG has failed"]
        assert made.drbg.reseeds == []


def test_a_reseed_that_fails_is_a_failure_and_names_it_to_whoever_ordered_it(
    control: Control,
) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.instantiated()
        made.drbg.breaks = True
        control.orders.append(encode_order(6, {"do": "reseed"}))
        eventually(lambda: control.acks, within=TIMEOUT, what="an acknowledgement")
        assert control.acks[0].body["ok"] is False
        assert "has failed" in control.acks[0].body["detail"]
        assert len(made.sick) == 1


def test_a_defect_of_the_link_is_told_instead_of_a_silent_end(control: Control) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link._call(lambda _now: next(iter([])))
        eventually(lambda: made.sick, within=TIMEOUT, what="it is told")
        assert made.link.crashed


def test_an_order_to_reseed_is_carried_out_before_it_is_acknowledged(control: Control) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.instantiated()
        control.orders.append(encode_order(3, {"do": "reseed"}))
        eventually(lambda: control.acks, within=TIMEOUT, what="an acknowledgement")
        assert control.acks == [Ack(3, {"ok": True, "seeded_from": "coordinator"})]
        assert made.drbg.reseeds == [(SEED, "order")]


def test_ticket_keys_are_there_before_the_start_and_a_change_is_acknowledged_at_once(
    control: Control,
) -> None:
    control.heartbeat = 10.0
    held = _engine.TicketKeys("w-0.1", 100)

    def told() -> list[int]:
        beats = [request.body for request in control.requests if request.type == "heartbeat"]
        return [beat["stats"]["ticket_keys"]["serial"] for beat in beats]

    with linked(control.endpoint, TicketKeys(held)) as made:
        made.link.first_keys(TIMEOUT)
        assert held.status().active == b"n" * 16
        eventually(lambda: told() == [1], within=TIMEOUT, what="the first acknowledgement")
        control.orders.append(encode_order(0, {"do": "ticket_keys", "ticket_keys": ring(2)}))
        eventually(lambda: told() == [1, 2], within=TIMEOUT, what="the second")
        assert control.acks == []


def test_ticket_keys_for_a_worker_that_seals_none_are_an_unknown_order(control: Control) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.first_keys(TIMEOUT)
        control.orders.append(encode_order(5, {"do": "ticket_keys", "ticket_keys": ring(2)}))
        eventually(lambda: control.acks, within=TIMEOUT, what="an acknowledgement")
        assert control.acks[0].body["ok"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": [[10**15, b"k" * 32, 1.0]]},
        {"epochs": [["n" * 16, b"k" * 32, 1.0]]},
        {"epochs": [[b"n" * 16, None, 1.0]]},
        {"epochs": [[b"n" * 16, b"k" * 32, float("inf")]]},
        {"active": 7},
        {"serial": float("inf")},
        {"watermarks": [[2**70, None, None, None, None]]},
        {"watermarks": [[1, b"short", None, None, None]]},
        {"watermarks": [[1, None, 5, None, None]]},
    ],
)
def test_nonsense_is_no_ring_and_spoils_none(change: dict[str, Any]) -> None:
    """With the engine itself, which checks what the worker passes on."""
    held = _engine.TicketKeys("w-0.1", 100)
    keys = TicketKeys(held)
    assert not keys.registered("b1", ring(1) | change)
    assert (keys.serial, keys.malformed) == (0, 1)
    assert keys.told(ring(2))
    assert held.status().active == b"n" * 16


def test_an_unknown_order_is_refused(control: Control) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        control.orders.append(encode_order(4, {"do": "dance"}))
        eventually(lambda: control.acks, within=TIMEOUT, what="an acknowledgement")
        assert control.acks[0].body["ok"] is False


def test_another_coordinator_is_registered_with(control: Control) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        control.boot = "b2"
        eventually(
            lambda: control.kinds().count("register") == 2, within=TIMEOUT, what="registering again"
        )
        count = len(control.requests)
        eventually(lambda: len(control.requests) > count + 2, within=TIMEOUT, what="heartbeats")
        assert control.kinds().count("register") == 2


def test_a_silent_coordinator_is_noticed_and_its_return(control: Control) -> None:
    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        control.silent = True
        count = len(control.requests)
        eventually(lambda: len(control.requests) > count + 1, within=TIMEOUT, what="it goes on")
        before = made.answers
        control.silent = False
        eventually(lambda: made.answers > before, within=TIMEOUT, what="an answer")


def test_a_first_output_is_told_after_each_seed_and_output_goes_back(control: Control) -> None:
    if not _engine.drbg_status().seeded:
        _engine.drbg_seed(SEED, b"tests")

    def marks() -> list[bytes]:
        beats = [r.body for r in control.requests if r.type == "heartbeat"]
        return [mark for body in beats for mark in body.get("first_outputs", [])]

    with linked(control.endpoint) as made:
        made.link.first_seed(TIMEOUT)
        made.link.instantiated()
        eventually(lambda: len(marks()) == 1, within=TIMEOUT, what="the first mark")
        _engine.drbg_reseed(SEED)
        eventually(lambda: len(marks()) == 2, within=TIMEOUT, what="another one")
    seeds = [request.body for request in control.requests if request.type == "seed"]
    assert len(seeds[0]["noise"]) == 32
    assert [len(mark) for mark in marks()] == [32, 32]
    assert marks()[0] != marks()[1]
