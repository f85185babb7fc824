"""A listening socket can be closed without resetting a connection that was already made."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from shard.accept_queue import close_port, refuse_new_connections, waiting_connections
from tests.waiting import eventually

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@pytest.fixture(params=FAMILIES, ids=["ipv4", "ipv6"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family, host = request.param
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        sock.listen(16)
        yield sock


def connect(listener: socket.socket, timeout: float) -> socket.socket:
    return socket.create_connection(listener.getsockname()[:2], timeout=timeout)


def test_counts_what_nobody_has_accepted(listener: socket.socket) -> None:
    assert waiting_connections(listener) == 0
    clients = [connect(listener, 5) for _ in range(3)]
    eventually(
        lambda: waiting_connections(listener) == 3, within=5, what="three waiting connections"
    )
    listener.accept()[0].close()
    assert waiting_connections(listener) == 2
    for client in clients:
        client.close()


def test_a_connection_made_before_is_served_and_a_new_one_is_not(listener: socket.socket) -> None:
    with connect(listener, 5) as client:
        client.sendall(b"before")
        assert refuse_new_connections(listener)
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            connect(listener, 0.2)
        served, _ = listener.accept()
        with served:
            assert served.recv(6) == b"before"
            served.sendall(b"after")
        assert client.recv(5) == b"after"


def test_a_closed_port_refuses_though_another_process_holds_the_socket(
    listener: socket.socket,
) -> None:
    address = listener.getsockname()[:2]
    with listener.dup():
        assert refuse_new_connections(listener)
        close_port(listener)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
