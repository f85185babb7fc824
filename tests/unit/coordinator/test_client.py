from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import zmq

from coordinator.client import ControlClient, dealer
from coordinator.errors import CommandRefusedError, CoordinatorUnavailableError, MessageError
from coordinator.protocol import encode_error, encode_order, encode_reply


@contextmanager
def router(path: Path, respond: Callable[[bytes], list[bytes]]) -> Iterator[str]:
    """A coordinator that answers one message by a script."""
    endpoint = f"ipc://{path}/control"
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sock = context.socket(zmq.ROUTER)
    sock.bind(endpoint)

    def serve() -> None:
        if sock.poll(5000):
            routing, frame = sock.recv_multipart()
            for answer in respond(frame):
                sock.send_multipart([routing, answer])

    thread = Thread(target=serve)
    thread.start()
    try:
        yield endpoint
    finally:
        thread.join(10)
        context.destroy(linger=0)


def test_a_reply_is_returned(runtime_dir: Path) -> None:
    with (
        router(runtime_dir, lambda _: [encode_reply(1, {"a": 1})]) as endpoint,
        ControlClient(endpoint) as client,
    ):
        assert client.request("ping", {}, 5) == {"a": 1}


def test_what_is_not_the_answer_is_passed_over(runtime_dir: Path) -> None:
    script = [
        encode_reply(99, {"old": 1}),
        encode_error(98, "refused", "old"),
        encode_order(1, {"do": "x"}),
        encode_reply(1, {"new": 1}),
    ]
    with router(runtime_dir, lambda _: script) as endpoint, ControlClient(endpoint) as client:
        assert client.request("ping", {}, 5) == {"new": 1}


@pytest.mark.parametrize("request_number", [1, None])
def test_an_error_is_raised_with_its_code(runtime_dir: Path, request_number: int | None) -> None:
    answer = encode_error(request_number, "refused", "no supervisor")
    with (
        router(runtime_dir, lambda _: [answer]) as endpoint,
        ControlClient(endpoint) as client,
        pytest.raises(CommandRefusedError) as refused,
    ):
        client.request("scale", {"workers": 1}, 5)
    assert (refused.value.code, refused.value.detail) == ("refused", "no supervisor")


def test_an_answer_that_cannot_be_read_is_an_error(runtime_dir: Path) -> None:
    with (
        router(runtime_dir, lambda _: [b"\xc1"]) as endpoint,
        ControlClient(endpoint) as client,
        pytest.raises(MessageError),
    ):
        client.request("ping", {}, 5)


def test_no_coordinator_is_told_within_the_deadline(runtime_dir: Path) -> None:
    endpoint = f"ipc://{runtime_dir}/nobody"
    started = time.monotonic()
    with ControlClient(endpoint) as client, pytest.raises(CoordinatorUnavailableError) as failed:
        client.request("ping", {}, 0.2)
    assert 0.2 <= time.monotonic() - started < 2
    assert (failed.value.endpoint, failed.value.waited) == (endpoint, 0.2)


def test_a_bad_endpoint_is_an_error_and_leaks_nothing() -> None:
    with pytest.raises(zmq.ZMQError):
        ControlClient("nonsense")


def test_the_dealer_has_the_options_of_the_contract(
    context: zmq.Context[zmq.Socket[bytes]], runtime_dir: Path
) -> None:
    local = dealer(context, f"ipc://{runtime_dir}/x")
    remote = dealer(context, "tcp://127.0.0.1:1")
    for sock in (local, remote):
        assert sock.getsockopt(zmq.LINGER) == 0
        assert sock.getsockopt(zmq.SNDHWM) == 1000
        assert sock.getsockopt(zmq.HEARTBEAT_IVL) == 500
        assert sock.getsockopt(zmq.HEARTBEAT_TIMEOUT) == 1500
        assert sock.getsockopt(zmq.RECONNECT_IVL) == 100
        assert sock.getsockopt(zmq.CONNECT_TIMEOUT) == 1000
        assert sock.getsockopt(zmq.IPV6) == 1
    assert local.getsockopt(zmq.RECONNECT_IVL_MAX) == 0
    assert remote.getsockopt(zmq.RECONNECT_IVL_MAX) == 1000
