"""Readers and writers in this process, on a real engine and real sockets, without a supervisor."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificates

from coordinator.lifeline import Lifeline
from shard._engine import Listener, TicketKeys, TlsContext
from shard.accepting import Capacity
from shard.apps import Factory
from shard.apps.looped import LoopApplication
from shard.connection import Connection
from shard.errors import ConnectionClosedError
from shard.reader import Reader
from shard.worker_settings import HostSettings, WorkerSettings
from shard.writer import Writer
from tests.certificates import Certificate
from tests.engine.echo_loop import seed_once, virtual_host
from tests.waiting import eventually

__all__ = [
    "Recorder",
    "Serving",
    "WorkerProcess",
    "connect",
    "echo",
    "exactly",
    "lost",
    "read_all",
    "serves",
    "serving",
    "worker_process",
    "worker_settings",
]

TIMEOUT = 5.0


def worker_settings(certificate: Certificate, **changes: Any) -> WorkerSettings:
    """Settings of a worker without listeners, `changes` apart; no coordinator is there."""
    chain = load_pem_x509_certificates(Path(certificate.cert).read_bytes())
    key = load_pem_private_key(Path(certificate.key).read_bytes(), None)
    values: dict[str, Any] = {
        "worker": "test-0.1",
        "slot": 0,
        "group": "test",
        "listeners": (),
        "app": "hello",
        "readers": 1,
        "writers": 1,
        "max_connections": 1000,
        "handshake_timeout": 10.0,
        "idle_timeout": 60.0,
        "drain_timeout": 5.0,
        "hosts": (
            HostSettings(
                names=("localhost",),
                chain=tuple(item.public_bytes(Encoding.DER) for item in chain),
                key=key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
                scope=bytes(32),
            ),
        ),
        "min_version": "TLSv1.2",
        "cipher_suites": None,
        "groups": None,
        "alpn": ("http/1.1",),
        "resumption": "off",
        "tickets_per_connection": 2,
        "session_ttl": 86400,
        "single_use": False,
        "lookup_timeout": 0.02,
        "sessions_endpoint": "ipc:///nonexistent/sessions",
        "control_endpoint": "ipc:///nonexistent/control",
        "curve": None,
        "drbg_reseed_requests": 65536,
        "drbg_reseed_interval": 60.0,
        "log_level": "info",
        "log_format": "text",
        "log_file": None,
    }
    return WorkerSettings(**(values | changes))


@dataclass(slots=True)
class Recorder:
    """A handler that writes down what happens to it; replace its ``on_`` functions to act."""

    transport: Connection | None = None
    data: bytearray = field(default_factory=bytearray)
    events: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    lost: list[ConnectionClosedError | None] = field(default_factory=list)
    keep_open: bool = False
    on_data: Callable[[Recorder, bytes], None] = lambda _self, _data: None
    on_made: Callable[[Recorder], None] = lambda _self: None
    on_resume: Callable[[Recorder], None] = lambda _self: None

    @property
    def connection(self) -> Connection:
        """The transport of a connection that was made."""
        assert self.transport is not None
        return self.transport

    def connection_made(self, transport: Connection) -> None:
        self.transport = transport
        self._note("made")
        self.on_made(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._note("data")
        self.on_data(self, data)

    def eof_received(self) -> bool:
        self._note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")
        self.on_resume(self)

    def connection_lost(self, exc: ConnectionClosedError | None) -> None:
        self.lost.append(exc)
        self._note("lost")

    def _note(self, event: str) -> None:
        self.threads.add(threading.get_ident())
        if not (event == "data" and self.events[-1:] == ["data"]):
            self.events.append(event)


@dataclass(slots=True)
class Serving:
    """Readers that run.

    :ivar handlers: one for each handshake, in order, if the factory is the default one.
    """

    address: tuple[str, int]
    readers: list[Reader]
    capacity: Capacity
    handlers: list[Recorder]

    @property
    def reader(self) -> Reader:
        """The first."""
        return self.readers[0]

    def handler(self, number: int = 0) -> Recorder:
        """Wait for the handler of a handshake."""
        eventually(lambda: len(self.handlers) > number, within=TIMEOUT, what="a handshake")
        return self.handlers[number]


@contextmanager
def serving(
    certificate: Certificate,
    *,
    application: Factory | LoopApplication | None = None,
    prepare: Callable[[Recorder], None] = lambda _recorder: None,
    host: str = "127.0.0.1",
    sndbuf: int | None = None,
    ticket_keys: TicketKeys | None = None,
    tolerant: bool = False,
    **changes: Any,
) -> Iterator[Serving]:
    """Serve until the end of the block, then stop and check that every thread ended.

    :param application: default: :class:`Recorder`, after `prepare`.
    :param sndbuf: of the accepted sockets, to make a backlog soon.
    :param ticket_keys: for ``resumption="tickets"``.
    :param tolerant: the end of a client's TCP stream counts as close_notify.
    :param changes: of the settings.
    """
    seed_once()
    settings = worker_settings(certificate, **changes)
    handlers: list[Recorder] = []

    def record() -> Recorder:
        recorder = Recorder()
        prepare(recorder)
        handlers.append(recorder)
        return recorder

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, 0), family=family, backlog=512)
    if sndbuf is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    address = listening.getsockname()[:2]
    listener = Listener(
        listening.detach(),
        proxy_protocol_from=settings.proxy_protocol_from,
        tolerate_truncation=tolerant,
    )
    capacity = Capacity(settings.max_connections)
    writers = [Writer(f"writer-{i}", settings.idle_timeout) for i in range(settings.writers)]
    zmq_context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    readers = [
        Reader(
            index,
            settings,
            listeners=[listener],
            context=TlsContext(
                [virtual_host(certificate)],
                resumption=settings.resumption != "off",
                alpn=settings.alpn,
                ticket_keys=ticket_keys,
                single_use=settings.single_use,
            ),
            application=application or record,
            capacity=capacity,
            writers=writers,
            zmq_context=zmq_context,
            changed=lambda: None,
        )
        for index in range(settings.readers)
    ]
    threads = [*(w.thread for w in writers), *(r.thread for r in readers)]
    for thread in threads:
        thread.start()
    try:
        yield Serving(address, readers, capacity, handlers)
    finally:
        for reader in readers:
            reader.stop()
        for reader in readers:
            reader.thread.join(TIMEOUT)
        for writer in writers:
            writer.stop()
        for thread in threads:
            thread.join(TIMEOUT)
        listener.close()
        zmq_context.destroy(0)
        assert not any(thread.is_alive() for thread in threads)
        assert not any(reader.crashed for reader in readers)
        assert capacity.count == 0


def connect(
    address: tuple[str, int], certificate: Certificate, *, rcvbuf: int | None = None
) -> ssl.SSLSocket:
    """A client with its handshake done."""
    plain = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    try:
        plain.settimeout(TIMEOUT)
        if rcvbuf is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        plain.connect(address)
        return certificate.trust().wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


@dataclass(slots=True)
class WorkerProcess:
    """A worker as its supervisor sees it."""

    process: subprocess.Popen[bytes]
    lifeline: Lifeline
    address: tuple[str, int]
    first: dict[str, Any] | None

    def wait(self, within: float = TIMEOUT) -> int:
        """Its exit code."""
        return self.process.wait(within)


@contextmanager
def worker_process(
    settings: WorkerSettings, *, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> Iterator[WorkerProcess]:
    """``python -m shard.worker`` with a listener of its own, until the end of the block.

    Yields after its first frame (``ready`` or ``failed``).
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    fd = listening.fileno()
    lifeline, theirs = Lifeline.pair()
    process = subprocess.Popen(
        [sys.executable, "-m", "shard.worker"],
        stdin=theirs.fileno(),
        stderr=subprocess.PIPE,
        pass_fds=[fd],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())} | (environment or {}),
        start_new_session=True,
    )
    theirs.close()
    try:
        frame = settings.to_frame() | {"listeners": (fd,)}
        lifeline.send({"type": "settings", "settings": frame})
        yield WorkerProcess(process, lifeline, listening.getsockname()[:2], lifeline.receive())
    finally:
        lifeline.close()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise
        finally:
            listening.close()
            if process.stderr is not None:
                process.stderr.close()


def read_all(stream: ssl.SSLSocket) -> bytes:
    """Everything up to the server's close_notify."""
    received: list[bytes] = []
    while chunk := stream.recv(65536):
        received.append(chunk)
    return b"".join(received)


def exactly(stream: ssl.SSLSocket, count: int) -> bytes:
    """`count` bytes."""
    received = bytearray()
    while len(received) < count:
        chunk = stream.recv(min(65536, count - len(received)))
        assert chunk, f"end after {len(received)} of {count} bytes"
        received += chunk
    return bytes(received)


def lost(recorder: Recorder) -> ConnectionClosedError | None:
    """Wait for the last callback; it comes once."""
    eventually(lambda: recorder.lost, within=TIMEOUT, what="connection_lost")
    assert len(recorder.lost) == 1
    return recorder.lost[0]


def echo(recorder: Recorder) -> None:
    recorder.on_data = lambda it, data: it.connection.write(data)


def serves(served: Serving, certificate: Certificate) -> None:
    """The reader still does its work."""
    with connect(served.address, certificate) as client:
        client.sendall(b"still there?")
