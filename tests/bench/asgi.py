"""Server CPU per ASGI request, shardtls beside uvicorn with TLS and without, in the same run.

    python -m tests.bench.asgi --rounds 15

The three servers run all the time, each in a session of its own with one worker on uvloop and
httptools, and serve the same application. Rounds alternate. ``keep-alive`` is a request on a
connection that stays; ``connection`` is a full TLS 1.3 handshake, one request and an orderly close.
What is measured is the CPU time, user and system, of the server's whole process tree (shardtls:
supervisor, coordinator, worker).
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.generators import Generators
from tests.bench.load import GROUPS, Order, client_context
from tests.bench.subjects import Subject
from tests.certificates import Certificate, issue
from tests.ports import free_port
from tests.server import running
from tests.waiting import eventually

__all__ = ["main"]

APP: Final = "tests.bench.asgi_app:app"
REQUEST: Final = b"GET /bytes/16 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
PLAIN: Final = "uvicorn"
WITH_TLS: Final = "uvicorn-tls"


@contextmanager
def shardtls(folder: Path, certificate: Certificate) -> Iterator[Subject]:
    """With one worker."""
    arguments = ["--app", f"asgi:{APP}"]
    with running(folder, certificate=certificate, workers=1, arguments=arguments) as server:
        yield Subject("shardtls", server.pid, server.host, server.port, "shardtls")


@contextmanager
def uvicorn(name: str, *arguments: str) -> Iterator[Subject]:
    """One process, as fast as it can be set up."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", APP, "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--no-access-log", "--no-proxy-headers"]
    command += ["--log-level", "warning", *arguments]
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: _accepts(port), within=20, what=f"{name} to listen")
        yield Subject(name, process.pid, "127.0.0.1", port, name)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=10)


def _accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


class KeepAlive:
    """Clients that stay connected, each with one request under way."""

    def __init__(self, subject: Subject, clients: int) -> None:
        self._sockets = {}
        context = None if subject.name == PLAIN else client_context("TLSv1.3")
        for _ in range(clients):
            plain = socket.create_connection((subject.host, subject.port), timeout=10)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = context.wrap_socket(plain, server_hostname="localhost") if context else plain
            stream.setblocking(False)
            self._sockets[stream.fileno()] = stream

    def run(self, requests: int) -> None:
        """So many requests, and their answers."""
        answers = dict.fromkeys(self._sockets, b"")
        left = requests - len(answers)
        busy = len(answers)
        with select.epoll() as epoll:
            for fd, stream in self._sockets.items():
                epoll.register(fd, select.EPOLLIN)
                stream.send(REQUEST)
            while busy:
                ready = epoll.poll(10)
                assert ready, "no answer within 10 s"
                for fd, _ in ready:
                    stream = self._sockets[fd]
                    try:
                        chunk = stream.recv(4096)
                    except ssl.SSLWantReadError:
                        continue
                    assert chunk, "the server closed the connection"
                    answers[fd] += chunk
                    head, blank, body = answers[fd].partition(b"\r\n\r\n")
                    if not blank or len(body) < 16:
                        continue
                    assert head.startswith(b"HTTP/1.1 200"), head
                    answers[fd] = b""
                    if left > 0:
                        left -= 1
                        stream.send(REQUEST)
                    else:
                        busy -= 1

    def close(self) -> None:
        for stream in self._sockets.values():
            stream.close()


def keep_alive(subjects: list[Subject], rounds: int, count: int, clients: int) -> Figures:
    """Microseconds per request, by server."""
    micros: Figures = {subject.name: [] for subject in subjects}
    for number in range(-1, rounds):
        for subject in subjects:
            load = KeepAlive(subject, clients)
            load.run(clients)
            before = subject.cpu_seconds()
            load.run(count)
            used = subject.cpu_seconds() - before
            load.close()
            if number >= 0:
                micros[subject.name].append(1e6 * used / count)
    return micros


def connections(
    subjects: list[Subject], rounds: int, count: int, clients: int, generators: Generators
) -> Figures:
    """Microseconds per connection with one request, by server."""
    micros: Figures = {subject.name: [] for subject in subjects}
    for number in range(-1, rounds):
        for subject in subjects:
            order = Order(
                subject=subject.name,
                host=subject.host,
                port=subject.port,
                version="TLSv1.3",
                resume=False,
                keep=False,
                request=True,
                server_closes=False,
                count=count,
                clients=clients,
                deadline=60 + count / 50,
            )
            before = subject.cpu_seconds()
            outcome = generators.run(order)
            used = subject.cpu_seconds() - before
            assert outcome.failed == 0, outcome.first_error
            if number >= 0:
                micros[subject.name].append(1e6 * used / count)
    return micros


Figures = dict[str, list[float]]


def report(operation: str, micros: Figures) -> list[str]:
    """Lines of the table."""
    ours = micros["shardtls"]
    lines = []
    for name, values in micros.items():
        line = f"{operation:11} {name:12} {median(values):7.1f}"
        line += f"  ({min(values):.0f}-{max(values):.0f})"
        if values is not ours:
            ratios = sorted(a / b for a, b in zip(ours, values, strict=True))
            quarter = len(ratios) // 4
            line += f"  shardtls is {median(ours) / median(values):.2f} of it"
            line += f"; round by round {median(ratios):.2f}"
            line += f" (quartiles {ratios[quarter]:.2f}-{ratios[-1 - quarter]:.2f})"
        lines.append(line)
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.asgi", description="Server CPU per ASGI request, side by side."
    )
    parser.add_argument("--rounds", type=int, default=15, help="1 to 100; default 15")
    parser.add_argument("--requests", type=int, default=8000, help="a round; default 8000")
    parser.add_argument("--connections", type=int, default=500, help="a round; default 500")
    parser.add_argument("--clients", type=int, default=16, help="at the same time; default 16")
    parser.add_argument("--only", choices=["keep-alive", "connection"])
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardtls-bench-")))
        certificate = issue(folder / "certificate")
        ours = stack.enter_context(shardtls(folder / "shardtls", certificate))
        files = ("--ssl-certfile", str(certificate.cert), "--ssl-keyfile", str(certificate.key))
        tls = stack.enter_context(uvicorn(WITH_TLS, *files))
        plain = stack.enter_context(uvicorn(PLAIN))
        generators = stack.enter_context(Generators(1))
        print(f"{chosen.rounds} rounds, {chosen.clients} clients; clients offer {GROUPS}")
        print(f"{'operation':11} {'server':12} {'µs':>7}  (min-max)")
        if chosen.only != "connection":
            figures = keep_alive([ours, tls, plain], chosen.rounds, chosen.requests, chosen.clients)
            print("\n".join(report("keep-alive", figures)), flush=True)
        if chosen.only != "keep-alive":
            figures = connections(
                [ours, tls], chosen.rounds, chosen.connections, chosen.clients, generators
            )
            print("\n".join(report("connection", figures)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
