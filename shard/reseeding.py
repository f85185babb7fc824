"""When a worker's DRBG is reseeded, and with whose seed. Pure.

A reseed that is due asks the coordinator first and waits :data:`~shard.membership.ANSWER_WITHIN`
at most; then local randomness has to do. Nothing of a handshake waits for either. While the last
seed was local alone the coordinator is asked in the background, so its return is taken up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shard.membership import ANSWER_WITHIN

__all__ = ["Reseed", "Reseeding"]

_ORDER = "order"


@dataclass(frozen=True, slots=True)
class Reseed:
    """Reseed now.

    :ivar seed: the coordinator's; None: local randomness alone. Kept out of the repr.
    :ivar reason: as :meth:`shard.drbg.Drbg.reseed` has it.
    :ivar missing: why there is no seed of the coordinator's.
    """

    seed: bytes | None
    reason: str
    missing: str | None

    def __repr__(self) -> str:
        whose = "local" if self.seed is None else "coordinator"
        return f"Reseed({whose}, reason={self.reason!r}, missing={self.missing!r})"


class Reseeding:
    """Link thread only. Times are seconds of a monotonic clock.

    :ivar due: when :meth:`overdue` next has something; infinity if never.
    """

    def __init__(self) -> None:
        self.due = math.inf
        self._reason: str | None = None
        self._interruption: str | None = None

    def want(self, reason: str, now: float) -> None:
        """A reseed is due. One that is under way serves a second reason too."""
        if self._reason is None:
            self._reason = reason
            self.due = now + ANSWER_WITHIN
        elif reason == _ORDER:
            self._reason = reason

    def interrupted(self, reason: str) -> Reseed:
        """The process or the machine stood still, so its state may have been copied: reseed at
        once, and once more with the coordinator's seed when it comes.
        """
        self._interruption = reason
        return self._now(None, reason, "not waited for")

    def purpose(self, *, local: bool) -> str | None:
        """What to ask the coordinator for a seed for; None: it need not be asked.

        :param local: whether the last seed was made without it.
        """
        return self._reason or self._interruption or ("coordinator" if local else None)

    def given(self, seed: bytes) -> Reseed:
        """The coordinator's seed has come."""
        reason = self._reason or self._interruption or "coordinator"
        self._interruption = None
        return self._now(seed, reason, None)

    def refused(self, why: str) -> Reseed | None:
        """The coordinator gives none; None if no reseed was due."""
        self._interruption = None
        return None if self._reason is None else self._now(None, self._reason, why)

    def overdue(self, now: float) -> Reseed | None:
        """A reseed that has waited for the coordinator long enough."""
        if self._reason is None or now < self.due:
            return None
        return self._now(None, self._reason, "no answer")

    def _now(self, seed: bytes | None, reason: str, missing: str | None) -> Reseed:
        self._reason = None
        self.due = math.inf
        return Reseed(seed, reason, missing)
