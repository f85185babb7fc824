"""Descriptors, connections, time: each has a bound, and who stays within it notices nothing."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import hostile
from tests.certificates import Certificate
from tests.client import TlsStream, client_context, visit
from tests.hostile import client_hello, records
from tests.processes import descriptors
from tests.server import Server, running
from tests.waiting import eventually


@contextmanager
def open_files(pid: int, number: int) -> Iterator[None]:
    """Let the process have so many descriptors more than it has now."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid) + number, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_accepting_pauses_without_descriptors_and_goes_on_with_them(
    tmp_path: Path, certificate: Certificate
) -> None:
    """EMFILE: whoever is connected is served; whoever waits in the queue is, later."""
    context = client_context(certificate)
    with running(tmp_path, certificate=certificate, workers=1) as server, ExitStack() as stack:
        (pid,) = server.worker_pids()
        baseline = descriptors(pid)
        with open_files(pid, 10):
            inside = [stack.enter_context(TlsStream(server.address, context)) for _ in range(10)]
            # TCP's handshake is the kernel's: these connect, but nobody answers them yet.
            waiting = [
                stack.enter_context(socket.create_connection(server.address, timeout=5))
                for _ in range(10)
            ]
            for plain in waiting:
                plain.sendall(records(client_hello()))
            for stream in inside:
                stream.facts()
            assert descriptors(pid) <= baseline + 10
            for stream in inside:
                stream.close()
            for plain in waiting[:5]:
                assert plain.recv(1) == b"\x16"
                plain.close()
            for plain in waiting[5:]:
                assert plain.recv(1) == b"\x16"
                plain.close()
            visit(server.address, context)
        eventually(lambda: descriptors(pid) <= baseline, within=5, what="descriptors given back")


def test_a_connection_limit_holds_and_lets_everybody_in_later(
    tmp_path: Path, certificate: Certificate
) -> None:
    limit = 8
    context = client_context(certificate)
    with running(
        tmp_path,
        certificate=certificate,
        workers=1,
        arguments=["--max-connections", str(limit), "--handshake-timeout", "10"],
    ) as server:
        inside = [TlsStream(server.address, context) for _ in range(limit)]
        for stream in inside:
            stream.facts()
        with socket.create_connection(server.address, timeout=5) as late:
            late.sendall(records(client_hello()))
            for _ in range(10):
                for stream in inside:
                    stream.facts()
            eventually(lambda: server.connections() == limit, within=3, what="the limit shown")
            late.setblocking(False)
            with pytest.raises(BlockingIOError):
                late.recv(1)
            late.settimeout(5)
            inside.pop().close()
            assert late.recv(1) == b"\x16"
        for stream in inside:
            stream.close()
        visit(server.address, context)


@pytest.fixture
def impatient(tmp_path: Path, certificate: Certificate) -> Iterator[Server]:
    """A handshake has one second, an idle connection two."""
    with running(
        tmp_path,
        certificate=certificate,
        workers=2,
        arguments=["--handshake-timeout", "1", "--idle-timeout", "2", "--max-connections", "100"],
    ) as server:
        yield server


def test_a_flood_of_half_open_handshakes_is_bounded_by_count_and_time(impatient: Server) -> None:
    context = client_context(impatient.certificate)
    hello = records(client_hello())
    with TlsStream(impatient.address, context) as established, ExitStack() as stack:
        established.facts()
        began = time.monotonic()
        for number in range(400):
            plain = stack.enter_context(socket.create_connection(impatient.address, timeout=5))
            if number % 3 == 1:
                plain.sendall(hello[:50])
            elif number % 3 == 2:
                plain.sendall(hello)
        slowest = 0.0
        most = 0
        while time.monotonic() < began + 1.5:
            asked = time.monotonic()
            established.facts()
            slowest = max(slowest, time.monotonic() - asked)
            most = max(most, impatient.connections())
        assert slowest < 0.5, f"an established client waited {slowest:.3f} s"
        assert most <= 200
        # 400 at 200 a second are gone after two deadlines; then there is room for a visitor.
        eventually(
            lambda: bool(visit(impatient.address, context, timeout=5)),
            within=10,
            what="a new client is served while the flood's sockets are still open",
        )
    eventually(lambda: impatient.connections() == 0, within=5, what="no connection left")


@pytest.mark.parametrize("sent", [0, 1, 5, 80])
def test_a_handshake_that_stalls_is_closed_at_its_deadline(impatient: Server, sent: int) -> None:
    began = time.monotonic()
    reaction = hostile.send(
        impatient.address, [records(client_hello())[:sent]], patience=5, until_handshake=False
    )
    took = time.monotonic() - began
    assert reaction.closed
    assert 0.8 <= took <= 2.5


def test_slowloris_gains_no_time_by_dripping(impatient: Server) -> None:
    """The deadline is for the whole handshake, not from byte to byte."""
    message = records(client_hello())
    began = time.monotonic()
    with socket.create_connection(impatient.address, timeout=5) as plain:
        plain.settimeout(0.1)
        closed = False
        for at in range(len(message)):
            try:
                plain.sendall(message[at : at + 1])
                closed = plain.recv(100)[:1] in (b"", b"\x15")
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
            if closed:
                break
        assert closed
    assert time.monotonic() - began <= 2.5


def test_an_idle_connection_is_closed_orderly(impatient: Server) -> None:
    with TlsStream(impatient.address, client_context(impatient.certificate)) as stream:
        stream.facts()
        began = time.monotonic()
        assert stream.tls.recv(1) == b""  # close_notify; a truncation would raise
        assert 1.5 <= time.monotonic() - began <= 4.5


def resident(pid: int) -> int:
    """Bytes of memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def test_a_slow_reader_is_held_back_alone(tmp_path: Path, certificate: Certificate) -> None:
    """It has the worker it shares with others; its answer waits, in bounded memory."""
    length = 64 * 1024 * 1024
    context = client_context(certificate)
    with running(tmp_path, certificate=certificate, workers=1) as server:
        (pid,) = server.worker_pids()
        with ExitStack() as stack:
            before = resident(pid)
            slow = [stack.enter_context(TlsStream(server.address, context)) for _ in range(4)]
            for stream in slow:
                stream.tls.sendall(
                    f"GET /bytes/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                )
                assert stream.tls.recv(100)
            worst = max(visit(server.address, context).seconds for _ in range(50))
            assert worst < 1.0, f"another client waited {worst:.3f} s"
            assert resident(pid) - before < 32 * 1024 * 1024
            got = 0
            while got < 4 * 1024 * 1024:
                chunk = slow[0].tls.recv(65536)
                assert chunk
                got += len(chunk)
            for stream in slow:
                stream.tls.close()
        eventually(lambda: server.connections() == 0, within=5, what="no connection left")
