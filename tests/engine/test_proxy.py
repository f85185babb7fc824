"""``proxy:`` on a reader in this process: both ends in the test's hands."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shard.apps.proxy import Proxy
from shard.worker_settings import ProxySettings
from tests.backends import Backend, exactly, exchange, reset, unanswering
from tests.certificates import Certificate
from tests.client import VERSIONS
from tests.engine.reading import Serving, connect, serving
from tests.ports import free_port
from tests.waiting import eventually, pause

TIMEOUT = 5.0
BLOCK = bytes(range(256)) * 256


@contextmanager
def proxying(
    certificate: Certificate, *backends: str, proxy: ProxySettings | None = None, **changes: Any
) -> Iterator[Serving]:
    settings = proxy or ProxySettings(connect_timeout=0.2, retries=0)
    application = Proxy("proxy:" + ",".join(backends), settings)
    with serving(
        certificate, application=application, proxy=settings, tolerant=True, **changes
    ) as served:
        yield served

        def nothing_left() -> bool:
            # The reader's thread takes these apart one after the other.
            reading, taken = (
                served.reader.serving,
                [b for b in application.backends if b.connections],
            )
            return not (reading.connections or reading.relays.by_backend or taken)

        eventually(nothing_left, within=TIMEOUT, what="no connection, socket or count left")


@dataclass(frozen=True, slots=True)
class Relayed:
    """A client, and its connection as the backend sees it."""

    served: Serving
    client: ssl.SSLSocket
    behind: socket.socket


@contextmanager
def relayed(
    certificate: Certificate, *, rcvbuf: int | None = None, **changes: Any
) -> Iterator[Relayed]:
    with (
        Backend() as backend,
        proxying(certificate, backend.name, **changes) as served,
        connect(served.address, certificate, rcvbuf=rcvbuf) as client,
        backend.accept() as behind,
    ):
        yield Relayed(served, client, behind)


def ended(served: Serving, reason: str, count: int = 1) -> None:
    eventually(
        lambda: served.reader.serving.ended.get(reason, 0) == count,
        within=TIMEOUT,
        what=f"{reason}: {served.reader.serving.ended}",
    )


def was_reset(client: ssl.SSLSocket) -> bool:
    """Whether the client's TCP stream ends with a reset; ``ssl`` hides the difference."""
    with socket.socket(fileno=client.detach()) as plain:
        plain.settimeout(TIMEOUT)
        try:
            while plain.recv(65536):
                pass
        except ConnectionResetError:
            return True
    return False


def send_in_background(stream: socket.socket, count: int) -> threading.Thread:
    def run() -> None:
        for _ in range(count):
            stream.sendall(BLOCK)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def fill(stream: socket.socket) -> int:
    """Send until nothing is taken any more."""
    sent = 0
    stream.settimeout(0.3)
    try:
        while sent < 1 << 30:
            sent += stream.send(BLOCK[sent % len(BLOCK) :])
    except TimeoutError:
        pass
    stream.settimeout(TIMEOUT)
    return sent


def check_pattern(stream: socket.socket, count: int) -> None:
    received = 0
    while received < count:
        chunk = stream.recv(min(65536, count - received))
        start = received % 256
        assert chunk == (BLOCK + BLOCK)[start : start + len(chunk)]
        received += len(chunk)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_bytes_go_both_ways(
    kind: str, version: str, certificate: Certificate, tmp_path: Path
) -> None:
    with (
        Backend(tmp_path / "b.sock" if kind == "unix" else None) as backend,
        proxying(certificate, backend.name) as served,
    ):
        context = certificate.trust()
        context.minimum_version = context.maximum_version = VERSIONS[version]
        plain = socket.create_connection(served.address, timeout=TIMEOUT)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"first")
            with backend.accept() as behind:
                assert exactly(behind, 5) == b"first"
                behind.sendall(b"second")
                assert exactly(client, 6) == b"second"
                came = hashlib.sha256()
                sending = send_in_background(behind, 100)
                receiving = threading.Thread(target=check_pattern, args=(behind, 100 * len(BLOCK)))
                receiving.start()
                exchange(client, iter([BLOCK] * 100), 100 * len(BLOCK), came.update)
                assert came.digest() == hashlib.sha256(BLOCK * 100).digest()
                receiving.join()
                sending.join()
                behind.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""


def test_a_backend_may_speak_first(certificate: Certificate) -> None:
    with relayed(certificate) as it:
        it.behind.sendall(b"220 ready")
        assert exactly(it.client, 9) == b"220 ready"


def test_a_clients_close_notify_ends_what_the_backend_reads_alone(certificate: Certificate) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificate.trust().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def attempt(plain: socket.socket, step: Callable[[], bytes | None]) -> bytes | None:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
            else:
                plain.sendall(outgoing.read())
                return result

    with (
        Backend() as backend,
        proxying(certificate, backend.name) as served,
        socket.create_connection(served.address, timeout=TIMEOUT) as plain,
    ):
        attempt(plain, tls.do_handshake)
        tls.write(b"question")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        plain.sendall(outgoing.read())
        with backend.accept() as behind:
            assert exactly(behind, 8) == b"question"
            assert behind.recv(1) == b""
            behind.sendall(b"answer")
            assert attempt(plain, lambda: tls.read(6)) == b"answer"


def test_the_end_of_a_clients_tcp_stream_counts_as_one(certificate: Certificate) -> None:
    with relayed(certificate) as it:
        it.client.sendall(b"question")
        # The TCP stream of the client alone: its TLS says nothing.
        socket.socket.shutdown(it.client, socket.SHUT_WR)
        assert exactly(it.behind, 8) == b"question"
        assert it.behind.recv(1) == b""
        it.behind.sendall(b"answer")
        it.behind.close()
        assert exactly(it.client, 6) == b"answer"
        assert it.client.recv(1) == b""
        gone = lambda: not it.served.reader.serving.connections  # noqa: E731
        eventually(gone, within=TIMEOUT, what="the end")
        assert it.served.reader.serving.ended == {}


def test_a_backends_end_becomes_a_close_notify_and_the_client_may_go_on(
    certificate: Certificate,
) -> None:
    with relayed(certificate) as it:
        it.behind.sendall(b"all of it")
        it.behind.shutdown(socket.SHUT_WR)
        assert exactly(it.client, 9) == b"all of it"
        assert it.client.recv(1) == b""  # ssl raises if there was no close_notify
        it.client.sendall(b"thanks")
        assert exactly(it.behind, 6) == b"thanks"
        it.client.close()
        assert it.behind.recv(1) == b""


def test_a_reset_of_the_backend_resets_the_client(certificate: Certificate) -> None:
    with relayed(certificate) as it:
        it.client.sendall(b"x")
        exactly(it.behind, 1)
        reset(it.behind)
        assert was_reset(it.client)
        ended(it.served, "backend_reset")


def test_a_reset_of_the_client_resets_the_backend(certificate: Certificate) -> None:
    with relayed(certificate) as it:
        it.client.sendall(b"x")
        exactly(it.behind, 1)
        reset(it.client)
        with pytest.raises(ConnectionResetError):
            it.behind.recv(1)
        ended(it.served, "reset")


def test_a_broken_tls_stream_resets_the_backend(certificate: Certificate) -> None:
    """What an attacker changed shall not look whole."""
    with relayed(certificate) as it:
        it.client.sendall(b"x")
        exactly(it.behind, 1)
        with socket.socket(fileno=it.client.detach()) as plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(ConnectionResetError):
                it.behind.recv(1)
        ended(it.served, "alert_sent")


def test_a_client_that_reads_slowly_holds_the_backend_back(certificate: Certificate) -> None:
    with relayed(certificate, sndbuf=65536, rcvbuf=65536) as it:
        sent = fill(it.behind)
        assert sent < 16 << 20  # what the kernel holds for both sockets, and little more
        check_pattern(it.client, sent)
        it.behind.sendall(b"more")
        assert exactly(it.client, 4) == b"more"


def test_a_backend_that_reads_slowly_holds_the_client_back(certificate: Certificate) -> None:
    with relayed(certificate) as it:
        sent = fill(it.client)
        assert sent < 64 << 20
        check_pattern(it.behind, sent)
        it.behind.sendall(b"answer")
        assert exactly(it.client, 6) == b"answer"


def test_a_backend_that_is_down_resets_the_client(certificate: Certificate) -> None:
    with proxying(certificate, f"127.0.0.1:{free_port()}") as served:
        assert was_reset(connect(served.address, certificate))
        ended(served, "backend_unavailable")


def test_a_backend_that_comes_back_in_time_is_found(certificate: Certificate) -> None:
    port = free_port()
    patient = ProxySettings(connect_timeout=0.2, retries=20)
    with (
        proxying(certificate, f"127.0.0.1:{port}", proxy=patient) as served,
        connect(served.address, certificate) as client,
    ):
        client.sendall(b"early")
        with Backend(port=port) as backend, backend.accept() as behind:
            assert exactly(behind, 5) == b"early"
            behind.sendall(b"late")
            assert exactly(client, 4) == b"late"


def test_another_backend_is_tried_at_once(certificate: Certificate, tmp_path: Path) -> None:
    names = [f"127.0.0.1:{free_port()}", f"unix:{tmp_path / 'none.sock'}"]
    patient = ProxySettings(connect_timeout=0.2, retries=2)
    with (
        Backend() as backend,
        proxying(certificate, *names, backend.name, proxy=patient) as served,
    ):
        for _ in range(3):
            with connect(served.address, certificate) as client, backend.accept() as behind:
                client.sendall(b"x")
                assert exactly(behind, 1) == b"x"
        ended(served, "backend_unavailable", 0)


def test_a_backend_that_does_not_answer_is_given_up(certificate: Certificate) -> None:
    backend, filling = unanswering()
    try:
        with proxying(certificate, backend.name) as served:
            assert was_reset(connect(served.address, certificate))
            ended(served, "backend_unavailable")
    finally:
        backend.close()
        for stream in filling:
            stream.close()


def test_what_moves_either_way_keeps_a_connection(certificate: Certificate) -> None:
    with relayed(certificate, idle_timeout=0.4) as it:
        for _ in range(6):
            it.behind.sendall(b"tick")
            assert exactly(it.client, 4) == b"tick"
            pause(0.15)
        assert it.client.recv(1) == b""  # idle now: an orderly close
        assert it.behind.recv(1) == b""
        it.client.close()
        ended(it.served, "idle_timeout")


def test_a_draining_worker_lets_relayed_connections_end(certificate: Certificate) -> None:
    with relayed(certificate) as it:
        it.served.reader.drain()
        eventually(lambda: it.served.reader.serving.draining, within=TIMEOUT, what="draining")
        it.client.sendall(b"last")
        assert exactly(it.behind, 4) == b"last"
        it.behind.sendall(b"words")
        it.behind.close()
        assert exactly(it.client, 5) == b"words"
        assert it.client.recv(1) == b""
        it.client.close()
        it.served.reader.thread.join(TIMEOUT)
        assert not it.served.reader.thread.is_alive()


def test_a_worker_that_stops_closes_in_order(certificate: Certificate) -> None:
    with relayed(certificate) as it:
        it.client.sendall(b"x")
        exactly(it.behind, 1)
        it.served.reader.stop()
        assert it.client.recv(1) == b""
        assert it.behind.recv(1) == b""


def test_a_client_that_ends_at_once_is_heard(certificate: Certificate) -> None:
    """Its request and its end may come with the last bytes of its handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with Backend() as backend, proxying(certificate, backend.name) as served:
        for notify in (True, False):
            tls = certificate.trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
            with socket.create_connection(served.address, timeout=TIMEOUT) as plain:
                with pytest.raises(ssl.SSLWantReadError):
                    tls.do_handshake()
                plain.sendall(outgoing.read())
                incoming.write(plain.recv(65536))
                tls.do_handshake()
                tls.write(b"all")
                if notify:
                    with pytest.raises(ssl.SSLWantReadError):
                        tls.unwrap()
                plain.sendall(outgoing.read())
                plain.shutdown(socket.SHUT_WR)
                with backend.accept() as behind:
                    assert exactly(behind, 3) == b"all"
                    assert behind.recv(1) == b""
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()


def test_a_handler_of_ones_own_may_relay(certificate: Certificate) -> None:
    """The one in docs/proxy.md."""
    text = (Path(__file__).parents[2] / "docs" / "proxy.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    with Backend() as backend:
        found: dict[str, Any] = {}
        exec(source.replace("8080", str(backend.port)), found)
        with (
            serving(certificate, application=found["Chosen"]) as served,
            connect(served.address, certificate) as client,
        ):
            client.sendall(b"question")
            with backend.accept() as behind:
                assert exactly(behind, 8) == b"question"
                behind.sendall(b"answer")
            assert exactly(client, 6) == b"answer"
