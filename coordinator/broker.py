"""The broker: the one thread that owns all shared state of the deployment.

The loop is thin: wait, take what is ready up to a bound, hand it to a pure object, send what that
returned. It never waits for anything else, so that a lookup is answered in microseconds.

Threads: everything below the banner runs on the broker's thread. The public methods may be called
from any thread; what they ask for is queued and done by the broker.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import zmq

from coordinator.control import ControlDesk, Outgoing
from coordinator.endpoints import Endpoint
from coordinator.errors import MessageError, ShardError
from coordinator.log import get_logger
from coordinator.lookups import SessionDesk
from coordinator.protocol import (
    Answer,
    decode_sessions,
    encode_answers,
    encode_error,
    encode_mark,
    encode_recall,
)
from coordinator.traffic import Traffic

__all__ = ["Broker", "BrokerStoppedError"]

SESSIONS_ROUND: Final = 64
"""Messages taken from the *sessions* endpoint before answers go out: at ≈ 50 µs each, less than
a lookup's deadline."""
CONTROL_ROUND: Final = 64
SWEEP_SECONDS: Final = 0.1
EXPIRED_PER_SWEEP: Final = 1000
ANSWER_BYTES: Final = 1024 * 1024
"""Values in one reply; far below the message limit, as one value may come on top."""

_RECALL: Final = encode_recall()
_T = TypeVar("_T")
_log = get_logger("broker")


class BrokerStoppedError(ShardError):
    """The broker has stopped: nothing more can be asked of it."""


class Broker:
    """Runs the two endpoints."""

    def __init__(
        self,
        sessions: Endpoint,
        control: Endpoint,
        session_desk: SessionDesk,
        control_desk: ControlDesk,
        traffic: Traffic,
        on_end: Callable[[], None],
    ) -> None:
        """
        :param traffic: counts what comes and goes; of the broker's thread.
        :param on_end: called on the broker's thread as its last act, whatever ended it.
        """
        self._sessions = sessions
        self._control = control
        self._session_desk = session_desk
        self._control_desk = control_desk
        self._on_end = on_end
        self._calls: deque[Callable[[], None]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._ended = threading.Event()
        self._traffic = traffic
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def start(self) -> None:
        """Start the thread; the endpoints' sockets are its own from now on."""
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End the loop, and wait for it. Not from the broker's thread."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def alive(self) -> bool:
        """Whether the loop runs."""
        return self._thread.is_alive() and not self._ended.is_set()

    def call(self, work: Callable[[], _T]) -> Future[_T]:
        """Have `work` done by the broker's thread; any thread.

        :returns: its result; :class:`BrokerStoppedError` if the broker ends before.
        """
        future: Future[_T] = Future()

        def carry_out() -> None:
            if not future.set_running_or_notify_cancel():
                return
            if self._ended.is_set():
                future.set_exception(BrokerStoppedError("the broker has stopped"))
                return
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is the caller's, who gets it
                future.set_exception(error)

        self._calls.append(carry_out)
        self._wake()
        if self._ended.is_set():
            self._carry_out_calls()
        return future

    def status(self) -> Future[dict[str, Any]]:
        """The status object, as of the moment when the broker gets to it; any thread."""
        return self.call(lambda: self._control_desk.status(time.monotonic(), time.time()))

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    # ---- broker thread ----

    def _run(self) -> None:
        try:
            self._loop()
        except zmq.ContextTerminated:
            pass
        except BaseException as error:  # noqa: BLE001 - it ends the process, and not mutely
            _log.exception("broker failed", error)
        finally:
            self._ended.set()
            self._carry_out_calls()
            self._on_end()

    def _loop(self) -> None:
        sessions, control = self._sessions.fileno(), self._control.fileno()
        # Whether a socket has to be read whatever its descriptor says: see `Endpoint.fileno`.
        sessions_due = control_due = True
        next_sweep = time.monotonic()
        with select.epoll() as epoll:
            for fd in (sessions, control, self._wakeup):
                epoll.register(fd, select.EPOLLIN)
            while not self._stopping:
                deadline = self._session_desk.next_deadline()
                until = next_sweep if deadline is None else min(deadline, next_sweep)
                purging = self._control_desk.purges.due
                if purging is not None:
                    until = min(until, purging)
                due = sessions_due or control_due
                ready = [fd for fd, _ in epoll.poll(0 if due else self._seconds_to(until))]
                if self._wakeup in ready:
                    os.eventfd_read(self._wakeup)
                    self._carry_out_calls()
                if sessions_due or sessions in ready:
                    sessions_due = self._contain(self._take_sessions)
                now = time.monotonic()
                if deadline is not None and deadline <= now:
                    sessions_due |= self._contain(self._end_waits)
                if control_due or control in ready:
                    control_due = self._contain(self._take_control)
                purging = self._control_desk.purges.due
                if purging is not None and now >= purging:
                    sessions_due |= self._contain(self._advance_purges)
                    control_due = True
                if now >= next_sweep:
                    next_sweep = now + SWEEP_SECONDS
                    control_due |= self._contain(self._sweep)

    @staticmethod
    def _seconds_to(moment: float) -> float:
        return max(0.0, moment - time.monotonic())

    def _contain(self, step: Callable[[], bool]) -> bool:
        """Do one step; whether its socket is to be read again before the loop may wait."""
        try:
            return step()
        except zmq.ContextTerminated:
            raise
        except Exception as error:  # noqa: BLE001 - one message's defect is not everybody's loss
            self._traffic.defects += 1
            _log.exception("defect contained", error)
            return True

    def _carry_out_calls(self) -> None:
        while self._calls:
            try:
                work = self._calls.popleft()
            except IndexError:
                return
            work()

    def _take_sessions(self) -> bool:
        desk = self._session_desk
        now = time.monotonic()
        again = True
        for _ in range(SESSIONS_ROUND):
            received = self._sessions.receive()
            if received is None:
                again = False
                break
            routing, frame, peer = received
            self._traffic.sessions += 1
            try:
                if isinstance(peer, MessageError):
                    raise peer
                peer.require("sessions")
                request = decode_sessions(frame)
            except MessageError as error:
                self._traffic.errors[error.code] += 1
                self._sessions.send(routing, encode_error(None, error.code, error.detail))
                continue
            self._traffic.puts += len(request.puts)
            self._traffic.lookups += len(request.lookups)
            desk.handle(routing, request, now)
        return self._send_answers() or again

    def _end_waits(self) -> bool:
        self._session_desk.tick(time.monotonic())
        return self._send_answers()

    def _send_answers(self) -> bool:
        """Send what is owed; whether that was anything."""
        untold = self._session_desk.take_untold()
        if untold:
            mark = encode_mark(self._session_desk.cache.history.mark)
            for routing in untold:
                self._sessions.send(routing, mark)
        answers_by_reader = self._session_desk.take_answers()
        for routing, answers in answers_by_reader.items():
            for batch in _batches(answers):
                self._sessions.send(routing, encode_answers(batch))
        recalls = self._session_desk.take_recalls()
        for routing in recalls:
            self._sessions.send(routing, _RECALL)
        return bool(answers_by_reader or untold or recalls)

    def _take_control(self) -> bool:
        for _ in range(CONTROL_ROUND):
            received = self._control.receive()
            if received is None:
                return False
            routing, frame, peer = received
            self._traffic.control += 1
            if isinstance(peer, MessageError):
                self._send_control([self._control_desk.refuse(routing, None, peer)])
                continue
            now, wall = time.monotonic(), time.time()
            self._send_control(self._control_desk.handle(routing, peer, frame, now, wall))
        return True

    def _send_control(self, outgoing: Sequence[Outgoing]) -> bool:
        for routing, frame in outgoing:
            self._control.send(routing, frame)
        return bool(outgoing)

    def _advance_purges(self) -> bool:
        now, wall = time.monotonic(), time.time()
        self._send_control(self._control_desk.advance_purges(now, wall))
        return self._send_answers()

    def _sweep(self) -> bool:
        now = time.monotonic()
        self._session_desk.cache.sweep(now, EXPIRED_PER_SWEEP)
        return self._send_control(self._control_desk.tick(now))


def _batches(answers: list[Answer]) -> Iterator[Sequence[Answer]]:
    """Split what does not fit into one message."""
    start = size = 0
    for index, answer in enumerate(answers):
        if answer.value is not None:
            size += len(answer.value)
            if size > ANSWER_BYTES:
                yield answers[start : index + 1]
                start, size = index + 1, 0
    if start < len(answers):
        yield answers[start:] if start else answers
