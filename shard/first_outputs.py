"""What the coordinator's canary is told of this process's DRBG, and what is sent back to its pool.

Output that is drawn for this alone, so that nothing a client gets is known to anybody else.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Final

from shard import _engine

__all__ = ["FirstOutputs", "noise"]

_BYTES: Final = 32


class FirstOutputs:
    """Marks of the DRBG's first output after each seed. One thread at a time."""

    def __init__(self) -> None:
        self._seeds: int | None = None

    def mark(self) -> bytes | None:
        """SHA-256 of an output drawn now, once after each seed; None if there is nothing new."""
        status = _engine.drbg_status()
        if not status.seeded or status.reseeds == self._seeds:
            return None
        self._seeds = status.reseeds
        drawn = noise()
        return hashlib.sha256(drawn).digest() if drawn else None


def noise() -> bytes:
    """32 bytes of output; empty without a working DRBG."""
    with suppress(RuntimeError):
        return _engine.drbg_generate(_BYTES)
    return b""
