"""Several load generator processes as one.

They live as long as the run, so that their start costs no round anything. They are in another
process group and session than every server: a server in the session of its clients is scheduled
behind them, its queues fill, and it looks up to twice as cheap as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.load import GROUPS, SUITE, Order, Outcome

__all__ = ["Generators"]


OPENSSL_CONFIGURATION = f"""\
openssl_conf = library
[library]
ssl_conf = tls
[tls]
system_default = default
[default]
Groups = {GROUPS}
Ciphersuites = {SUITE}
"""


class Generators:
    """`processes` generators; each order is divided among them."""

    def __init__(self, processes: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="shardtls-bench-")
        configuration = Path(self._folder.name) / "openssl.cnf"
        configuration.write_text(OPENSSL_CONFIGURATION)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                process_group=0,
                env={**os.environ, "OPENSSL_CONF": str(configuration)},
            )
            for _ in range(processes)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._folder.cleanup()

    def run(self, order: Order) -> Outcome:
        """Carry it out; counts are sums, `seconds` is the longest.

        :raises RuntimeError: a generator died.
        """
        number = len(self._processes)
        for index, process in enumerate(self._processes):
            share = replace(
                order,
                count=_share(order.count, number, index),
                clients=max(1, _share(order.clients, number, index)),
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(share)) + "\n")
            process.stdin.flush()
        total = Outcome()
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"a load generator ended with {process.wait()}")
            part = Outcome(**json.loads(line))
            total.full += part.full
            total.resumed += part.resumed
            total.failed += part.failed
            total.unclean += part.unclean
            total.seconds = max(total.seconds, part.seconds)
            total.cpu_seconds += part.cpu_seconds
            total.first_error = total.first_error or part.first_error
        return total


def _share(whole: int, parts: int, index: int) -> int:
    return whole // parts + (1 if index < whole % parts else 0)
