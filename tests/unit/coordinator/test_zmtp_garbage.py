"""Bytes that are no ZMTP, or no more than half of it (ZeroMQ RFC 23), on a coordinator's sockets:
connections end, nothing is left of them, and whoever behaves is served meanwhile.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psutil
import pytest
import zmq

from coordinator import endpoints
from coordinator.client import CurveCredentials, dealer
from coordinator.coordinator import Coordinator
from coordinator.protocol import MAX_MESSAGE_BYTES, Put, decode_answers, encode_sessions
from coordinator.settings import AllowedKey, ServerCurve
from tests.unit.coordinator.conftest import StartCoordinator
from tests.unit.coordinator.test_curve import PAIRS, SERVER, keys
from tests.waiting import eventually, pause

SIGNATURE = b"\xff" + bytes(7) + b"\x01\x7f"
HANDSHAKE_MS = 300
TOO_MUCH = 48 * 1024 * 1024
"""Bytes of memory that garbage may not cost; what is sent is several times that."""


def greeting(mechanism: bytes, *, server: bool = False, version: bytes = b"\x03\x01") -> bytes:
    return SIGNATURE + version + mechanism.ljust(20, b"\0") + bytes([server]) + bytes(31)


def command(name: bytes, body: bytes = b"") -> bytes:
    content = bytes([len(name)]) + name + body
    return b"\x04" + bytes([len(content)]) + content


READY = command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER")
GREETED = greeting(b"NULL") + READY


def long_frame(length: int, flags: int = 2) -> bytes:
    return bytes([flags]) + struct.pack(">Q", length)


BURSTS: dict[str, bytes] = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "noise": random.Random(5).randbytes(5000),
    "half a signature": SIGNATURE[:5],
    "half a greeting": greeting(b"NULL")[:30],
    "an old version": SIGNATURE + b"\x01\x00" + bytes(52),
    "a version to come": greeting(b"NULL", version=b"\x09\x09") + READY,
    "an unknown mechanism": greeting(b"KERBEROS") + READY,
    "the wrong mechanism": greeting(b"PLAIN") + command(b"HELLO", b"\x01u\x01p"),
    "CURVE without a hello": greeting(b"CURVE") + READY,
    "CURVE with a false hello": greeting(b"CURVE") + command(b"HELLO", os.urandom(194)),
    "two greetings": greeting(b"NULL") * 2,
    "no READY": greeting(b"NULL") + b"\x00\x05hello",
    "READY with false metadata": greeting(b"NULL") + command(b"READY", b"\xff" * 40),
    "READY of another socket": greeting(b"NULL")
    + command(b"READY", b"\x0bSocket-Type" + struct.pack(">I", 3) + b"PUB"),
    "a command afterwards": GREETED + command(b"NONSENSE", bytes(100)) + command(b"ERROR", b"\xff"),
    "a ping that is too short": GREETED + command(b"PING"),
    "reserved flags": GREETED + b"\xf8\x05hello",
    "a negative length": GREETED + long_frame(2**64 - 1) + bytes(1000),
    "a huge length": GREETED + long_frame(2**62) + bytes(1000),
    "an oversized frame": GREETED + long_frame(MAX_MESSAGE_BYTES + 1) + bytes(1000),
    "half a frame": GREETED + long_frame(MAX_MESSAGE_BYTES) + bytes(1000),
    "many empty frames": GREETED + b"\x01\x00" * 5000,
}


def connect(address: str) -> socket.socket:
    if address.startswith("ipc://"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address.removeprefix("ipc://"))
    else:
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        sock = socket.create_connection((host.strip("[]"), int(port)))
    sock.settimeout(5)
    return sock


@pytest.fixture(params=["ipc", "tcp"])
def coordinator(
    request: pytest.FixtureRequest, start: StartCoordinator, monkeypatch: pytest.MonkeyPatch
) -> Coordinator:
    monkeypatch.setattr(endpoints, "HANDSHAKE_MS", HANDSHAKE_MS)
    if request.param == "ipc":
        return start()
    return start(
        sessions_endpoint="tcp://127.0.0.1:*",
        control_endpoint="tcp://127.0.0.1:*",
        curve=ServerCurve(public=SERVER[0], secret=SERVER[1]),
        allowed=[AllowedKey(public=PAIRS["worker"][0], role="worker", name="w")],
    )


@pytest.fixture
def served(
    coordinator: Coordinator, context: zmq.Context[zmq.Socket[bytes]]
) -> Iterator[Callable[[], None]]:
    """Checks that somebody who behaves is served, and that nothing else has happened."""
    curve: CurveCredentials | None = None
    if coordinator.sessions_address.startswith("tcp"):
        curve = keys(PAIRS["worker"])
    with dealer(context, coordinator.sessions_address, curve) as peer:
        scope, count = b"s" * 32, 0

        def check() -> None:
            nonlocal count
            count += 1
            put = Put(scope, count.to_bytes(32, "big"), b"value", None)
            # A mark that is not the latest one is answered.
            peer.send(encode_sessions("w", [put], [], mark=0))
            assert peer.poll(5000), "no answer"
            decode_answers(peer.recv())
            status = coordinator.status().result(5)
            assert status["coordinator"]["sessions"]["entries"] == count
            assert status["coordinator"]["messages"]["defects"] == 0
            assert status["workers"] == []

        check()
        yield check


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def memory() -> int:
    resident: int = psutil.Process().memory_info().rss
    return resident


def test_nothing_is_left_of_bursts_of_garbage(
    coordinator: Coordinator, served: Callable[[], None]
) -> None:
    before, resident = descriptors(), memory()
    for address in (coordinator.sessions_address, coordinator.control_address):
        with ExitStack() as held:
            for name, burst in BURSTS.items():
                for end in ("hold", "close", "reset"):
                    sock = connect(address)
                    # A peer that is refused may be gone before all is written.
                    with suppress(OSError):
                        sock.sendall(burst)
                    if end == "hold":
                        held.enter_context(closing(sock))
                        continue
                    if end == "reset" and sock.family != socket.AF_UNIX:
                        linger = struct.pack("ii", 1, 0)
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    sock.close()
                assert coordinator.alive(), name
            served()
    eventually(lambda: descriptors() <= before, within=5, what="no descriptor is left")
    served()
    assert memory() - resident < TOO_MUCH


def test_half_a_handshake_is_not_held_for_long(
    coordinator: Coordinator, served: Callable[[], None]
) -> None:
    """One that says nothing, one that stops, and one that sends a byte at a time."""
    with ExitStack() as stack:
        silent, halfway, slow = (
            stack.enter_context(closing(connect(coordinator.sessions_address))) for _ in range(3)
        )
        halfway.sendall(greeting(b"NULL")[:40])
        cut_off = False
        for byte in greeting(b"NULL") + READY[:-1]:
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                cut_off = True
                break
            pause(HANDSHAKE_MS / 1000 / 20)
        for sock in (silent, halfway) if cut_off else (silent, halfway, slow):
            with suppress(ConnectionError):
                while sock.recv(4096):
                    pass
        served()


def test_frames_without_end_cost_their_sender_the_connection(
    coordinator: Coordinator, served: Callable[[], None]
) -> None:
    resident = memory()
    chunk = bytes(1024 * 1024)
    floods = [GREETED + long_frame(2**62), GREETED + long_frame(MAX_MESSAGE_BYTES + 1)]
    for flood in floods:
        with closing(connect(coordinator.sessions_address)) as sock:
            sent = 0
            with suppress(ConnectionError):
                sock.sendall(flood)
                while sent < 200:
                    sock.sendall(chunk)
                    sent += 1
            assert sent < 200, "it took all of it"
    served()
    assert memory() - resident < TOO_MUCH


@pytest.mark.parametrize("coordinator", ["ipc"], indirect=True)
def test_a_message_of_frames_without_end_costs_memory_only_while_its_sender_stays(
    coordinator: Coordinator, served: Callable[[], None]
) -> None:
    """Each frame is within the bound, and says that another one follows (RFC 23, MORE). libzmq
    keeps them until the last has come; that takes a peer which may connect.
    """
    frame = long_frame(1024 * 1024, flags=3) + bytes(1024 * 1024)
    resident = []
    for _ in range(4):
        with closing(connect(coordinator.sessions_address)) as sock:
            sock.sendall(GREETED)
            for _ in range(60):
                sock.sendall(frame)
            served()
        resident.append(memory())
    # The allocator keeps what one of them needed; the next ones need no more.
    assert max(resident) - resident[0] < TOO_MUCH
