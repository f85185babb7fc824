"""Leaving the ports for good without losing a connection: the steps of :mod:`shard.accept_queue`,
each at its time.

The supervisor's loop asks it at :attr:`Departure.due`; it reads no clock.
"""

from __future__ import annotations

import math
from typing import Final

from shard.listeners import Listeners

__all__ = ["CLOSE_AFTER", "PATIENCE", "SETTLE", "Departure"]

SETTLE: Final = 0.2
"""Seconds for TCP handshakes that are under way: a round trip around the world."""
PATIENCE: Final = 2.0
"""Seconds until workers that do not empty the queue are not waited for any more."""
CLOSE_AFTER: Final = 0.3
"""Seconds for the workers to stop accepting once they are told to drain."""
_LOOK_AGAIN: Final = 0.02


class Departure:
    """For the supervisor's thread. New connections are refused from its making on.

    :ivar due: when :meth:`step` is to be called; infinity after the last one.
    """

    def __init__(self, listeners: Listeners, now: float) -> None:
        self._listeners = listeners
        self._give_up = now + PATIENCE
        self._told = False
        # Where new connections cannot be refused, waiting would only let more of them in.
        self.due = now + SETTLE if listeners.refuse_new() else now

    def step(self, now: float) -> bool:
        """Take the next step if it is time.

        :returns: whether the workers are to be told to drain now; True once.
        """
        if now < self.due:
            return False
        if self._told:
            self._listeners.close_ports()
            self.due = math.inf
            return False
        if self._listeners.waiting() and now < self._give_up:
            self.due = now + _LOOK_AGAIN
            return False
        self._told = True
        self.due = now + CLOSE_AFTER
        return True
