"""System calls of a server per TLS connection, counted by strace.

    python -m tests.bench.syscalls --subject shardtls --operation tls13-full

Counts only: under strace every call costs many times what it costs otherwise, so neither its times
nor the CPU time of such a run mean anything. Queues fill while calls are slow, which makes batches
larger than they are without strace; compare counts of runs made alike.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.bench.generators import Generators
from tests.bench.handshakes import OPERATIONS
from tests.bench.load import Order
from tests.bench.subjects import SUBJECTS, Subject
from tests.bench.ticks import tree
from tests.certificates import issue
from tests.waiting import eventually

__all__ = ["count", "main", "parse_summary"]

SHOWN: Final = 0.02
"""Calls rarer than this, per connection, are added up."""


def parse_summary(text: str) -> dict[str, tuple[int, int]]:
    """The table that ``strace -c`` prints: calls and errors of each system call."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        number = len(fields) in (5, 6) and fields[0].replace(".", "").isdigit()
        if number and fields[-1] != "total":
            errors = int(fields[4]) if len(fields) == 6 else 0
            found[fields[-1]] = (int(fields[3]), errors)
    return found


def count(subject: Subject, generators: Generators, order: Order) -> dict[str, tuple[int, int]]:
    """Calls of all the server's threads while the order is carried out."""
    with tempfile.TemporaryDirectory(prefix="shardtls-bench-") as folder:
        summary = Path(folder) / "summary"
        pids = [word for process in tree(subject.pid) for word in ("-p", str(process.pid))]
        tracer = subprocess.Popen(
            ["strace", "-c", "-f", "-o", str(summary), *pids],
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            eventually(lambda: _traced(subject), within=10, what="strace to be attached")
            outcome = generators.run(order)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(timeout=20)
        if outcome.failed:
            raise RuntimeError(f"{outcome.failed} failed: {outcome.first_error}")
        return parse_summary(summary.read_text())


def _traced(subject: Subject) -> bool:
    """Every thread of the tree has a tracer."""
    statuses = [
        status.read_text()
        for process in tree(subject.pid)
        for status in Path(f"/proc/{process.pid}/task").glob("*/status")
    ]
    return not any("TracerPid:\t0\n" in status for status in statuses)


def main(arguments: list[str] | None = None) -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.syscalls", description="System calls per TLS connection."
    )
    parser.add_argument("--subject", choices=SUBJECTS, default="shardtls")
    parser.add_argument("--operation", choices=OPERATIONS, default="tls13-full")
    parser.add_argument("--count", type=int, default=1000, help="50 to 20000; default 1000")
    parser.add_argument("--clients", type=int, default=16, help="1 to 256; default 16")
    parser.add_argument("--workers", type=int, default=2, help="1 to 16; default 2")
    chosen = parser.parse_args(arguments)
    for name, low, high in (("count", 50, 20_000), ("clients", 1, 256), ("workers", 1, 16)):
        if not low <= getattr(chosen, name) <= high:
            parser.error(f"--{name} must be from {low} to {high}")
    operation = OPERATIONS[chosen.operation]
    with tempfile.TemporaryDirectory(prefix="shardtls-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        certificate = issue(folder / "certificate")
        with (
            SUBJECTS[chosen.subject](folder / "server", certificate, chosen.workers) as subject,
            Generators(2) as generators,
        ):
            order = Order(
                subject=subject.name,
                host=subject.host,
                port=subject.port,
                version=operation.version,
                resume=False,
                keep=operation.resume,
                request=operation.request,
                server_closes=False,
                count=500,
                clients=chosen.clients,
                deadline=120,
            )
            generators.run(order)
            measured = replace(order, resume=operation.resume, count=chosen.count)
            calls = count(subject, generators, measured)
    print(f"$ python -m tests.bench.syscalls {' '.join(arguments or sys.argv[1:])}")
    print(f"{chosen.operation} on {subject.version}: calls (errors) per connection")
    rest = 0.0
    for name, (number, errors) in sorted(calls.items(), key=lambda item: -item[1][0]):
        if number / chosen.count < SHOWN:
            rest += number / chosen.count
        else:
            print(f"{name:20} {number / chosen.count:7.2f}  ({errors / chosen.count:.2f})")
    print(f"{'others':20} {rest:7.2f}")
    print(f"{'total':20} {sum(number for number, _ in calls.values()) / chosen.count:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
