"""Orders to supervisors and workers, and who waits for their acknowledgement. Pure.

An administrator's request becomes one order to one or several members; their acknowledgements,
or what became of them instead, become the answer to the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.protocol import ERROR_EXPIRED, ERROR_REFUSED

__all__ = ["MAX_PENDING", "OrderBook", "Outcome"]

MAX_PENDING: Final = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to an administrator's request.

    :ivar asker: routing id.
    :ivar error: an ``ERROR_*`` code; None if the order was carried out.
    :ivar detail: what was wrong, for the operator.
    :ivar body: the reply's body, if there is no error.
    """

    asker: bytes
    request: int
    error: str | None
    detail: str
    body: dict[str, Any]


@dataclass(slots=True)
class _Pending:
    asker: bytes
    request: int
    deadline: float
    timeout: float
    waiting: set[str]
    acks: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class OrderBook:
    """Orders under way. For the broker's thread only."""

    def __init__(self) -> None:
        self._pending: dict[int, _Pending] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._pending)

    def issue(
        self, asker: bytes, request: int, members: Iterable[str], timeout: float, now: float
    ) -> int:
        """Note an order that the caller sends to `members`.

        :param members: ids; at least one.
        :param timeout: seconds until it expires.
        :returns: the order's number.
        """
        self._number += 1
        self._pending[self._number] = _Pending(asker, request, now + timeout, timeout, set(members))
        return self._number

    def number(self) -> int:
        """For an order of the coordinator's own, whose outcome nobody waits for."""
        self._number += 1
        return self._number

    def acknowledge(self, order: int, member: str, body: Mapping[str, Any]) -> Outcome | None:
        """A member has answered; None while others have not, or if nobody waits for it."""
        pending = self._pending.get(order)
        if pending is None or member not in pending.waiting:
            return None
        pending.waiting.discard(member)
        pending.acks[member] = body
        return None if pending.waiting else self._conclude(order)

    def gone(self, member: str, detail: str = "it left before it had answered") -> list[Outcome]:
        """A member left or was lost: it will not answer any order."""
        outcomes = []
        for order, pending in list(self._pending.items()):
            if member in pending.waiting:
                outcome = self.acknowledge(order, member, {"ok": False, "detail": detail})
                if outcome is not None:
                    outcomes.append(outcome)
        return outcomes

    def expire(self, now: float) -> list[Outcome]:
        """Orders that have waited long enough."""
        outcomes = []
        for order, pending in list(self._pending.items()):
            if pending.deadline <= now:
                del self._pending[order]
                missing = ", ".join(sorted(pending.waiting))
                detail = f"no acknowledgement within {pending.timeout:g} s from {missing}"
                detail = "; ".join(filter(None, (detail, _done(pending))))
                outcomes.append(Outcome(pending.asker, pending.request, ERROR_EXPIRED, detail, {}))
        return outcomes

    def next_deadline(self) -> float | None:
        """When :meth:`expire` has something to return."""
        return min((pending.deadline for pending in self._pending.values()), default=None)

    def _conclude(self, order: int) -> Outcome:
        pending = self._pending.pop(order)
        failed = {
            member: str(body.get("detail") or "refused")
            for member, body in pending.acks.items()
            if body.get("ok") is not True
        }
        if failed:
            several = len(pending.acks) > 1
            texts = [f"{member}: {text}" if several else text for member, text in failed.items()]
            detail = "; ".join(filter(None, (*texts, _done(pending))))
            return Outcome(pending.asker, pending.request, ERROR_REFUSED, detail, {})
        if len(pending.acks) == 1:
            (only,) = pending.acks.values()
            return Outcome(pending.asker, pending.request, None, "", dict(only))
        acks = {member: dict(body) for member, body in pending.acks.items()}
        return Outcome(pending.asker, pending.request, None, "", {"ok": True, "acks": acks})


def _done(pending: _Pending) -> str:
    """How many of several did it."""
    total = len(pending.waiting) + len(pending.acks)
    done = sum(body.get("ok") is True for body in pending.acks.values())
    return f"{done} of {total} did it" if total > 1 else ""
