"""The supervisor's line to the coordinator's *control* endpoint: its I/O, not its decisions.

What is said, and when, is :class:`~shard.membership.Membership`'s to decide.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Final

import zmq

from coordinator.client import CurveCredentials, dealer
from coordinator.protocol import encode_ack, encode_request
from shard import __version__
from shard.membership import Identity, Membership, Ordered

__all__ = ["ControlLink", "supervisor_identity", "wait_until"]

GOODBYE_WITHIN: Final = 0.2
"""Seconds the last message is given to leave."""
_MEMBER_GONE: Final = 2**62
"""Requests with this number tell of workers that are gone; nobody waits for the replies."""


def supervisor_identity(group: str, host: str) -> Identity:
    """What this process, a supervisor, registers with.

    :param group: its id, with which its workers' ids begin.
    """
    return Identity(
        worker=group,
        pid=os.getpid(),
        host=host,
        group=group,
        slot=None,
        version=__version__,
        role="supervisor",
    )


class ControlLink:
    """For the supervisor's thread only."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        identity: Identity,
        endpoint: str,
        curve: CurveCredentials | None,
    ) -> None:
        self._context = context
        self._identity = identity
        self._endpoint = endpoint
        self._curve = curve
        self._membership = Membership(identity)
        self._socket = dealer(context, endpoint, curve)

    @property
    def due(self) -> float:
        """When :meth:`exchange` has something to say at the latest."""
        return self._membership.due

    @property
    def refused(self) -> str | None:
        """Why the coordinator does not want us, if so."""
        return self._membership.refused

    def fileno(self) -> int:
        """For a selector. Edge-triggered: call :meth:`exchange` after every wait, and until it
        returns nothing.
        """
        return int(self._socket.getsockopt(zmq.FD))

    def reconnect(self) -> None:
        """The coordinator is a new one: leave behind what waited for the old."""
        state = self._membership.state
        self._socket.close(0)
        self._socket = dealer(self._context, self._endpoint, self._curve)
        self._membership = Membership(self._identity)
        self._membership.state = state

    def change_state(self, state: str, now: float) -> None:
        """``starting``, ``ready`` or ``draining``, told at once if it is another."""
        if state != self._membership.state:
            self._membership.change_state(state, now)

    def exchange(self, stats: Mapping[str, Any], now: float) -> list[Ordered]:
        """Send what is due, take what has come; the orders in it."""
        self._membership.overdue(now)
        orders: list[Ordered] = []
        for frame in self._membership.frames(stats, now):
            self._send(frame)
        while True:
            try:
                received = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return orders
            events = self._membership.received(received, now)
            orders += [event for event in events if isinstance(event, Ordered)]

    def acknowledge(self, order: int, ok: bool, detail: str) -> None:
        """Answer an order."""
        self._send(encode_ack(order, {"ok": ok, "detail": detail}))

    def worker_gone(self, worker: str) -> None:
        """A worker ended without a goodbye of its own."""
        self._send(encode_request("goodbye", _MEMBER_GONE, {"id": worker}))

    def close(self, *, goodbye: bool) -> None:
        """Close, and say goodbye first if there is somebody to hear it."""
        if goodbye:
            self._send(self._membership.goodbye())
        self._socket.close(int(GOODBYE_WITHIN * 1000) if goodbye else 0)

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            return  # the queue is full as nobody answers; what matters is said again


def wait_until(times: list[float | None], now: float) -> float | None:
    """Seconds until the earliest of `times`, at least 0; None without one."""
    earliest = min((time for time in times if time is not None), default=math.inf)
    return None if earliest == math.inf else max(0.0, earliest - now)
