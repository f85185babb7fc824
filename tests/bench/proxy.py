"""Server CPU of a TLS-terminating TCP proxy: shardtls beside HAProxy, nginx stream and hitch.

    python -m tests.bench.proxy --rounds 15

All run all the time, each in a session of its own with one worker process or thread, before the
same backend, with ECDSA P-256, X25519 and AES-128-GCM. Rounds alternate; what is measured is the
CPU time, user and system, of each one's whole process tree over a round (shardtls: supervisor,
coordinator and worker).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.generators import OPENSSL_CONFIGURATION
from tests.bench.subjects import Subject
from tests.certificates import Certificate, issue
from tests.ports import free_port
from tests.server import running
from tests.waiting import eventually

__all__ = ["OPERATIONS", "Ends", "compared", "main", "measure"]

OPERATIONS: Final = {
    "request": "µs of CPU per request of 64 bytes over 32 kept connections",
    "connection": "µs of CPU per connection with one request",
    "download": "ms of CPU per 256 MiB to one client",
    "upload": "ms of CPU per 256 MiB from one client",
}
BULK: Final = 256 << 20

HAPROXY: Final = """\
global
  nbthread 1
  tune.ssl.default-dh-param 2048
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen tls
  bind 127.0.0.1:{port} ssl crt {pem} curves X25519:P-256 no-tls-tickets
  server backend 127.0.0.1:{backend}
"""
NGINX: Final = """\
load_module modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 1024; }}
stream {{
  tcp_nodelay on;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate.cert};
    ssl_certificate_key {certificate.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve X25519:prime256v1;
    proxy_pass 127.0.0.1:{backend};
    {buffer}
  }}
}}
"""


@contextmanager
def _program(name: str, command: Sequence[str], port: int) -> Iterator[Subject]:
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/usr/share/nginx" if "nginx" in name else None,
    )
    try:
        eventually(lambda: _listens(port), within=10, what=f"{name} to listen")
        yield Subject(name, process.pid, "127.0.0.1", port, name)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listens(port: int) -> bool:
    wanted = f"0100007F:{port:04X}"
    return any(
        line.split()[1] == wanted and line.split()[3] == "0A"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
    )


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def proxies(
    stack: ExitStack, folder: Path, certificate: Certificate, backend: int
) -> list[Subject]:
    pem = folder / "both.pem"
    pem.write_text(certificate.cert.read_text() + certificate.key.read_text())
    server = stack.enter_context(
        running(
            folder / "shardtls",
            certificate=certificate,
            workers=1,
            arguments=["--app", f"proxy:127.0.0.1:{backend}"],
        )
    )
    found = [Subject("shardtls", server.pid, server.host, server.port, "shardtls")]

    def add(name: str, command: list[str], port: int) -> None:
        found.append(stack.enter_context(_program(name, command, port)))

    if haproxy := _found("haproxy"):
        port = free_port()
        file = folder / "haproxy.cfg"
        file.write_text(HAPROXY.format(port=port, pem=pem, backend=backend))
        add("haproxy", [haproxy, "-db", "-f", str(file)], port)
    nginx = _found("nginx")
    if nginx and Path("/usr/lib/nginx/modules/ngx_stream_module.so").exists():
        for name, buffer in (("nginx", ""), ("nginx-64k", "proxy_buffer_size 64k;")):
            port = free_port()
            own = folder / name
            own.mkdir()
            own.chmod(0o755)
            (own / "nginx.conf").write_text(
                NGINX.format(
                    folder=own, port=port, certificate=certificate, backend=backend, buffer=buffer
                )
            )
            add(name, [nginx, "-c", str(own / "nginx.conf"), "-e", str(own / "error.log")], port)
    if hitch := _found("hitch"):
        port = free_port()
        command = [hitch, f"--frontend=[127.0.0.1]:{port}", "--workers=1"]
        command += [f"--backend=[127.0.0.1]:{backend}", "--quiet"]
        if os.getuid() == 0:
            command += ["--user=nobody", "--group=nogroup"]
        command.append(str(pem))
        add("hitch", command, port)
    return found


@dataclass(frozen=True, slots=True)
class Ends:
    """The two processes beside the proxies.

    :ivar order: has the clients do something.
    """

    backend_port: int
    order: Callable[[dict[str, object]], None]


@contextmanager
def both_ends(folder: Path) -> Iterator[Ends]:
    configuration = folder / "openssl.cnf"
    configuration.write_text(OPENSSL_CONFIGURATION)

    def start(role: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.bench.proxy_load", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, "OPENSSL_CONF": str(configuration)},
        )

    backend, clients = start("backend"), start("clients")
    orders, answers = clients.stdin, clients.stdout
    assert orders is not None
    assert answers is not None
    assert backend.stdout is not None

    def order(what: dict[str, object]) -> None:
        orders.write(json.dumps(what) + "\n")
        orders.flush()
        if not answers.readline():
            raise RuntimeError(f"the clients ended with {clients.wait()}")

    try:
        yield Ends(int(backend.stdout.readline()), order)
    finally:
        for process in (clients, backend):
            if process.stdin:
                process.stdin.close()
            process.wait(timeout=10)


def measure(
    ends: Ends, subjects: list[Subject], operation: str, version: str, rounds: int, count: int
) -> dict[str, list[float]]:
    """The figures of each round, by subject, after a round of each that is not counted."""
    used: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    bulk = operation in ("download", "upload")
    for number in range(-1, rounds):
        for subject in subjects:
            before = subject.cpu_seconds()
            ends.order(
                {
                    "port": subject.port,
                    "version": version,
                    "operation": operation,
                    "clients": 1 if bulk else 32 if operation == "request" else 0,
                    "count": BULK if bulk else count,
                }
            )
            seconds = subject.cpu_seconds() - before
            if number >= 0:
                used[subject.name].append(seconds * 1e3 if bulk else seconds * 1e6 / count)
    return used


@contextmanager
def compared() -> Iterator[tuple[Ends, list[Subject]]]:
    """Everything that is needed, ours first."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardtls-bench-")))
        folder.chmod(0o755)
        certificate = issue(folder / "certificate")
        certificate.key.chmod(0o644)
        ends = stack.enter_context(both_ends(folder))
        yield ends, proxies(stack, folder, certificate, ends.backend_port)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Server CPU of TLS-terminating TCP proxies.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--version", choices=["TLSv1.3", "TLSv1.2"], default="TLSv1.3")
    parser.add_argument("--operation", action="append", choices=list(OPERATIONS))
    chosen = parser.parse_args()
    with compared() as (ends, subjects):
        for operation in chosen.operation or OPERATIONS:
            count = chosen.connections if operation == "connection" else chosen.requests
            used = measure(ends, subjects, operation, chosen.version, chosen.rounds, count)
            print(f"\n{operation}: {OPERATIONS[operation]}, {chosen.version}\n")
            print("| | median (min-max) | shardtls beside it, round by round |")
            print("|---|---|---|")
            ours = used["shardtls"]
            for name, figures in used.items():
                ratios = [a / b for a, b in zip(ours, figures, strict=True) if b]
                spread = f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                line = f"{median(figures):.1f} ({min(figures):.1f}-{max(figures):.1f})"
                print(f"| {name} | {line} | {spread if name != 'shardtls' else ''} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
