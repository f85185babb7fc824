"""The steps of a departure: refuse, wait for the queue, drain, close; with a scripted clock."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator

import pytest

from shard.departure import CLOSE_AFTER, PATIENCE, SETTLE, Departure
from shard.listeners import Listeners
from shard.settings import Address
from tests.waiting import eventually

ANY = Address("127.0.0.1", 0)


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listeners()
    made.open([ANY], 16)
    yield made
    made.close()


def address(listeners: Listeners) -> tuple[str, int]:
    (bound,) = listeners.bound([ANY])
    return bound.host, bound.port


def test_an_empty_queue_is_left_after_a_round_trip(listeners: Listeners) -> None:
    departure = Departure(listeners, 100.0)
    assert departure.due == 100.0 + SETTLE
    assert not departure.step(100.0 + SETTLE / 2)
    assert departure.step(departure.due)
    assert not departure.step(departure.due - 0.01)
    assert departure.due == 100.0 + SETTLE + CLOSE_AFTER
    assert not departure.step(departure.due)
    assert departure.due == math.inf
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address(listeners), timeout=5)


def test_a_waiting_connection_is_waited_for(listeners: Listeners) -> None:
    (fd,) = listeners.filenos([ANY])
    worker = socket.socket(fileno=socket.dup(fd))
    with worker, socket.create_connection(address(listeners), timeout=5):
        eventually(lambda: listeners.waiting() == 1, within=5, what="a waiting connection")
        departure = Departure(listeners, 100.0)
        assert not departure.step(departure.due)
        worker.accept()[0].close()
        assert departure.step(departure.due)


def test_workers_that_accept_nothing_are_not_waited_for_without_end(listeners: Listeners) -> None:
    with socket.create_connection(address(listeners), timeout=5):
        eventually(lambda: listeners.waiting() == 1, within=5, what="a waiting connection")
        departure = Departure(listeners, 100.0)
        assert not departure.step(100.0 + PATIENCE - 0.01)
        assert departure.step(departure.due)


def test_nobody_can_connect_meanwhile(listeners: Listeners) -> None:
    Departure(listeners, 100.0)
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection(address(listeners), timeout=0.2)
