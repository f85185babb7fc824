"""Backends that stand for each other, and which of them is next.

Any thread: readers choose and give back, the thread that watches tells what it saw.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from shard.relaying import BackendAddress
from shard.settings.backend import BackendName

__all__ = ["Backend", "Pool"]


@dataclass(slots=True, eq=False)
class Backend:
    """One backend, as its worker sees it. Its fields are the pool's to write.

    :ivar addresses: where it can be reached; empty while its name is not resolved.
    :ivar connections: relayed now, those that are being made included.
    :ivar failures: attempts to connect that failed, checks not counted.
    """

    name: BackendName
    addresses: tuple[BackendAddress, ...] = ()
    connections: int = 0
    failures: int = 0
    turn: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.name.path:
            self.addresses = (self.name.path,)
        elif self.name.is_address:
            self.addresses = ((self.name.host, self.name.port),)

    def address(self) -> BackendAddress | None:
        """The next one of its addresses."""
        addresses = self.addresses
        if not addresses:
            return None
        self.turn += 1
        return addresses[self.turn % len(addresses)]


class Pool:
    """See the module."""

    def __init__(self, names: Sequence[BackendName]) -> None:
        self.backends = tuple(Backend(name) for name in names)
        self._lock = threading.Lock()
        self._next = 0

    def take(self, tried: Collection[Backend] = ()) -> Backend | None:
        """The backend for a connection, to be given back; None if all were tried."""
        with self._lock:
            candidates = [item for item in self.backends if item not in tried]
            if not candidates:
                return None
            chosen = candidates[self._next % len(candidates)]
            self._next += 1
            chosen.connections += 1
            return chosen

    def failed(self, backend: Backend) -> None:
        """It could not be reached."""
        with self._lock:
            backend.failures += 1

    def give_back(self, backend: Backend) -> None:
        """A connection that :meth:`take` was for is over."""
        with self._lock:
            backend.connections -= 1
