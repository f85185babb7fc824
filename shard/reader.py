"""A reader thread: accept, handshake, read, and the application's callbacks.

It takes turns: see what is ready, give each ready connection one step of the engine, carry out
what the step returned (:mod:`shard.serving`), send what is due to the coordinator
(:mod:`shard.channel`). Accepting is decided in :mod:`shard.accepting`. Other threads reach the
thread through its mailbox alone. Between turns it sleeps in its own epoll set; for an application
that needs an asyncio event loop, that loop runs here and takes the turns
(:mod:`shard.event_loop`).

The thread owns its epoll set, its DEALER (polled in the same set) and its connections' handlers.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import zmq

from coordinator.errors import StartError
from coordinator.log import get_logger
from shard._engine import Listener, TlsContext
from shard.accepting import Acceptor, Capacity
from shard.apps import Factory, Handler
from shard.apps.looped import LoopApplication
from shard.breaker import Breaker
from shard.channel import SessionsChannel
from shard.connection import Connection
from shard.mailbox import Mailbox
from shard.relaying import relay_of
from shard.serving import HANGUP, Serving
from shard.worker_settings import WorkerSettings
from shard.writer import Writer

if TYPE_CHECKING:
    from shard.event_loop import EventLoop

__all__ = ["SHUTDOWN_WITHIN", "STOP_WITHIN", "Reader"]

STOP_WITHIN: Final = 1.0
"""Seconds for clients to close when the worker stops."""
SHUTDOWN_WITHIN: Final = 0.6
"""Seconds beyond that for an application's own end (ASGI's lifespan)."""

_MAX_EVENTS: Final = 128

_log = get_logger("reader")


class Reader:
    """One reader. :meth:`drain`, :meth:`stop`, :meth:`coordinator_answers` and reading the
    counters: any thread.

    :ivar serving: its connections, and their counters.
    :ivar acceptor: its share of the listening sockets.
    :ivar channel: its line to the coordinator.
    :ivar started: it serves, or has ended.
    :ivar ended: its thread has nothing more to do.
    :ivar end_by: when the application's own end must be over; infinity while the worker stays.
    :ivar crashed: it ended by a defect of its own.
    :ivar failure: why the application could not start.
    """

    def __init__(
        self,
        index: int,
        settings: WorkerSettings,
        *,
        listeners: Sequence[Listener],
        context: TlsContext,
        application: Factory | LoopApplication,
        capacity: Capacity,
        writers: Sequence[Writer],
        zmq_context: zmq.Context[zmq.Socket[bytes]],
        changed: Callable[[], None],
    ) -> None:
        """
        :param listeners: may be shared with other readers.
        :param changed: called on the reader's thread when it starts to serve and when it ends.
        """
        self._zmq_context = zmq_context
        self._changed = changed
        self._drain_timeout = settings.drain_timeout
        self._sweep_every = min(
            1.0,
            settings.handshake_timeout / 4,
            settings.idle_timeout / 4,
            settings.proxy.connect_timeout / 4,
        )
        self._sweep_at = 0.0
        self._leaving = False
        self._drain_at = math.inf
        self._stop_at = math.inf
        self.end_by = math.inf
        self.mailbox = Mailbox()
        self._epoll = select.epoll()
        self._epoll.register(self.mailbox.fileno(), select.EPOLLIN)
        self.acceptor = Acceptor(self._epoll, listeners, context, capacity, self._room)
        self._event_loop: EventLoop | None = None
        make_serving: type[Serving] = Serving
        handler: Callable[[Any], Handler]
        if isinstance(application, LoopApplication):
            # Imported by those alone who need it: asyncio takes its time.
            from shard.event_loop import EventLoop, LoopServing

            make_serving, handler, drain = LoopServing, application.handler, application.drain
            self._event_loop = EventLoop(self, application)
        else:
            factory = application
            handler, drain = lambda _connection: factory(), _tell_drain
        self.serving = make_serving(
            settings,
            mailbox=self.mailbox,
            epoll=self._epoll,
            handler=handler,
            drain=drain,
            writers=writers,
            ended=self.acceptor.ended,
        )
        self.channel = SessionsChannel(settings, self.serving.resume)
        self.serving.resumption = self.channel.resumption
        self.started = False
        self.ended = False
        self.crashed = False
        self.failure: StartError | None = None
        self.thread = threading.Thread(target=self.run, name=f"reader-{index}", daemon=True)

    # -- Any thread -----------------------------------------------------------------------------

    def drain(self) -> None:
        """Accept no more, and end once the connections are gone or ``drain_timeout`` has passed."""
        self.mailbox.call(Reader._start_drain, self)

    def stop(self) -> None:
        """Close every connection in order, and end within :data:`STOP_WITHIN`."""
        self.mailbox.call(Reader._start_stop, self)

    def coordinator_answers(self) -> None:
        """The control endpoint answers, so the sessions endpoint may too."""
        if self.channel.resumption.breaker is not Breaker.CLOSED:
            self.mailbox.call(Reader._probe, self)

    def _room(self) -> None:
        """There is room below the connection limit again."""
        self.mailbox.call(Acceptor.resume, self.acceptor)

    # -- Reader thread --------------------------------------------------------------------------

    def run(self) -> None:
        """The thread."""
        self.mailbox.adopt()
        try:
            self.channel.open(self._zmq_context, self._epoll)
            if self._event_loop is None:
                self.start()
                self._loop()
            else:
                self._event_loop.run()
        except StartError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 - a defect of ours: the supervisor replaces us
            self.crashed = True
            _log.exception("reader stopped by a defect", error)
        finally:
            self.acceptor.pause()
            self._end_all()
            self.channel.close(time.monotonic())
            self._epoll.close()
            self.mailbox.close()
            self.started = self.ended = True
            self._changed()

    def fileno(self) -> int:
        """Readable when a turn is due because something is ready."""
        return self._epoll.fileno()

    def start(self) -> None:
        """Accept connections from now on."""
        self.acceptor.resume()
        self.started = True
        self._changed()

    def _loop(self) -> None:
        turn = self.turns()
        while turn(self.timeout()):
            pass

    def turns(self) -> Callable[[float], bool]:
        """A function that takes a turn: waits for at most so many seconds, deals with what is
        ready and due, and returns False when the worker has left and nothing is left to do.
        """
        # Everything that is touched for each event is a local.
        poll = self._epoll.poll
        serving = self.serving
        connections = serving.connections
        find = connections.get
        step = serving.step
        calls = self.mailbox.calls
        run_calls = self.mailbox.run
        channel = self.channel
        resumption = channel.resumption
        monotonic = time.monotonic
        hangup = HANGUP

        def turn(timeout: float) -> bool:
            connection: Connection | None
            events = poll(timeout, _MAX_EVENTS)
            serving.now = now = monotonic()
            if serving.again:
                self._take_again()
            for fd, mask in events:
                connection = find(fd)
                if connection is None:
                    self._other(fd, mask)
                elif connection.reading:
                    connection.active = now
                    step(connection, connection.engine.advance((mask & hangup) != 0))
                else:
                    # The edge is used up: whoever resumes reading has to know of it.
                    connection.edge |= mask
            if calls:
                run_calls()
            if resumption.due <= now:
                channel.exchange(now)
            if now >= self._sweep_at:
                self._sweep(now)
            return not self._leaving or bool(connections) or bool(calls)

        return turn

    def timeout(self) -> float:
        """Seconds until something is due."""
        if self.serving.again or self.mailbox.calls:
            return 0.0
        due = min(self.channel.resumption.due, self._sweep_at)
        return max(0.0, due - self.serving.now)

    def _take_again(self) -> None:
        serving = self.serving
        again, serving.again = serving.again, []
        for connection in again:
            serving.advance_again(connection)

    def _other(self, fd: int, mask: int) -> None:
        """An event that is no connection's (or one of a connection closed in this round)."""
        serving = self.serving
        relayed = serving.relays.by_backend.get(fd)
        if relayed is not None:
            relayed.active = serving.now
            serving.step(relayed, relay_of(relayed).backend_ready(mask))
        elif fd == self.channel.fd:
            self.channel.receive(serving.now)
        elif fd == self.mailbox.fileno():
            self.mailbox.woken()
        elif self.acceptor.owns(fd):
            serving.admit(self.acceptor.accept(fd, serving.now))
            self._sweep_at = min(self._sweep_at, self.acceptor.resume_at)

    def _sweep(self, now: float) -> None:
        """What is due by time, but for the lookups: at most once a second, unless accepting pauses
        or the worker leaves.
        """
        if now >= self.acceptor.resume_at:
            self.acceptor.resume()
        if now >= self._drain_at:
            self._drain_at = math.inf
            self._start_stop()
        if now >= self._stop_at:
            self._stop_at = math.inf
            self._end_all()
        self.serving.sweep()
        self._sweep_at = min(
            now + self._sweep_every, self.acceptor.resume_at, self._drain_at, self._stop_at
        )

    def _start_drain(self) -> None:
        if self._leaving:
            return
        self._leave()
        self._drain_at = self.serving.now + self._drain_timeout
        self.end_by = self._drain_at + STOP_WITHIN + SHUTDOWN_WITHIN
        self._sweep_at = min(self._sweep_at, self._drain_at)
        for connection in list(self.serving.connections.values()):
            if connection.handler is not None:
                self.serving.tell_drain(connection)

    def _start_stop(self) -> None:
        self._leave()
        self._stop_at = min(self._stop_at, self.serving.now + STOP_WITHIN)
        self.end_by = min(self.end_by, self._stop_at + SHUTDOWN_WITHIN)
        self._sweep_at = min(self._sweep_at, self._stop_at)
        for connection in list(self.serving.connections.values()):
            if not connection.closing:
                self.serving.start_close(connection)

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = self.serving.draining = True
            self.serving.admit(self.acceptor.stop())

    def _end_all(self) -> None:
        for connection in list(self.serving.connections.values()):
            self.serving.end(connection, connection.error)

    def _probe(self) -> None:
        self.channel.resumption.coordinator_answers(self.serving.now)


def _tell_drain(handler: Handler) -> None:
    """Tell a handler that the worker is leaving, if it wants to know."""
    drain = getattr(handler, "drain", None)
    if drain is not None:
        drain()
