"""The built-in ``echo``: every byte comes back, and both sides may close first."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from typing import Self

import pytest

from tests.client import TIMEOUT, TlsStream, client_context
from tests.server import Server
from tests.waiting import eventually

MEBIBYTE = os.urandom(1024 * 1024)


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_a_mebibyte_both_ways_at_once(echo: Server, version: str) -> None:
    with TlsStream(echo.address, client_context(echo.certificate, version)) as stream:
        received = bytearray()

        def receive() -> None:
            while len(received) < len(MEBIBYTE) and (chunk := stream.tls.recv(65536)):
                received.extend(chunk)

        receiver = threading.Thread(target=receive)
        receiver.start()
        stream.tls.sendall(MEBIBYTE)
        receiver.join(timeout=TIMEOUT * 2)
        assert not receiver.is_alive()
    assert received == MEBIBYTE


@pytest.mark.parametrize("size", [1, 16384, 16385])
def test_sizes_around_a_record(echo: Server, size: int) -> None:
    with TlsStream(echo.address, client_context(echo.certificate)) as stream:
        stream.tls.sendall(MEBIBYTE[:size])
        received = b""
        while len(received) < size:
            chunk = stream.tls.recv(65536)
            assert chunk
            received += chunk
    assert received == MEBIBYTE[:size]


class HalfClosing:
    """A client that can send close_notify and still read (RFC 8446 §6.1), which ssl's sockets
    cannot.
    """

    def __init__(self, server: Server, version: str) -> None:
        self._socket = socket.create_connection(server.address, timeout=TIMEOUT)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context(server.certificate, version).wrap_bio(
            self._in, self._out, server_hostname="localhost"
        )
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                break
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def close_notify(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()

    def read_to_close_notify(self) -> bytes:
        received = b""
        while True:
            try:
                chunk = self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._fill()
            except ssl.SSLZeroReturnError:
                return received
            else:
                if not chunk:
                    return received
                received += chunk

    def at_end(self) -> bool:
        """The server has closed TCP too."""
        return self._socket.recv(1) == b""

    def _flush(self) -> None:
        if self._out.pending:
            self._socket.sendall(self._out.read())

    def _fill(self) -> None:
        chunk = self._socket.recv(65536)
        assert chunk, "TCP was closed without close_notify"
        self._in.write(chunk)


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_what_was_sent_before_a_half_close_comes_back(echo: Server, version: str) -> None:
    with HalfClosing(echo, version) as client:
        client.send(MEBIBYTE[:100_000])
        client.close_notify()
        assert client.read_to_close_notify() == MEBIBYTE[:100_000]
        assert client.at_end()


def test_a_client_that_vanishes_is_forgotten(echo: Server) -> None:
    """TCP closed without close_notify, and reset: no connection is left behind."""
    for reset in (False, True):
        stream = TlsStream(echo.address, client_context(echo.certificate))
        stream.tls.sendall(b"x")
        assert stream.tls.recv(1) == b"x"
        if reset:
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            stream.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        stream.tls.close()
    eventually(lambda: echo.connections() == 0, within=5, what="no connection left")
