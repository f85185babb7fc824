"""What the *control* endpoint does about randomness: seeds given, and workers watched. Pure.

For the broker's thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from coordinator.canary import Canary
from coordinator.entropy import (
    EntropyAccumulator,
    InsufficientEntropyError,
    RepeatedSeedError,
)
from coordinator.errors import MessageError
from coordinator.log import get_logger
from coordinator.protocol import ERROR_ENTROPY

__all__ = ["SeedDesk"]

WORKERS: Final = "workers"
"""The source that what workers send back is mixed in under."""

_log = get_logger("control")


class SeedDesk:
    """Gives seeds from the entropy pool, and keeps the canary."""

    def __init__(self, entropy: EntropyAccumulator, gather: Callable[[], None]) -> None:
        """
        :param gather: reads the immediate noise sources into `entropy` until a seed is possible.
        """
        self._entropy = entropy
        self._gather = gather
        self._canary = Canary()
        self._refusing = False

    def mix(self, noise: bytes, now: float) -> None:
        """Bytes that a worker sends back, to be mixed in and not credited."""
        if noise and WORKERS in self._entropy:
            self._entropy.add(WORKERS, noise, now)

    def give(self, requester: str, purpose: str, now: float, wall: float) -> bytes:
        """A seed.

        :param now: seconds of the broker's clock.
        :param wall: Unix time in seconds.
        :raises RepeatedSeedError: it had been given before.
        :raises MessageError: ``insufficient_entropy``.
        """
        self._gather()
        try:
            seed = self._entropy.seed(requester, purpose, now, wall)
        except InsufficientEntropyError as error:
            if not self._refusing:
                # Workers ask again every few seconds: it is told once.
                self._refusing = True
                _log.error("seeds refused", requester=requester, reason=str(error))
            if isinstance(error, RepeatedSeedError):
                raise
            raise MessageError(ERROR_ENTROPY, str(error)) from error
        if self._refusing:
            self._refusing = False
            _log.info("seeds are given again", requester=requester)
        return seed

    def watch(self, member: str, marks: Iterable[bytes]) -> str | None:
        """Take in marks of first outputs (:mod:`coordinator.canary`).

        :returns: who had said one of them before.
        """
        repeats = [self._canary.note(mark, member) for mark in marks]
        return next((earlier for earlier in repeats if earlier is not None), None)

    def view(self, now: float, lines: int) -> dict[str, Any]:
        """For the status.

        :param lines: how many of the ledger's latest.
        """
        snapshot = self._entropy.snapshot(now, lines)
        return {**snapshot, "canary_repeats": self._canary.repeats}
