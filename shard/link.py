"""The link thread: a worker's line to the *control* endpoint.

One loop: wait for a message, a call from another thread or the next heartbeat; what to say is
decided in :mod:`shard.membership`. It also drives the DRBG's reseeds. Nothing a handshake needs
waits for it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import zmq

from coordinator.client import CurveCredentials, dealer
from coordinator.log import get_logger
from shard.drbg import Drbg
from shard.membership import (
    Answering,
    Event,
    Identity,
    Membership,
    Ordered,
    Registered,
    SeedGiven,
    SeedRefused,
)
from shard.ticket_keys import TicketKeys

__all__ = ["Link"]

GOODBYE_WITHIN: Final = 0.2
"""Seconds the last message is given to leave."""

_log = get_logger("link")


class Link:
    """Any thread: :meth:`first_seed`, :meth:`first_keys`, :meth:`instantiated`,
    :meth:`change_state`, :meth:`stop`.
    """

    def __init__(
        self,
        identity: Identity,
        endpoint: str,
        curve: CurveCredentials | None,
        *,
        drbg: Drbg,
        stats: Callable[[], Mapping[str, Any]],
        answers: Callable[[], None],
        zmq_context: zmq.Context[zmq.Socket[bytes]],
        ticket_keys: TicketKeys | None = None,
    ) -> None:
        """
        :param ticket_keys: None if this worker seals no tickets.
        :param stats: the worker's own part of a heartbeat's statistics; called on this thread.
        :param answers: called on this thread whenever the coordinator has answered.
        """
        self._endpoint = endpoint
        self._curve = curve
        self._drbg = drbg
        self._stats = stats
        self._answers = answers
        self._zmq_context = zmq_context
        self._ticket_keys = ticket_keys
        self._first_keys = threading.Event()
        about = None if ticket_keys is None else ticket_keys.registration
        self._membership = Membership(identity, about)
        self._calls: deque[Callable[[float], None]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._first_seed: bytes | None = None
        self._first_answer = threading.Event()
        self._instantiated = False
        self._reseed_reason: str | None = "instantiate"
        self._orders: list[int] = []
        self._told_refused: str | None = None
        self._acks: list[bytes] = []
        self.thread = threading.Thread(target=self.run, name="link", daemon=True)

    # -- Any thread -----------------------------------------------------------------------------

    def first_seed(self, timeout: float) -> bytes | None:
        """Wait for the coordinator's seed for the DRBG's start, after :attr:`thread` was started.

        :param timeout: seconds.
        :returns: None if there is none in time; a later one is used for a reseed.
        """
        self._first_answer.wait(timeout)
        seed, self._first_seed = self._first_seed, None
        return seed

    def first_keys(self, timeout: float) -> None:
        """Wait for the coordinator's ticket keys, after :attr:`thread` was started.

        :param timeout: seconds. If there are none in time no tickets are issued until they come.
        """
        if self._ticket_keys is not None:
            self._first_keys.wait(max(0.0, timeout))

    def instantiated(self) -> None:
        """The DRBG is seeded: from here on its reseeds are this thread's."""
        self._call(self._start_reseeding)

    def change_state(self, state: str) -> None:
        """Tell the coordinator that this worker is ``ready`` or ``draining``."""
        self._call(lambda now: self._membership.change_state(state, now))

    def stop(self) -> None:
        """Say goodbye and end :meth:`run`."""
        self._stopping = True
        os.eventfd_write(self._wakeup, 1)

    def _call(self, function: Callable[[float], None]) -> None:
        self._calls.append(function)
        os.eventfd_write(self._wakeup, 1)

    # -- Link thread ----------------------------------------------------------------------------

    def run(self) -> None:
        """The thread."""
        socket = dealer(self._zmq_context, self._endpoint, self._curve)
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        membership = self._membership
        membership.want_seed("instantiate", time.monotonic())
        while not self._stopping:
            now = time.monotonic()
            self._take_calls(now)
            self._handle(membership.overdue(now), now)
            self._reseed_if_due(now)
            if now >= membership.due or self._acks:
                frames = membership.frames(self._all_stats(), now) + self._acks
                self._acks = []
                for frame in frames:
                    self._send(socket, frame)
            # After a send the descriptor may be silent about what has arrived.
            if self._receive(socket, now):
                continue
            poll.poll(max(0.0, membership.due - time.monotonic()) * 1000)
        self._leave(socket)

    def _all_stats(self) -> Mapping[str, Any]:
        keys = self._ticket_keys
        return self._stats() if keys is None else {**self._stats(), **keys.stats()}

    def _leave(self, socket: zmq.Socket[bytes]) -> None:
        self._send(socket, self._membership.goodbye())
        # As linger: the context's end waits for it, not this thread.
        socket.close(int(GOODBYE_WITHIN * 1000))

    @staticmethod
    def _send(socket: zmq.Socket[bytes], frame: bytes) -> None:
        try:
            socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            # The queue is full because nobody answers; the request is made again in time.
            return

    def _receive(self, socket: zmq.Socket[bytes], now: float) -> bool:
        """Handle what has arrived; whether anything had."""
        received = False
        while True:
            try:
                frame = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return received
            received = True
            self._handle(self._membership.received(frame, now), now)

    def _take_calls(self, now: float) -> None:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return
        while self._calls:
            self._calls.popleft()(now)

    def _handle(self, events: list[Event], now: float) -> None:
        for event in events:
            if isinstance(event, Answering):
                self._coordinator_answered(event)
            elif isinstance(event, SeedGiven):
                self._seed(event.seed, now)
            elif isinstance(event, SeedRefused):
                _log.debug("no seed from the coordinator", reason=event.reason)
                self._seed(None, now)
            elif isinstance(event, Registered):
                self._registered(event)
            else:
                self._order(event, now)

    def _coordinator_answered(self, event: Answering) -> None:
        if event.returned:
            _log.info("coordinator answers")
        refused = self._membership.refused
        if refused != self._told_refused:
            self._told_refused = refused
            if refused is not None:
                _log.error("coordinator refuses this worker", reason=refused)
        self._answers()

    def _registered(self, event: Registered) -> None:
        # The heartbeat that follows at once acknowledges the ring.
        if self._ticket_keys is not None:
            self._ticket_keys.registered(event.boot, event.body.get("ticket_keys"))
            self._first_keys.set()

    def _order(self, order: Ordered, now: float) -> None:
        if order.do == "ticket_keys" and self._ticket_keys is not None:
            if self._ticket_keys.told(order.body.get("ticket_keys")):
                # A heartbeat is the acknowledgement: now, as others wait for it.
                self._membership.change_state(self._membership.state, now)
        elif order.do == "reseed":
            self._orders.append(order.order)
            self._reseed_reason = "order"
        else:
            problem = f"a worker knows no order {order.do!r}"
            self._acks.append(self._membership.acknowledge(order.order, problem))

    def _start_reseeding(self, now: float) -> None:
        self._instantiated = True
        if self._reseed_reason == "instantiate":
            self._reseed_reason = None
        seed, self._first_seed = self._first_seed, None
        if seed is not None and self._drbg.wants_coordinator:
            # It came between the end of the wait and now.
            self._drbg.reseed(seed, "coordinator", now)

    def _reseed_if_due(self, now: float) -> None:
        if not self._instantiated or self._membership.wants_seed:
            return
        reason = self._reseed_reason or self._drbg.due(now)
        if reason is None and self._drbg.wants_coordinator:
            reason = "coordinator"
        if reason is not None:
            self._reseed_reason = reason
            self._membership.want_seed(reason, now)

    def _seed(self, seed: bytes | None, now: float) -> None:
        reason, self._reseed_reason = self._reseed_reason, None
        if not self._instantiated:
            self._first_seed = seed
            self._first_answer.set()
            return
        if seed is not None:
            self._drbg.reseed(seed, reason or "coordinator", now)
        elif reason is not None and reason != "coordinator":
            # It was due, or ordered: local randomness is far better than none.
            self._drbg.reseed(None, reason, now)
        orders, self._orders = self._orders, []
        for order in orders:
            self._acks.append(self._membership.acknowledge(order))
