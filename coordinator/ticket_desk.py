"""What the *control* endpoint does for ticket keys: tells workers the ring and the watermarks,
hears what they have, and answers administrators once all have it. Pure. Broker's thread only.

A worker that seals tickets says so when it registers, and gets the ring in the reply. Every later
change is pushed as an order; the serial in a worker's heartbeat acknowledges it, and a heartbeat
with an old serial has it sent again.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from coordinator import bodies
from coordinator.errors import MessageError
from coordinator.log import get_logger
from coordinator.protocol import (
    ERROR_EXPIRED,
    ERROR_REFUSED,
    encode_error,
    encode_order,
    encode_reply,
)
from coordinator.registry import Member, MemberState, Registry
from coordinator.strikes import StrikeRegister
from coordinator.ticket_keys import KeyRing
from coordinator.watermarks import TicketFilter, Watermarks

__all__ = ["UNNUMBERED", "TicketDesk", "Waiting"]

UNNUMBERED: Final = 0
"""Number of the orders that the next heartbeat acknowledges."""
MAX_WAITING: Final = 64

_Steps: TypeAlias = Generator[int, float, dict[str, Any]]
"""Yields the serial that every live worker has to have next, is sent `now`, returns the reply."""

_log = get_logger("tickets")


@dataclass(slots=True)
class Waiting:
    """An administrator who is answered when all live workers have a change.

    :ivar asker: routing id.
    :ivar timeout: seconds.
    """

    asker: bytes
    request: int
    timeout: float
    deadline: float = 0.0
    serial: int = 0
    steps: _Steps | None = field(default=None, repr=False)


class TicketDesk:
    """The ring, the watermarks and the strike register, and which worker has what."""

    def __init__(
        self, ring: KeyRing, strikes: StrikeRegister, registry: Registry, *, settle: float
    ) -> None:
        """
        :param settle: seconds for workers of an earlier coordinator to find this one.
        """
        self.ring = ring
        self.strikes = strikes
        self.watermarks = Watermarks()
        self._registry = registry
        self._settle = settle
        self._has: dict[str, int] = {}
        self._pushed = 0
        self._waiting: list[Waiting] = []

    # ---- workers ----

    def registered(self, id_: str, body: Mapping[str, Any], now: float) -> dict[str, Any]:
        """What the reply to a registration has beside the usual.

        :raises MessageError: what the worker says of its ring cannot be read.
        """
        self._has.pop(id_, None)
        if body.get("ticket_keys") is None:
            return {}
        about = bodies.optional_map(body, "ticket_keys")
        if self.watermarks.merge(about.get("watermarks", [])):
            self.ring.bump()
        self.ring.start(now, self._settle if about.get("holds") is True else 0.0)
        # This one gets the ring in the reply: the first of a deployment with a key to seal with.
        self.ring.advance(now, self._acknowledged())
        self._has[id_] = 0
        return {"ticket_keys": self._message(now)}

    def heard(self, member: Member, now: float) -> list[tuple[bytes, bytes]]:
        """A heartbeat came."""
        stats = member.worker
        if member.id not in self._has or stats.ticket_serial is None:
            return []
        serial = self._has[member.id] = min(stats.ticket_serial, self.ring.serial)
        if serial < self.ring.serial:
            return [(member.routing, self._order(now))]
        self.ring.report(member.id, stats.tickets_sealed)
        return []

    def tick(self, now: float) -> list[tuple[bytes, bytes]]:
        """What follows from time, and from what was heard since."""
        self._has = {id_: serial for id_, serial in self._has.items() if self._registry.get(id_)}
        if self.ring.advance(now, self._acknowledged()):
            _log.info("ticket keys", serial=self.ring.serial, epochs=len(self.ring))
        self.strikes.sweep(now)
        answers = [
            answer for waiting in list(self._waiting) for answer in self._go_on(waiting, now)
        ]
        return self._push(now) + answers

    @property
    def in_use(self) -> bool:
        """Whether any live worker seals tickets."""
        return bool(self._live())

    # ---- administrators ----

    def rotate(self, waiting: Waiting, now: float) -> list[tuple[bytes, bytes]]:
        """Replace the active key; the answer comes when all workers seal under the new one.

        :raises MessageError: ``refused``.
        """
        try:
            epoch = self.ring.rotate(now)
        except ValueError as error:
            raise MessageError(ERROR_REFUSED, str(error)) from error

        def steps() -> _Steps:
            yield epoch.serial
            # Now it may seal, and at the next tick does.
            yield self.ring.serial
            return {"ok": True, "epoch": epoch.name[:4].hex(), "workers": len(self._live())}

        return self._begin(waiting, steps(), now)

    def purge(
        self,
        waiting: Waiting,
        which: TicketFilter,
        extra: Mapping[str, Any],
        *,
        now: float,
        wall: float,
        older_than: float = 0.0,
    ) -> list[tuple[bytes, bytes]]:
        """Refuse tickets issued until now; the answer comes when every live worker does.

        :param extra: what the reply has beside.
        :param older_than: seconds; only tickets older than that.
        :raises MessageError: ``refused``.
        """
        offset = wall - now - older_than

        def set_to(moment: float) -> int:
            before_ms = int((moment + offset) * 1000) + 1
            self.watermarks.set(which, before_ms)
            self.ring.bump()
            return before_ms

        set_to(now)

        def steps() -> _Steps:
            later = yield self.ring.serial
            # A worker that had not heard yet may have resumed such a session and issued another
            # ticket. From here on none does, and with the second watermark that one goes too.
            before_ms = set_to(later)
            if which == TicketFilter() and not older_than:
                self.ring.forget()
            yield self.ring.serial
            workers = len(self._live())
            return {**extra, "ok": True, "tickets_before": before_ms / 1000, "workers": workers}

        return self._begin(waiting, steps(), now)

    def view(self, now: float) -> dict[str, Any]:
        """For the status."""
        acknowledged = self._acknowledged()
        return {
            "keys": self.ring.view(now, acknowledged),
            "serial": self.ring.serial,
            "workers": len(acknowledged),
            "rotations": self.ring.rotations,
            "rotate_every_seconds": self.ring.rotate_every,
            "watermarks": len(self.watermarks),
            "strikes": self.strikes.view(),
        }

    # ---- the rest ----

    def _live(self) -> list[Member]:
        members = (self._registry.get(id_) for id_ in self._has)
        return [m for m in members if m is not None and m.state is not MemberState.LOST]

    def _acknowledged(self) -> list[int]:
        return [self._has[member.id] for member in self._live()]

    def _message(self, now: float) -> dict[str, Any]:
        return {**self.ring.message(now), "watermarks": self.watermarks.wire()}

    def _order(self, now: float) -> bytes:
        body = {"do": "ticket_keys", "ticket_keys": self._message(now)}
        return encode_order(UNNUMBERED, body)

    def _push(self, now: float) -> list[tuple[bytes, bytes]]:
        """The latest change for all who have not got it."""
        if self._pushed == self.ring.serial:
            return []
        self._pushed = self.ring.serial
        stale = [member for member in self._live() if self._has[member.id] < self._pushed]
        order = self._order(now) if stale else b""
        return [(member.routing, order) for member in stale]

    def _begin(self, waiting: Waiting, steps: _Steps, now: float) -> list[tuple[bytes, bytes]]:
        if len(self._waiting) >= MAX_WAITING:
            raise MessageError(ERROR_REFUSED, f"{MAX_WAITING} such requests are under way already")
        waiting.deadline = now + waiting.timeout
        waiting.steps = steps
        waiting.serial = next(steps)
        self._waiting.append(waiting)
        return self.tick(now)

    def _go_on(self, waiting: Waiting, now: float) -> list[tuple[bytes, bytes]]:
        assert waiting.steps is not None
        while all(serial >= waiting.serial for serial in self._acknowledged()):
            try:
                waiting.serial = waiting.steps.send(now)
            except StopIteration as done:
                self._waiting.remove(waiting)
                return [(waiting.asker, encode_reply(waiting.request, done.value))]
            except MessageError as error:
                self._waiting.remove(waiting)
                refusal = encode_error(waiting.request, error.code, error.detail)
                return [(waiting.asker, refusal)]
        if waiting.deadline > now:
            return []
        self._waiting.remove(waiting)
        live = self._live()
        missing = ", ".join(sorted(m.id for m in live if self._has[m.id] < waiting.serial))
        detail = f"no acknowledgement within {waiting.timeout:g} s from {missing}"
        return [(waiting.asker, encode_error(waiting.request, ERROR_EXPIRED, detail))]
