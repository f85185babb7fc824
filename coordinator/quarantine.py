"""Workers whose randomness repeated: reseeded at once, then replaced. Pure.

For the broker's thread only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from coordinator.log import get_logger
from coordinator.orders import OrderBook
from coordinator.protocol import encode_order
from coordinator.registry import Member, MemberState, Quarantine, Registry, Role

__all__ = ["QuarantineDesk"]

REPLACE_AGAIN_SECONDS: Final = 5.0
"""How long a supervisor may take to replace a worker before it is told again."""

_log = get_logger("control")


class QuarantineDesk:
    """Puts members into quarantine; they leave it only by leaving."""

    def __init__(self, registry: Registry, orders: OrderBook) -> None:
        self._registry = registry
        self._orders = orders

    def begin(self, ids: Iterable[str], reason: str, now: float) -> list[tuple[bytes, bytes]]:
        """Have workers leave their state behind at once, and be replaced.

        :param ids: of members, known or not.
        :param now: seconds of the broker's clock.
        :returns: orders: routing ids, each with a frame.
        """
        outgoing: list[tuple[bytes, bytes]] = []
        for id_ in dict.fromkeys(ids):
            worker = self._registry.get(id_)
            _log.error("randomness repeated", worker=id_, reason=reason, known=worker is not None)
            if worker is None or worker.registration.role is not Role.WORKER:
                continue
            outgoing.append((worker.routing, encode_order(self._orders.number(), {"do": "reseed"})))
            if worker.quarantine is None:
                worker.quarantine = Quarantine(reason, now)
                outgoing += self._replace(worker)
        return outgoing

    def tick(self, now: float) -> list[tuple[bytes, bytes]]:
        """Tell supervisors again that have not replaced a worker."""
        outgoing: list[tuple[bytes, bytes]] = []
        for worker in self._registry.workers():
            held = worker.quarantine
            if held is not None and now - held.asked_at >= REPLACE_AGAIN_SECONDS:
                held.asked_at = now
                outgoing += self._replace(worker)
        return outgoing

    def _replace(self, worker: Member) -> list[tuple[bytes, bytes]]:
        """What the supervisor answers is seen by the worker's leaving."""
        if worker.shown is not MemberState.QUARANTINED:
            return []
        order = {"do": "drain", "worker": worker.id}
        return [
            (supervisor.routing, encode_order(self._orders.number(), order))
            for supervisor in self._registry.supervisors(live=True)
            if supervisor.id == worker.registration.group
        ]
