"""Listening sockets: bound as asked, refused with a remedy, undone as a whole."""

from __future__ import annotations

import os
import socket
from typing import Final

import pytest

from coordinator.errors import StartError
from shard.listeners import Listeners, bind
from shard.settings import Address
from tests.ports import free_port

V4: Final = Address("127.0.0.1", 0)
V6: Final = Address("::1", 0)


def test_what_workers_inherit_is_set_on_the_listener() -> None:
    with bind(V4, 16) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert not os.get_inheritable(sock.fileno())
        assert not sock.getblocking()
        with socket.create_connection(sock.getsockname()):
            pass


def test_an_ipv6_address_leaves_ipv4_alone() -> None:
    port = free_port("::1")
    with bind(Address("::", port), 16) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        with bind(Address("0.0.0.0", port), 16):
            pass


def test_an_address_in_use_has_a_remedy() -> None:
    with bind(V4, 16) as sock:
        taken = Address(*sock.getsockname())
        with pytest.raises(StartError, match=rf"{taken}.*in use.*--bind"):
            bind(taken, 16)


def test_an_address_of_another_machine_has_a_remedy() -> None:
    with pytest.raises(StartError, match="no interface"):
        bind(Address("192.0.2.1", 0), 16)


def test_ports_that_the_kernel_chose_are_known() -> None:
    listeners = Listeners()
    listeners.open([V4, V6], 16)
    first, second = listeners.bound([V4, V6])
    assert first.port
    assert second.port
    assert second.host == "::1"
    assert len(set(listeners.filenos([V6, V4]))) == 2
    listeners.close()


def test_what_is_bound_stays_bound() -> None:
    listeners = Listeners()
    listeners.open([V4], 16)
    before = listeners.bound([V4])
    assert listeners.open([V4, V6], 16) == [V6]
    assert listeners.bound([V4]) == before
    listeners.keep_only([V4])
    with pytest.raises(KeyError):
        listeners.filenos([V6])
    listeners.close()


def test_of_several_all_are_bound_or_none() -> None:
    listeners = Listeners()
    free = Address("127.0.0.1", free_port())
    with bind(V4, 16) as sock:
        with pytest.raises(StartError):
            listeners.open([free, Address(*sock.getsockname())], 16)
        with bind(free, 16):  # it was given back
            pass
