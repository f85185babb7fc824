"""Listening sockets. The supervisor owns them; every worker inherits all of them.

As all workers accept from one queue per address, a worker that drains or dies leaves nothing behind
in a queue of its own.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import Final

from coordinator.errors import StartError
from shard.accept_queue import close_port, refuse_new_connections, waiting_connections
from shard.settings import Address

__all__ = ["Listeners", "bind"]

_REMEDIES: Final = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another port with --bind",
    errno.EADDRNOTAVAIL: "no interface has this address: choose another with --bind",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port with --bind",
    errno.EAFNOSUPPORT: "this machine has no such address family: leave the address out",
}


class Listeners:
    """The sockets by the address that was asked for. For the supervisor's thread."""

    def __init__(self) -> None:
        self._sockets: dict[Address, socket.socket] = {}

    def open(self, wanted: Iterable[Address], backlog: int) -> list[Address]:
        """Bind what is wanted and not bound yet.

        :returns: the addresses bound by this call, for :meth:`close` if it has to be undone.
        :raises StartError: one cannot be bound; then none of this call is.
        """
        fresh: list[Address] = []
        try:
            for address in wanted:
                if address not in self._sockets:
                    self._sockets[address] = bind(address, backlog)
                    fresh.append(address)
        except StartError:
            self.close(fresh)
            raise
        return fresh

    def close(self, addresses: Iterable[Address] | None = None) -> None:
        """Close some, or all, in the workers that inherited them too: nobody connects to one that
        is only finishing its connections.
        """
        for address in list(self._sockets) if addresses is None else addresses:
            sock = self._sockets.pop(address)
            close_port(sock)
            sock.close()

    def refuse_new(self) -> bool:
        """Let no new connection be made; those that wait can still be accepted.

        :returns: whether that worked for all of them.
        """
        done = [refuse_new_connections(sock) for sock in self._sockets.values()]
        return all(done)

    def waiting(self) -> int:
        """Connections that nobody has accepted yet."""
        return sum(waiting_connections(sock) for sock in self._sockets.values())

    def close_ports(self) -> None:
        """Refuse connections from here on, in all processes. :meth:`bound` still answers."""
        for sock in self._sockets.values():
            close_port(sock)

    def keep_only(self, wanted: Iterable[Address]) -> None:
        """Close all but `wanted`."""
        kept = set(wanted)
        self.close([address for address in self._sockets if address not in kept])

    def filenos(self, wanted: Iterable[Address]) -> tuple[int, ...]:
        """Descriptors to hand to a worker."""
        return tuple(self._sockets[address].fileno() for address in wanted)

    def bound(self, wanted: Iterable[Address]) -> tuple[Address, ...]:
        """The same addresses with the ports that the kernel chose for port 0."""
        found = []
        for address in wanted:
            host, port = self._sockets[address].getsockname()[:2]
            found.append(Address(host, port))
        return tuple(found)


def bind(address: Address, backlog: int) -> socket.socket:
    """A listening socket, not inheritable until it is passed on.

    :raises StartError: with the remedy.
    """
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it (Linux), which saves every connection a system call.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client speaks first, so a connection is accepted once its ClientHello is there: one wake
        # instead of two, and silent connections cost no descriptor. After the time given (seconds)
        # they are accepted all the same, and the handshake's deadline applies.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        if address.is_ipv6:
            # What was asked for is an IPv6 address; IPv4 has a --bind of its own.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        remedy = _REMEDIES.get(error.errno or 0, "choose another address with --bind")
        raise StartError(f"cannot listen on {address} ({reason}): {remedy}") from None
    return sock
