"""Both ends of a proxy under measurement: the backend, and the clients.

    python -m tests.bench.proxy_load backend      prints its port, answers until standard input ends
    python -m tests.bench.proxy_load clients      carries out one JSON order a line

A request is 64 bytes: ``R`` is answered with 64 bytes, ``D`` and a number with so many bytes, ``U``
and a number announces so many bytes and is answered with one when they are there.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.load import SUITE_TLS12

REQUEST: Final = 64
_BLOCK: Final = bytes(256 * 1024)


def message(kind: str, count: int = 0) -> bytes:
    """A request."""
    return f"{kind}{count:<63}".encode()


@dataclass(slots=True)
class _Peer:
    stream: socket.socket
    to_receive: int = 0
    to_send: int = 0
    request: bytes = b""


def backend() -> None:
    """One epoll loop. Ends with its standard input."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listening.getsockname()[1], flush=True)
    buffer = bytearray(len(_BLOCK))
    peers: dict[int, _Peer] = {}
    epoll = select.epoll()
    epoll.register(listening, select.EPOLLIN)
    epoll.register(sys.stdin, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == sys.stdin.fileno():
                return
            if fd == listening.fileno():
                stream, _ = listening.accept()
                stream.setblocking(False)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[stream.fileno()] = _Peer(stream)
                epoll.register(stream, select.EPOLLIN)
            elif not _serve(peers[fd], buffer, epoll):
                peers.pop(fd).stream.close()


def _serve(peer: _Peer, buffer: bytearray, epoll: select.epoll) -> bool:
    stream = peer.stream
    try:
        if peer.to_send:
            peer.to_send -= stream.send(_BLOCK[: peer.to_send])
            if not peer.to_send:
                epoll.modify(stream, select.EPOLLIN)
            return True
        if peer.to_receive:
            got = stream.recv_into(buffer, min(len(buffer), peer.to_receive))
            peer.to_receive -= got
            if got and not peer.to_receive:
                stream.send(b"!")
            return got > 0
        chunk = stream.recv(REQUEST - len(peer.request))
        peer.request += chunk
        if len(peer.request) == REQUEST:
            kind, count = peer.request[:1], int(peer.request[1:])
            peer.request = b""
            if kind == b"R":
                stream.send(_BLOCK[:REQUEST])
            elif kind == b"U":
                peer.to_receive = count
            else:
                peer.to_send = count
                epoll.modify(stream, select.EPOLLOUT)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return bool(chunk)


class Clients:
    """Connections that are kept, and what is done over them."""

    def __init__(self) -> None:
        self._kept: dict[int, list[ssl.SSLSocket]] = {}
        self._operation = ""

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry one order out."""
        if order["operation"] != self._operation:
            # Proxies close what was idle for a minute.
            self._operation = order["operation"]
            for stream in itertools.chain.from_iterable(self._kept.values()):
                stream.close()
            self._kept.clear()
        started = time.monotonic()
        streams = self._streams(order["port"], order["clients"], order["version"])
        operation = order["operation"]
        if operation == "request":
            self._requests(streams, order["count"])
        elif operation == "connection":
            for _ in range(order["count"]):
                with self._connect(order["port"], order["version"]) as stream:
                    stream.sendall(message("R"))
                    self._receive(stream, REQUEST)
        elif operation == "download":
            for stream in streams:
                stream.sendall(message("D", order["count"]))
                self._receive(stream, order["count"])
        else:
            for stream in streams:
                stream.sendall(message("U", order["count"]))
                for _ in range(order["count"] // len(_BLOCK)):
                    stream.sendall(_BLOCK)
                self._receive(stream, 1)
        return {"seconds": time.monotonic() - started}

    def _streams(self, port: int, count: int, version: str) -> list[ssl.SSLSocket]:
        kept = self._kept.setdefault(port, [])
        while len(kept) < count:
            stream = self._connect(port, version)
            # The tickets come with the first answer.
            stream.sendall(message("R"))
            self._receive(stream, REQUEST)
            kept.append(stream)
        return kept[:count]

    def _connect(self, port: int, version: str) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        wanted = ssl.TLSVersion.TLSv1_3 if version == "TLSv1.3" else ssl.TLSVersion.TLSv1_2
        context.minimum_version = context.maximum_version = wanted
        context.set_ciphers(SUITE_TLS12)
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname="localhost")

    def _receive(self, stream: ssl.SSLSocket, count: int) -> None:
        buffer = bytearray(256 * 1024)
        while count:
            got = stream.recv_into(buffer, min(count, len(buffer)))
            if not got:
                raise ConnectionError("closed early")
            count -= got

    def _requests(self, streams: list[ssl.SSLSocket], count: int) -> None:
        request = message("R")
        by_fd = {stream.fileno(): stream for stream in streams}
        left = count
        with select.epoll() as epoll:
            for stream in streams:
                epoll.register(stream, select.EPOLLIN)
                stream.send(request)
            under_way = len(streams)
            while under_way:
                for fd, _ in epoll.poll():
                    stream = by_fd[fd]
                    if len(stream.recv(REQUEST)) != REQUEST:
                        raise ConnectionError("an answer in pieces")
                    left -= 1
                    if left >= under_way:
                        stream.send(request)
                    else:
                        under_way -= 1


def main() -> None:
    """Be one end."""
    if sys.argv[1:] == ["backend"]:
        backend()
        return
    clients = Clients()
    for line in sys.stdin:
        print(json.dumps(clients.run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
