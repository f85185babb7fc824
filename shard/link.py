"""The link thread: a worker's line to the *control* endpoint.

One loop: wait for a message, a call from another thread or the next heartbeat; what to say is
decided in :mod:`shard.membership`. It also watches the DRBG: it reseeds it when
:mod:`shard.reseeding` says so, and tells the main thread when it has failed. Nothing a handshake
needs waits for it.
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
from shard.first_outputs import FirstOutputs, noise
from shard.interruptions import Clocks, Interruptions
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
from shard.reseeding import Reseed, Reseeding
from shard.ticket_keys import TicketKeys

__all__ = ["Link"]

GOODBYE_WITHIN: Final = 0.2
"""Seconds the last message is given to leave."""
WATCH: Final = 0.25
"""Seconds between two looks at the DRBG: so late at most is it noticed that a reseed is due or that
it has failed. With the wait for the coordinator a reseed comes 1.25 s after its time at worst."""

_log = get_logger("link")


class Link:
    """Any thread: :meth:`first_seed`, :meth:`first_keys`, :meth:`instantiated`,
    :meth:`change_state`, :meth:`continued`, :meth:`stop`, and reading the counters.

    :ivar turned_at: when the loop last came round, in monotonic seconds.
    :ivar undeliverable: messages that found the queue to the coordinator full.
    :ivar crashed: the loop ended by a defect of its own.
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
        sick: Callable[[str], None],
        zmq_context: zmq.Context[zmq.Socket[bytes]],
        ticket_keys: TicketKeys | None = None,
    ) -> None:
        """
        :param ticket_keys: None if this worker seals no tickets.
        :param stats: the worker's own part of a heartbeat's statistics; called on this thread.
        :param answers: called on this thread whenever the coordinator has answered.
        :param sick: called on this thread, once, with the reason why this worker cannot go on: its
            DRBG has failed, or this thread has ended by a defect.
        """
        self._endpoint = endpoint
        self._curve = curve
        self._drbg = drbg
        self._stats = stats
        self._answers = answers
        self._sick = sick
        self._zmq_context = zmq_context
        self._ticket_keys = ticket_keys
        self._first_keys = threading.Event()
        about = None if ticket_keys is None else ticket_keys.registration
        self._membership = Membership(identity, noise, about)
        self._first_outputs = FirstOutputs()
        self._calls: deque[Callable[[float], None]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._first_seed: bytes | None = None
        self._first_answer = threading.Event()
        self._instantiated = False
        self._reseeding = Reseeding()
        self._interruptions = Interruptions()
        self._failure: str | None = None
        self._orders: list[int] = []
        self._told_refused: str | None = None
        self._told_local: str | None = None
        self._acks: list[bytes] = []
        self.turned_at = time.monotonic()
        self.undeliverable = 0
        self.crashed = False
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
        # Here, before any reader draws, it is the very first one.
        if mark := self._first_outputs.mark():
            self._call(lambda _: self._membership.note_first_output(mark))
        self._call(self._start_reseeding)

    def change_state(self, state: str) -> None:
        """Tell the coordinator that this worker is ``ready`` or ``draining``."""
        self._call(lambda now: self._membership.change_state(state, now))

    def continued(self) -> None:
        """The process was stopped and goes on."""
        self._call(self._continued)

    @property
    def messages(self) -> dict[str, int]:
        """What became of messages on the *control* endpoint, for the heartbeat."""
        membership = self._membership
        return {
            "undeliverable": self.undeliverable,
            "malformed": membership.malformed,
            "refused": membership.refusals,
        }

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
        try:
            self._loop(socket)
            self._leave(socket)
        except Exception as error:  # noqa: BLE001 - a defect of ours: the supervisor replaces us
            self.crashed = True
            _log.exception("link stopped by a defect", error)
            socket.close(0)
            self._sick("the link thread ended by a defect")

    def _loop(self, socket: zmq.Socket[bytes]) -> None:
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        membership = self._membership
        membership.want_seed("instantiate", time.monotonic())
        while not self._stopping:
            self.turned_at = now = time.monotonic()
            self._take_calls(now)
            self._handle(membership.overdue(now), now)
            self._watch_drbg(now)
            if self._instantiated and (mark := self._first_outputs.mark()):
                membership.note_first_output(mark)
            if now >= membership.due or self._acks:
                frames = membership.frames(self._all_stats(), now) + self._acks
                self._acks = []
                for frame in frames:
                    self._send(socket, frame)
            # After a send the descriptor may be silent about what has arrived.
            if self._receive(socket, now):
                continue
            due = min(membership.due, self._reseeding.due, now + WATCH)
            poll.poll(max(0.0, due - time.monotonic()) * 1000)

    def _all_stats(self) -> Mapping[str, Any]:
        keys = self._ticket_keys
        return self._stats() if keys is None else {**self._stats(), **keys.stats()}

    def _leave(self, socket: zmq.Socket[bytes]) -> None:
        self._send(socket, self._membership.goodbye())
        # As linger: the context's end waits for it, not this thread.
        socket.close(int(GOODBYE_WITHIN * 1000))

    def _send(self, socket: zmq.Socket[bytes], frame: bytes) -> None:
        try:
            socket.send(frame, zmq.NOBLOCK)
        except zmq.Again:
            # The queue is full because nobody answers; the request is made again in time.
            self.undeliverable += 1

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
                _log.debug("no seed from the coordinator", reason=event.reason, detail=event.detail)
                self._no_seed(event.reason, now)
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
            return
        if order.do != "reseed":
            problem: str | None = f"a worker knows no order {order.do!r}"
        else:
            problem = self._failure
        if problem is not None:
            self._acks.append(self._membership.acknowledge(order.order, problem))
            return
        self._orders.append(order.order)
        self._reseeding.want("order", now)

    # -- The DRBG -------------------------------------------------------------------------------

    def _start_reseeding(self, now: float) -> None:
        self._instantiated = True
        seed, self._first_seed = self._first_seed, None
        if seed is not None and self._drbg.wants_coordinator:
            # It came between the end of the wait and now.
            self._reseed(self._reseeding.given(seed), now)

    def _continued(self, now: float) -> None:
        if self._instantiated:
            self._reseed(self._reseeding.interrupted("continued"), now)

    def _watch_drbg(self, now: float) -> None:
        clocks = Clocks(now, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())
        interruption = self._interruptions.look(clocks)
        if not self._instantiated or self._failure is not None:
            return
        if self._drbg.failed:
            self._fail("the DRBG has failed")
            return
        reseeding = self._reseeding
        if interruption is not None:
            self._reseed(reseeding.interrupted(interruption), now)
        reason = self._drbg.due(now)
        if reason is not None:
            reseeding.want(reason, now)
        self._reseed(reseeding.overdue(now), now)
        purpose = reseeding.purpose(local=self._drbg.wants_coordinator)
        if purpose is not None:
            self._membership.want_seed(purpose, now)

    def _seed(self, seed: bytes, now: float) -> None:
        if self._instantiated:
            self._reseed(self._reseeding.given(seed), now)
        else:
            self._first_seed = seed
            self._first_answer.set()

    def _no_seed(self, why: str, now: float) -> None:
        if self._instantiated:
            self._drbg.coordinator_missing(why)
            self._reseed(self._reseeding.refused(why), now)
        else:
            self._first_answer.set()

    def _reseed(self, reseed: Reseed | None, now: float) -> None:
        if reseed is None or self._failure is not None:
            return
        try:
            self._drbg.reseed(reseed.seed, reseed.reason, now, reseed.missing)
        except (OSError, RuntimeError) as error:
            self._fail(f"the DRBG cannot be reseeded: {error}")
            return
        self._tell_local(reseed)
        source = "local" if reseed.seed is None else "coordinator"
        orders, self._orders = self._orders, []
        for order in orders:
            self._acks.append(self._membership.acknowledge(order, seeded_from=source))

    def _tell_local(self, reseed: Reseed) -> None:
        """Once for each time without the coordinator's seeds, and once for its end."""
        missing = None if reseed.reason in ("continued", "suspended") else reseed.missing
        if missing is not None and self._told_local is None:
            self._told_local = missing
            _log.warning("DRBG reseeds on local randomness alone", reason=missing)
        elif reseed.seed is not None and self._told_local is not None:
            self._told_local = None
            _log.info("DRBG reseeds with the coordinator's seeds again")

    def _fail(self, problem: str) -> None:
        self._failure = problem
        _log.error("no handshake succeeds here any more, this worker leaves", reason=problem)
        orders, self._orders = self._orders, []
        for order in orders:
            self._acks.append(self._membership.acknowledge(order, problem))
        self._sick(problem)
