"""Backends that stand for each other, in what state each is, and which of them is next.

Any thread: readers choose and give back, the threads of :mod:`shard.proxying.watch` tell what they
saw. A backend is *down* after `fall` failures in a row, of checks and of clients' connections
alike, and up again after `rise` good checks. Those that are down are chosen only if all are: a
check that is wrong shall not end the service.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from coordinator.log import get_logger
from shard.relaying import BackendAddress
from shard.settings.backend import BackendName

__all__ = ["LEAST_CONNECTIONS", "ROUND_ROBIN", "Backend", "Health", "Pool"]

ROUND_ROBIN: Final = "round_robin"
LEAST_CONNECTIONS: Final = "least_connections"

_log = get_logger("proxy")


@dataclass(frozen=True, slots=True)
class Health:
    """How states change.

    :ivar rise: good checks in a row until a backend is up.
    :ivar fall: failures in a row until it is down; 0: never.
    """

    rise: int = 2
    fall: int = 3


class Backend:
    """One backend, as its worker sees it. Any thread may read it and call its methods.

    :ivar addresses: where it can be reached; empty while its name is not resolved.
    :ivar connections: relayed now, those that are being made included.
    :ivar failures: connections of clients that could not be made.
    """

    def __init__(self, name: BackendName, health: Health) -> None:
        self.name = name
        self.up = True
        self.connections = 0
        self.failures = 0
        self.addresses: tuple[BackendAddress, ...] = ()
        if name.path:
            self.addresses = (name.path,)
        elif name.is_address:
            self.addresses = ((name.host, name.port),)
        self._health = health
        self._streak = 0
        self._turn = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Backend {self.name} {'up' if self.up else 'down'}>"

    def address(self) -> BackendAddress | None:
        """The next one of its addresses."""
        addresses = self.addresses
        if not addresses:
            return None
        self._turn += 1
        return addresses[self._turn % len(addresses)]

    def taken(self) -> None:
        """A connection is for it."""
        with self._lock:
            self.connections += 1

    def given_back(self) -> None:
        """That connection is over."""
        with self._lock:
            self.connections -= 1

    def connected(self) -> None:
        """A client's connection was made."""
        if self.up:
            self._streak = 0

    def failed(self, detail: str) -> None:
        """A client's connection could not be made."""
        with self._lock:
            self.failures += 1
            self._failure(detail)

    def checked(self, problem: str | None) -> None:
        """A check ended, well or with a problem."""
        with self._lock:
            if problem is not None:
                self._failure(problem)
            elif self.up:
                self._streak = 0
            else:
                self._streak += 1
                if self._streak >= self._health.rise:
                    self.up, self._streak = True, 0
                    _log.info("backend is up", backend=str(self.name))

    def _failure(self, detail: str) -> None:
        if not self.up:
            self._streak = 0
            return
        self._streak += 1
        if 0 < self._health.fall <= self._streak:
            self.up, self._streak = False, 0
            _log.warning("backend is down", backend=str(self.name), reason=detail)


@dataclass(slots=True)
class Pool:
    """Backends in the order in which they were named.

    :ivar balance: :data:`ROUND_ROBIN` or :data:`LEAST_CONNECTIONS`.
    """

    backends: Sequence[Backend]
    balance: str = ROUND_ROBIN
    _next: int = field(default=0, repr=False)

    def take(self, tried: Collection[Backend] = ()) -> Backend | None:
        """The backend for a connection, to be given back; None if all were tried."""
        candidates = [item for item in self.backends if item not in tried]
        candidates = [item for item in candidates if item.up] or candidates
        if not candidates:
            return None
        # In turn among equals, so that the first one is not the first of every round.
        self._next = start = (self._next + 1) % len(self.backends)
        turned = candidates[start % len(candidates) :] + candidates[: start % len(candidates)]
        chosen = turned[0]
        if self.balance == LEAST_CONNECTIONS:
            chosen = min(turned, key=lambda item: item.connections)
        chosen.taken()
        return chosen
