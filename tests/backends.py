"""Backends behind the proxy, one step at a time in the test's own hands."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self, TypeAlias

__all__ = ["Backend", "exactly", "exchange", "reset", "unanswering"]

TIMEOUT: Final = 5.0
Took: TypeAlias = Callable[[bytes], object]


class Backend:
    """A listening socket, TCP or Unix; :meth:`accept` gives the proxy's connections."""

    def __init__(self, path: Path | None = None, *, port: int = 0) -> None:
        if path is None:
            self._listening = socket.create_server(("127.0.0.1", port))
            self.name = "127.0.0.1:{1}".format(*self._listening.getsockname())
        else:
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(str(path))
            self._listening.listen()
            self.name = f"unix:{path}"
        self._listening.settimeout(TIMEOUT)

    @property
    def app(self) -> str:
        """The application that proxies to it."""
        return f"proxy:{self.name}"

    @property
    def port(self) -> int:
        """Of a TCP backend."""
        return int(self.name.rpartition(":")[2])

    def accept(self) -> socket.socket:
        """The next connection."""
        accepted, _ = self._listening.accept()
        accepted.settimeout(TIMEOUT)
        return accepted

    def close(self) -> None:
        self._listening.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def exactly(stream: socket.socket, count: int) -> bytes:
    """`count` bytes."""
    received = bytearray()
    while len(received) < count:
        chunk = stream.recv(min(65536, count - len(received)))
        assert chunk, f"end after {len(received)} of {count} bytes"
        received += chunk
    return bytes(received)


def exchange(tls: ssl.SSLSocket, blocks: Iterator[bytes], count: int, took: Took) -> None:
    """Send `blocks` and receive `count` bytes at the same time, in this one thread: OpenSSL's
    connections are not for two at once.

    :param took: gets what comes.
    """
    tls.setblocking(False)
    waiting = next(blocks, b"")
    while waiting or count:
        idle = True
        if waiting:
            try:
                waiting = waiting[tls.send(waiting) :] or next(blocks, b"")
                idle = False
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        if count:
            try:
                block = tls.recv(min(count, 256 * 1024))
                assert block, f"end with {count} bytes missing"
                took(block)
                count -= len(block)
                idle = False
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        if idle:
            ready = select.select([tls], [tls] if waiting else [], [], TIMEOUT)
            assert any(ready), "nothing moves"
    tls.settimeout(TIMEOUT)


def reset(stream: socket.socket) -> None:
    """Close with a TCP reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def unanswering() -> tuple[Backend, list[socket.socket]]:
    """A backend whose queue is full: the kernel drops whatever comes, unanswered.

    :returns: it, and what fills its queue; all to be closed.
    """
    backend = Backend()
    backend._listening.listen(0)
    filling = []
    for _ in range(2):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", backend.port))
        filling.append(client)
    return backend, filling
