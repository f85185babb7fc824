"""A server whose randomness is known beforehand: the engine of ``make known-seed`` in a process of
its own.

Run as a program it is that process: it seeds, tells its port, echoes, and does what it is told on
standard input.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import shard
from tests.certificates import Certificate

__all__ = [
    "PERSONALIZATION",
    "SEED",
    "TOP",
    "KnownSeedServer",
    "known_seed_engine",
    "load_engine",
    "serving",
]

TOP: Final = Path(__file__).parents[2]
ENGINE: Final = TOP / "target/known-seed/_engine.abi3.so"
SEED: Final = bytes(range(100, 148))
PERSONALIZATION: Final = b"known seed"


def known_seed_engine() -> Path:
    """The engine's path; fails the test if it was not built."""
    if not ENGINE.exists():
        pytest.fail(f"{ENGINE.relative_to(TOP)} is not built: run `make known-seed`")
    return ENGINE


def load_engine(path: Path) -> Any:
    """The engine at `path`, in place of the installed one. For a process of its own."""
    spec = importlib.util.spec_from_file_location("shard._engine", path)
    assert spec is not None
    assert spec.loader is not None
    engine: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules["shard._engine"] = engine
    spec.loader.exec_module(engine)
    shard._engine = engine
    return engine


@dataclass(frozen=True, slots=True)
class KnownSeedServer:
    """The process, from outside."""

    process: subprocess.Popen[str]
    address: tuple[str, int]

    def tell(self, order: str) -> None:
        """Have it carry out an order, ``zeroize`` or ``exit``, and wait for its word."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == order


@contextmanager
def serving(certificate: Certificate, *, kernel_bytes: bool = False) -> Iterator[KnownSeedServer]:
    """An echo server on :data:`SEED` and :data:`PERSONALIZATION`.

    :param kernel_bytes: let fresh randomness into each request, as a real server does.
    """
    arguments = [known_seed_engine(), certificate.cert, certificate.key, certificate.authority]
    with subprocess.Popen(
        [sys.executable, "-m", __name__, *map(str, arguments), str(int(kernel_bytes))],
        cwd=TOP,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield KnownSeedServer(process, ("127.0.0.1", port))
        finally:
            process.kill()


def say(word: str) -> None:
    """Tell whoever started the process."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    """The process. It stays for its memory to be read when it has exited but for its last step."""
    path, cert, key, authority, kernel_bytes = sys.argv[1:]
    engine = load_engine(Path(path))
    # Runs after the engine's own handler, which is registered later.
    libc = ctypes.CDLL(None)
    libc.__cxa_atexit(libc.pause, None, None)
    seed = engine.drbg_seed if int(kernel_bytes) else engine.drbg_seed_known
    seed(SEED, PERSONALIZATION)
    from tests.engine.echo_loop import EchoLoop, virtual_host  # on that engine

    context = engine.TlsContext([virtual_host(Certificate(Path(cert), Path(key), Path(authority)))])
    with EchoLoop(context) as loop:
        say(str(loop.address[1]))
        for line in sys.stdin:
            order = line.strip()
            if order == "zeroize":
                engine.drbg_zeroize()
            say(order)
            if order == "exit":
                break


if __name__ == "__main__":
    main()
