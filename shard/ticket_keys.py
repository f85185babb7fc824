"""A worker's side of the ticket keys: what it takes over from a coordinator's ring. Pure.

The keys themselves are held by the engine, which clears them; they pass through here. After a
coordinator's restart the new one has another ring: what the worker holds of the old one still opens
tickets until its time is over, and seals until the new one names an active key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Engine", "TicketKeys"]

_Which = tuple[bytes | None, str | None, bytes | None, str | None]
_Watermark = tuple[int, bytes | None, str | None, bytes | None, str | None]


class _Status(Protocol):
    @property
    def names(self) -> list[bytes]: ...
    @property
    def active(self) -> bytes | None: ...
    @property
    def sealed(self) -> int: ...


class Engine(Protocol):
    """What is needed of :class:`shard._engine.TicketKeys`."""

    def replace(
        self,
        *,
        kept: Sequence[bytes],
        added: Sequence[tuple[bytes, bytes, float]],
        active: bytes | None,
    ) -> None: ...
    def set_watermarks(self, watermarks: Sequence[_Watermark]) -> None: ...
    def sweep(self) -> None: ...
    def status(self) -> _Status: ...


class TicketKeys:
    """Link thread only.

    :ivar serial: of the change that this worker has, of the present coordinator.
    :ivar malformed: messages that could not be used.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._boot = ""
        self._told_by: dict[bytes, str] = {}
        self._watermarks: dict[_Which, int] = {}
        self.serial = 0
        self.malformed = 0

    def registration(self) -> dict[str, Any]:
        """What a registration says of the ring."""
        about = {"holds": bool(self._engine.status().names), "watermarks": self._told()}
        return {"ticket_keys": about}

    def stats(self) -> dict[str, Any]:
        """What a heartbeat says of it; the serial is an acknowledgement."""
        self._engine.sweep()
        return {"ticket_keys": {"serial": self.serial, "sealed": self._engine.status().sealed}}

    def registered(self, boot: str, ring: object) -> bool:
        """A coordinator took this worker in and sent its ring; whether it is of use."""
        if boot != self._boot:
            self._boot, self.serial = boot, 0
        return self.told(ring)

    def told(self, ring: object) -> bool:
        """The coordinator told a change; whether it is of use. It may be anything."""
        if not isinstance(ring, Mapping):
            self.malformed += ring is not None
            return False
        try:
            serial = int(ring["serial"])
            if serial < self.serial:
                return False  # overtaken by a later one
            watermarks = [_watermark(item) for item in ring["watermarks"]]
            epochs = [(name, key, float(left)) for name, key, left in ring["epochs"]]
            self._take(epochs, ring["active"], watermarks)
        except (KeyError, TypeError, ValueError, OverflowError):
            # Its text is not logged: it might quote what came.
            self.malformed += 1
            return False
        self.serial = serial
        return True

    def _take(
        self,
        epochs: list[tuple[bytes, bytes, float]],
        active: bytes | None,
        watermarks: list[_Watermark],
    ) -> None:
        status = self._engine.status()
        # Refuse first: nothing that a purge means shall be accepted under a new key.
        merged, purged_all = self._merged(watermarks)
        self._engine.set_watermarks([(at, *which) for which, at in merged.items()])
        self._watermarks = merged
        told = {name for name, _, _ in epochs}
        if active is None:
            # A new coordinator waits until all workers have found it: the old key seals on.
            active = status.active
        kept = []
        for name in status.names:
            foreign = self._told_by.get(name) != self._boot
            # Who told an epoch may take it back; what another told stays until its time is over,
            # or until no ticket of it is accepted any more.
            if name in told or name == active or (foreign and not purged_all):
                kept.append(name)
        self._engine.replace(kept=kept, added=epochs, active=active)
        held = self._engine.status().names
        self._told_by = {
            name: self._boot if name in told else self._told_by.get(name, "") for name in held
        }

    def _merged(self, told: list[_Watermark]) -> tuple[dict[_Which, int], bool]:
        """All watermarks with those told, and whether everything issued so far is refused anew."""
        everything = (None, None, None, None)
        merged = dict(self._watermarks)
        for at, scope, server_name, certificate, worker in told:
            which = (scope, server_name, certificate, worker)
            merged[which] = max(at, merged.get(which, 0))
        latest = merged.get(everything, 0)
        left = {which: at for which, at in merged.items() if at > latest or which == everything}
        return left, latest > self._watermarks.get(everything, 0)

    def _told(self) -> list[list[Any]]:
        return [[at, *which] for which, at in self._watermarks.items()]


def _watermark(item: Any) -> _Watermark:
    at, scope, server_name, certificate, worker = item
    return int(at), scope, server_name, certificate, worker
