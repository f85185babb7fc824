"""Which workers give no sign of life. Pure: `now` and signs in, names out.

The supervisor asks every ready worker over its lifeline, a few times in `patience` seconds, and
counts as hung whoever has not answered for that long. It asks no coordinator, so neither one that
is stopped nor a network that is cut makes a worker look hung. Nor does a pause of the supervisor
itself (SIGSTOP, a suspended machine, a stopped process group): who did not listen does not judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

__all__ = ["LEAST_PATIENCE", "Liveness"]

LEAST_PATIENCE: Final = 1.0
"""Seconds: less would kill workers that only wait for a processor."""
_QUESTIONS: Final = 4
"""So many within the patience."""


class Liveness:
    """For the supervisor's thread. Times are seconds of a monotonic clock.

    :ivar patience: seconds without a sign after which a worker is hung.
    :ivar due: when :meth:`look` has something to do; infinity if never.
    """

    def __init__(self, patience: float) -> None:
        """
        :param patience: at least :data:`LEAST_PATIENCE`; less counts as that.
        """
        self.patience = max(patience, LEAST_PATIENCE)
        self.due = math.inf
        self._interval = self.patience / _QUESTIONS
        self._ask_at = math.inf
        self._heard_at: dict[str, float] = {}

    def watch(self, names: Iterable[str], now: float) -> None:
        """These are to be watched, and no others."""
        self._heard_at = {name: self._heard_at.get(name, now) for name in names}
        if not self._heard_at:
            self._ask_at = math.inf
        elif self._ask_at == math.inf:
            self._ask_at = now
        self._set_due()

    def heard(self, name: str, now: float) -> None:
        """It gave a sign of life."""
        if name in self._heard_at:
            self._heard_at[name] = now
            self._set_due()

    def look(self, now: float) -> tuple[list[str], list[str]]:
        """Once :attr:`due`, after what had arrived was heard.

        :returns: whom to ask for a sign, and who is hung (each told once).
        """
        if now > self.due + self.patience / 2:
            # A shorter pause leaves whoever answered before it the time to answer again.
            self._heard_at = dict.fromkeys(self._heard_at, now)
        hung = [name for name, at in self._heard_at.items() if now >= at + self.patience]
        for name in hung:
            # Killed by now; if it is not gone by then, it is told again.
            self._heard_at[name] = now
        asked = []
        if now >= self._ask_at:
            asked = [name for name in self._heard_at if name not in hung]
            self._ask_at = now + self._interval
        self._set_due()
        return asked, hung

    def _set_due(self) -> None:
        self.due = min(self._ask_at, min(self._heard_at.values(), default=math.inf) + self.patience)
