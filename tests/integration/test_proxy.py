"""The TCP proxy as a whole server: bytes, memory, what the status shows, drains, and HAProxy's own
header in front. ``SHARDTLS_PROXY_GIB=1`` moves 1 GiB each way instead of 64 MiB.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.backends import Backend, exactly, exchange
from tests.certificates import Certificate
from tests.client import TlsStream, client_context
from tests.peers import peer
from tests.ports import free_port
from tests.server import Server, running
from tests.waiting import eventually

TIMEOUT = 30.0
MIB: Final = 1 << 20
BLOCK: Final = 256 * 1024
GIB: Final = int(os.environ.get("SHARDTLS_PROXY_GIB", "0"))
EACH_WAY: Final = GIB * 1024 * MIB or 64 * MIB
QUICK: Final = ("--health-interval", "0.1", "--connect-timeout", "1", "--retries", "0")


def noise(seed: int, digest: hashlib._Hash) -> Iterator[bytes]:
    """Random blocks, :data:`EACH_WAY` bytes in all, which also go into `digest`."""
    source = random.Random(seed)
    for _ in range(EACH_WAY // BLOCK):
        block = source.randbytes(BLOCK)
        digest.update(block)
        yield block


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def memory(server: Server) -> int:
    """Bytes resident in the worker."""
    (worker,) = server.workers()
    resident: int = psutil.Process(worker["pid"]).memory_info().rss
    return resident


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_bytes_both_ways_at_once_in_bounded_memory(
    version: str, tmp_path: Path, certificate: Certificate
) -> None:
    with (
        Backend() as backend,
        running(
            tmp_path, certificate=certificate, workers=1, arguments=["--app", backend.app]
        ) as server,
        TlsStream(server.address, client_context(certificate, version), timeout=TIMEOUT) as client,
        backend.accept() as behind,
    ):
        behind.settimeout(TIMEOUT)
        before = memory(server)
        sent, received, sent_back, received_back = (hashlib.sha256() for _ in range(4))

        def send_back() -> None:
            for block in noise(2, sent_back):
                behind.sendall(block)

        def receive() -> None:
            left = EACH_WAY
            while left and (block := behind.recv(BLOCK)):
                received.update(block)
                left -= len(block)

        threads = [in_background(send_back), in_background(receive)]
        exchange(client.tls, noise(1, sent), EACH_WAY, received_back.update)
        for thread in threads:
            thread.join()
        assert received.digest() == sent.digest()
        assert received_back.digest() == sent_back.digest()
        assert memory(server) - before < 16 * MIB


def test_slow_readers_cost_two_buffers_each(tmp_path: Path, certificate: Certificate) -> None:
    count = 20
    with Backend() as backend:
        arguments = ["--app", backend.app]
        with running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server:
            clients, behinds = [], []
            for _ in range(count):
                clients.append(TlsStream(server.address, client_context(certificate)))
                behinds.append(backend.accept())
            before = memory(server)
            for stream in (*(item.tls for item in clients), *behinds):
                stream.settimeout(0.02)
                try:
                    while True:
                        stream.sendall(bytes(256 * 1024))
                except TimeoutError:
                    pass
            assert memory(server) - before < count * MIB
            for behind in behinds:
                behind.close()
            for client in clients:
                client.tls.close()
            eventually(lambda: server.connections() == 0, within=5, what="no connection left")


def test_the_status_shows_backends_as_they_fall_and_rise(
    tmp_path: Path, certificate: Certificate
) -> None:
    port = free_port()
    name = f"127.0.0.1:{port}"
    with Backend() as other:
        arguments = ["--app", f"proxy:{name},{other.name}", *QUICK]
        with running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server:

            def up(backend: str) -> bool:
                found: bool = server.workers()[0]["backends"][backend]["up"]
                return found

            eventually(lambda: not up(name), within=5, what="down")
            assert up(other.name)
            drain_queue(other)
            for _ in range(4):  # none goes to the one that is down
                with TlsStream(server.address, client_context(certificate)) as client:
                    client.tls.sendall(b"x")
                    served_by(other, client)
            shown = server.command("status").stdout
            assert re.search(rf"{name} +0 of 1 workers", shown), shown
            assert re.search(rf"{other.name} +1 of 1 workers", shown), shown
            metrics = server.admin("/metrics")[1]
            assert re.search(rf'backend_up{{backend="{name}",worker="[^"]+"}} 0.0', metrics)
            assert re.search(rf'backend_up{{backend="{other.name}",worker="[^"]+"}} 1.0', metrics)
            with Backend(port=port):
                eventually(lambda: up(name), within=5, what="up again")
            assert "backend is down" in server.log.read_text()
            assert "backend is up" in server.log.read_text()


def drain_queue(backend: Backend) -> None:
    """Checks are connections too: let them have what they want."""
    backend.accept().close()


def served_by(backend: Backend, client: TlsStream) -> None:
    """Answer the client's byte, among the checks."""
    while True:
        with backend.accept() as behind:
            if behind.recv(1):
                behind.sendall(b"y")
                assert exactly(client.tls, 1) == b"y"
                return


def test_a_drained_worker_finishes_what_it_relays(tmp_path: Path, certificate: Certificate) -> None:
    with Backend() as backend:
        arguments = ["--app", backend.app, "--health-interval", "0"]
        with running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server:
            (worker,) = server.workers()
            with (
                TlsStream(server.address, client_context(certificate)) as old,
                backend.accept() as behind,
            ):
                assert server.command("drain", worker["id"]).returncode == 0
                eventually(
                    lambda: [item["id"] for item in server.workers()] not in ([], [worker["id"]]),
                    within=20,
                    what="a successor",
                )
                old.tls.sendall(b"still here")
                assert exactly(behind, 10) == b"still here"
                behind.sendall(b"and here")
                assert exactly(old.tls, 8) == b"and here"
            eventually(lambda: len(server.workers(None)) == 1, within=5, what="the old one gone")


def test_a_name_is_resolved(tmp_path: Path, certificate: Certificate) -> None:
    with Backend() as backend:
        arguments = ["--app", f"proxy:localhost:{backend.port}", "--health-interval", "0"]
        with (
            running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server,
            TlsStream(server.address, client_context(certificate)) as client,
            backend.accept() as behind,
        ):
            client.tls.sendall(b"x")
            assert exactly(behind, 1) == b"x"


@pytest.mark.parametrize("version", ["", "-v2"])
def test_behind_haproxy(version: str, tmp_path: Path, certificate: Certificate) -> None:
    """HAProxy passes TLS on with its header; the backend is told of the client at its end."""
    port = free_port()
    arguments = [
        "--proxy-protocol-from",
        "127.0.0.1",
        "--send-proxy",
        "v1",
        "--health-interval",
        "0",
    ]
    with Backend() as backend:
        arguments += ["--app", backend.app]
        with running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server:
            settings = tmp_path / "haproxy.cfg"
            settings.write_text(
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n"
                f"listen tls\n bind 127.0.0.1:{port}\n"
                f" server one 127.0.0.1:{server.port} send-proxy{version}\n"
            )
            balancer = subprocess.Popen([peer("haproxy"), "-db", "-f", str(settings)])
            try:
                client = eventually(
                    lambda: TlsStream(("127.0.0.1", port), client_context(certificate)),
                    within=5,
                    what="HAProxy",
                )
                with client, backend.accept() as behind:
                    host, ours = client.tls.getsockname()
                    line = f"PROXY TCP4 {host} 127.0.0.1 {ours} {port}\r\n".encode()
                    assert exactly(behind, len(line)) == line
            finally:
                balancer.terminate()
                balancer.wait(5)
