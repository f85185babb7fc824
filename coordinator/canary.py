"""Notices that two generators gave the same output. Pure. For the broker's thread only.

After each seed a worker says a *mark*: SHA-256 of the first output of its DRBG that nobody else
gets. It says each once, and 256 bits do not repeat by chance: a mark that comes twice means two
generators in one state (a cloned machine, a forked process, a broken seed).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["Canary"]

REMEMBERED: Final = 16384


class Canary:
    """Bounded: the oldest marks are forgotten first.

    :ivar repeats: marks that came again.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        """
        :param remembered: marks.
        """
        self.repeats = 0
        self._marks: OrderedDict[bytes, str] = OrderedDict()
        self._remembered = remembered

    def note(self, mark: bytes, member: str) -> str | None:
        """Take in a mark.

        :param member: whose it is.
        :returns: who said it before, which may be the same member; None if nobody did.
        """
        earlier = self._marks.get(mark)
        if earlier is not None:
            self.repeats += 1
            return earlier
        self._marks[mark] = member
        if len(self._marks) > self._remembered:
            self._marks.popitem(last=False)
        return None
