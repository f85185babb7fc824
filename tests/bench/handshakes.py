"""Server CPU per TLS connection, shardtls beside nginx in the same run.

    python -m tests.bench.handshakes --rounds 7 --count 2000

Both servers run all the time, each in a session of its own with two workers, ECDSA P-256, X25519,
AES-128-GCM, sessions shared by the workers and two tickets: stored ones, or with the subjects
shardtls-tickets, shardtls-once and nginx-tickets sealed ones. Rounds alternate; a round is
the same operation by the same clients. What is measured is the CPU time, user and system, of the
server's whole process tree over the round (shardtls: supervisor, coordinator, workers).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench.generators import Generators
from tests.bench.load import Order, Outcome
from tests.bench.subjects import DEFAULT, SUBJECTS, Subject
from tests.certificates import issue

__all__ = ["OPERATIONS", "Operation", "Series", "main", "measure"]

RESUMED_AT_LEAST: Final = 0.98
"""Share of a resumption round that must have resumed for the figure to mean anything."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client does."""

    version: str
    resume: bool
    request: bool


OPERATIONS: Final = {
    "tls13-full": Operation("TLSv1.3", resume=False, request=True),
    "tls13-handshake": Operation("TLSv1.3", resume=False, request=False),
    "tls13-resumed": Operation("TLSv1.3", resume=True, request=True),
    "tls12-full": Operation("TLSv1.2", resume=False, request=True),
    "tls12-resumed": Operation("TLSv1.2", resume=True, request=True),
}


@dataclass(slots=True)
class Series:
    """Rounds of one operation on one server."""

    micros: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    connections: int = 0
    resumed: int = 0
    failed: int = 0
    unclean: int = 0
    first_error: str | None = None

    def add(self, used_seconds: float, outcome: Outcome) -> None:
        served = outcome.full + outcome.resumed
        self.connections += served
        self.resumed += outcome.resumed
        self.failed += outcome.failed
        self.unclean += outcome.unclean
        self.first_error = self.first_error or outcome.first_error
        if served:
            self.micros.append(1e6 * used_seconds / served)
            self.rates.append(served / outcome.seconds)

    def doubt(self, operation: Operation) -> str | None:
        """Why the figure does not mean what its name says; None if it does."""
        if self.failed:
            return f"{self.failed} failed ({self.first_error})"
        share = self.resumed / max(1, self.connections)
        if operation.resume and share < RESUMED_AT_LEAST:
            return f"only {share:.1%} resumed"
        if not operation.resume and self.resumed:
            return f"{self.resumed} resumed"
        return None


def measure(
    generators: Generators,
    subjects: list[Subject],
    name: str,
    *,
    rounds: int,
    count: int,
    clients: int,
    server_closes: bool = False,
) -> dict[str, Series]:
    """All rounds of one operation: A B A B …, after a round of each that is not counted."""
    operation = OPERATIONS[name]
    series = {subject.name: Series() for subject in subjects}
    for number in range(-1, rounds):
        for subject in subjects:
            order = Order(
                subject=subject.name,
                host=subject.host,
                port=subject.port,
                version=operation.version,
                resume=operation.resume and number >= 0,
                keep=operation.resume,
                request=operation.request,
                server_closes=server_closes,
                count=count if number >= 0 else min(count, 500),
                clients=clients,
                deadline=60 + count / 50,
            )
            before = subject.cpu_seconds()
            outcome = generators.run(order)
            if number >= 0:
                series[subject.name].add(subject.cpu_seconds() - before, outcome)
    return series


def report(name: str, series: dict[str, Series]) -> list[str]:
    """Lines of the table for one operation."""
    lines = []
    middles = {}
    for subject, rounds in series.items():
        if not rounds.micros:
            lines.append(f"{name:16} {subject:15} nothing served: {rounds.first_error}")
            continue
        middles[subject] = median(rounds.micros)
        lines.append(
            f"{name:16} {subject:15} {middles[subject]:7.0f}"
            f"  ({min(rounds.micros):.0f}-{max(rounds.micros):.0f})"
            f"  {median(rounds.rates):8.0f}  {rounds.connections:6d}"
            f"  {rounds.resumed / max(1, rounds.connections):7.1%}"
            f"  {rounds.unclean:6d}"
            + (f"  NOT VALID: {doubt}" if (doubt := rounds.doubt(OPERATIONS[name])) else "")
        )
    for ours in middles:
        for other in middles if ours.startswith("shardtls") else ():
            if other.startswith("shardtls"):
                continue
            both = zip(series[ours].micros, series[other].micros, strict=False)
            pairs = [a / b for a, b in both]
            lines.append(
                f"{name:16} {ours + ' / ' + other:15} {middles[ours] / middles[other]:7.2f}"
                f"  ({min(pairs):.2f}-{max(pairs):.2f}, round by round)"
            )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run and print the table; 1 if a figure is not valid."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.handshakes",
        description="Server CPU per TLS connection, side by side.",
    )
    parser.add_argument(
        "--operation", action="append", choices=OPERATIONS, help="repeatable; default: all"
    )
    parser.add_argument(
        "--subject",
        action="append",
        choices=SUBJECTS,
        help="repeatable; default: the first two",
    )
    parser.add_argument("--rounds", type=int, default=7, help="1 to 50; default 7")
    parser.add_argument(
        "--count", type=int, default=2000, help="connections a round, 50 to 20000; default 2000"
    )
    parser.add_argument("--clients", type=int, default=16, help="at the same time; default 16")
    parser.add_argument(
        "--generators", type=int, default=2, help="client processes, 1 to 8; default 2"
    )
    parser.add_argument(
        "--close",
        choices=["client", "server"],
        default="client",
        help="who sends close_notify first",
    )
    parser.add_argument("--workers", type=int, default=2, help="of each server; default 2")
    chosen = parser.parse_args(arguments)
    for name, low, high in (
        ("rounds", 1, 50),
        ("count", 50, 20_000),
        ("clients", 1, 256),
        ("generators", 1, 8),
        ("workers", 1, 16),
    ):
        if not low <= getattr(chosen, name) <= high:
            parser.error(f"--{name} must be from {low} to {high}")
    valid = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shardtls-bench-")))
        folder.chmod(0o755)
        certificate = issue(folder / "certificate")
        subjects = [
            stack.enter_context(SUBJECTS[name](folder / name, certificate, chosen.workers))
            for name in chosen.subject or DEFAULT
        ]
        generators = stack.enter_context(Generators(chosen.generators))
        print(f"$ python -m tests.bench.handshakes {' '.join(arguments or sys.argv[1:])}")
        print(", ".join(subject.version for subject in subjects))
        print(
            f"{chosen.rounds} rounds of {chosen.count} connections, {chosen.clients} clients, "
            f"{chosen.workers} workers; microseconds of server CPU per connection"
        )
        print(
            f"{'operation':16} {'server':15} {'median':>7}  (min-max)"
            "  conn/s   served  resumed  unclean"
        )
        for name in chosen.operation or OPERATIONS:
            series = measure(
                generators,
                subjects,
                name,
                rounds=chosen.rounds,
                count=chosen.count,
                clients=chosen.clients,
                server_closes=chosen.close == "server",
            )
            valid = valid and not any(s.doubt(OPERATIONS[name]) for s in series.values())
            print("\n".join(report(name, series)), flush=True)
    return 0 if valid else 1


if __name__ == "__main__":
    sys.exit(main())
