"""Two threads of a worker with a proxy: one looks backends' names up, one checks that they take
connections. Both only tell the backends what they saw.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final

from coordinator.log import get_logger
from shard.proxying.pool import Backend
from shard.relaying import BackendAddress

__all__ = ["Checker", "Resolver", "check"]

RESOLVED_WITHIN: Final = 1.0
"""Seconds the start waits for names; what is not resolved by then follows."""

_log = get_logger("proxy")


class Resolver:
    """Looks up the names of backends, at once and then again and again. A name that cannot be
    resolved keeps its addresses.
    """

    def __init__(self, backends: Sequence[Backend], interval: float) -> None:
        self._backends = [item for item in backends if not item.name.is_address]
        self._interval = interval
        self._stopped = threading.Event()
        self._first = threading.Event()
        self._complained: set[Backend] = set()
        self._thread = threading.Thread(target=self._run, name="proxy-names", daemon=True)

    def start(self) -> None:
        """Begin, if there are names; wait :data:`RESOLVED_WITHIN` for them."""
        if self._backends:
            self._thread.start()
            self._first.wait(RESOLVED_WITHIN)

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            for backend in self._backends:
                self._resolve(backend)
            self._first.set()
            self._stopped.wait(self._interval)

    def _resolve(self, backend: Backend) -> None:
        name = backend.name
        try:
            found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
        except OSError as error:
            if backend not in self._complained:
                self._complained.add(backend)
                _log.warning("backend's name is not resolved", backend=str(name), reason=str(error))
            return
        self._complained.discard(backend)
        addresses = ((str(item[4][0]), int(item[4][1])) for item in found)
        # Of link-local addresses with a zone (fe80::1%eth0) the engine knows nothing.
        backend.addresses = tuple(dict.fromkeys(item for item in addresses if "%" not in item[0]))


class Checker:
    """Connects to every backend once an interval."""

    def __init__(self, backends: Sequence[Backend], interval: float, timeout: float) -> None:
        """
        :param interval: seconds; 0: no checks.
        :param timeout: seconds that a connection may take.
        """
        self._backends = backends
        self._interval = interval
        self._timeout = timeout
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy-checks", daemon=True)

    def start(self) -> None:
        """Begin, unless the interval is 0."""
        if self._interval:
            self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            wanted = {
                address: backend for backend in self._backends for address in backend.addresses
            }
            try:
                problems = check(list(wanted), self._timeout)
            except OSError:
                continue  # no descriptor is left, which says nothing of a backend
            for backend in self._backends:
                told = [problems[item] for item in backend.addresses if item in problems]
                # One address that answers is enough: the others are tried after a failure.
                if told:
                    backend.checked(None if None in told else told[0])


def check(addresses: Sequence[BackendAddress], timeout: float) -> dict[BackendAddress, str | None]:
    """Connect to all at the same time, and close.

    :param timeout: seconds for all of it.
    :returns: what is wrong with each; None: nothing.
    """
    found: dict[BackendAddress, str | None] = {}
    waiting: dict[int, tuple[socket.socket, BackendAddress]] = {}
    poll = select.poll()
    for address in addresses:
        stream = _socket(address)
        stream.setblocking(False)
        try:
            stream.connect(address)
        except BlockingIOError:
            waiting[stream.fileno()] = stream, address
            poll.register(stream, select.POLLOUT)
        except OSError as error:
            found[address] = error.strerror
            stream.close()
        else:
            found[address] = None
            stream.close()
    deadline = time.monotonic() + timeout
    while waiting and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            stream, address = waiting.pop(fd)
            poll.unregister(fd)
            code = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[address] = os.strerror(code) if code else None
            stream.close()
    for stream, address in waiting.values():
        found[address] = "no answer"
        stream.close()
    return found


def _socket(address: BackendAddress) -> socket.socket:
    if isinstance(address, str):
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM)
