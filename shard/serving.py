"""What a reader does with its connections: it carries out what the engine's steps return.

Reader thread only, but for the counters, which any thread may read. Time is `now`, set by the
reader's loop each round.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from coordinator.log import get_logger
from shard._engine import (
    NOTHING,
    Closed,
    Established,
    PeerClosed,
    Progress,
    SessionRefused,
    SessionsIssued,
    SessionWanted,
    TicketOffered,
)
from shard._engine import Connection as EngineConnection
from shard.apps import Handler
from shard.connection import Connection
from shard.errors import (
    AlertSentError,
    ConnectionAbortedHereError,
    ConnectionClosedError,
    HandlerRaisedError,
    HandshakeTimeoutError,
    IdleTimeoutError,
    closed_error,
)
from shard.mailbox import Mailbox
from shard.relaying import Relays
from shard.resumption import Found, Resumption
from shard.worker_settings import WorkerSettings
from shard.writer import Writer

__all__ = ["HANGUP", "LINGER", "Serving"]

LINGER: Final = 5.0
"""Seconds for a client to close after our close_notify, before its socket is closed anyway."""
HANGUP: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_EDGE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET

_log = get_logger("reader")


class Serving:
    """The connections of one reader.

    :ivar connections: by descriptor.
    :ivar again: those that have more to receive than the engine's fairness allows in one turn.
    :ivar relays: those of them whose bytes the engine moves to a backend and back.
    :ivar draining: new handlers are told to drain at once.
    :ivar full: complete handshakes without a session.
    :ivar resumed: complete handshakes with one.
    :ivar failed_handshakes: connections that ended before their handshake was complete.
    :ivar ended: connections that ended otherwise than in order, by reason.
    :ivar handler_errors: callbacks of the application that raised.
    """

    connection_type: ClassVar[type[Connection]] = Connection

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        mailbox: Mailbox,
        epoll: select.epoll,
        handler: Callable[[Connection], Handler],
        drain: Callable[[Handler], None],
        writers: Sequence[Writer],
        ended: Callable[[], None],
    ) -> None:
        """
        :param handler: makes a connection's handler, once its handshake is complete.
        :param drain: tells a handler that the worker is leaving.
        :param ended: called when a connection is over.
        """
        self.worker = settings.worker
        self.resumes_by = "ticket" if settings.resumption == "tickets" else "cache"
        self.mailbox = mailbox
        self.now = 0.0
        self.connections: dict[int, Connection] = {}
        self.again: list[Connection] = []
        self.draining = False
        self.full = 0
        self.resumed = 0
        self.failed_handshakes = 0
        self.ended: dict[str, int] = {}
        self.handler_errors = 0
        self.resumption: Resumption[Connection]
        self._epoll = epoll
        self._handler = handler
        self._drain = drain
        self._writers = writers
        self._told_ended = ended
        self._handshake_timeout = settings.handshake_timeout
        self._idle_timeout = settings.idle_timeout
        self.relays = Relays(epoll, self.step, self.failed, settings.proxy.connect_timeout)

    def admit(self, accepted: Sequence[tuple[EngineConnection, Progress]]) -> None:
        """Take over connections that were just accepted, and what their first step brought."""
        now = self.now
        writers = self._writers
        made = self.connection_type
        for engine, progress in accepted:
            fd = engine.fileno()
            connection = self.connections[fd] = made(
                engine, self, writers[fd % len(writers)], now, now + self._handshake_timeout
            )
            # What arrived since that step makes the next poll return at once.
            self._epoll.register(fd, _EDGE)
            self.step(connection, progress)

    # -- Steps ----------------------------------------------------------------------------------

    def step(self, connection: Connection, progress: Progress) -> None:
        """Carry out what a step of the engine returned."""
        if progress is NOTHING:
            return
        effects = progress.effects
        if effects:
            self._before_data(connection, effects)
        data = progress.data
        if data and not connection.closing:
            handler = connection.handler
            if handler is not None:
                try:
                    handler.data_received(data)
                except Exception as error:  # noqa: BLE001 - counted and logged by failed()
                    self.failed(connection, error)
                    return
        backlog = connection.flush_held() if progress.held else progress.backlog
        if backlog:
            connection.backlogged(backlog)
        if progress.more and not connection.edge:
            connection.edge |= select.EPOLLIN
            self.again.append(connection)
        if progress.lingering and not connection.closing:
            # A fatal alert is on its way; nothing but the client's end comes after it.
            connection.closing = True
            connection.error = AlertSentError(detail="the client did not close after it")
            connection.deadline = self.now + LINGER
        if effects:
            self._after_data(connection, effects)

    def advance_again(self, connection: Connection) -> None:
        """A turn without a new event: more was left, reading resumed, or a backlog is gone."""
        if connection.over or not connection.reading:
            return
        edge = connection.edge
        connection.edge = 0
        self.step(connection, connection.engine.advance((edge & HANGUP) != 0))

    def resume(self, connection: Connection, found: Found | None) -> None:
        """Continue a handshake that waited for a session."""
        connection.token = 0
        if not connection.over:
            self.step(connection, connection.engine.resume(found))

    def _go_on_in_full(self, connection: Connection) -> None:
        self.resume(connection, None)

    def _before_data(self, connection: Connection, effects: Sequence[Any]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is SessionsIssued:
                self.resumption.issued(effect.scope, effect.server_name, effect.entries, self.now)
            elif kind is Established:
                self._established(connection, effect)
            elif kind is SessionWanted:
                connection.token = self.resumption.wanted(
                    connection, effect.single_use, effect.scope, effect.ids, self.now
                )
                if not connection.token:
                    self.mailbox.call(self._go_on_in_full, connection)
            elif kind is TicketOffered:
                connection.token = self.resumption.offered(
                    connection,
                    effect.scope,
                    effect.id,
                    effect.issued_ms,
                    effect.expires_ms,
                    self.now,
                )
                if not connection.token:
                    self.mailbox.call(self._go_on_in_full, connection)
            elif kind is SessionRefused:
                self.resumption.not_resumed(effect.scope, effect.reason)

    def _after_data(self, connection: Connection, effects: Sequence[Any]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Closed:
                error = closed_error(effect.reason, effect.alert, effect.detail)
                if connection.error is not None and type(connection.error) is not AlertSentError:
                    error = connection.error
                self.end(connection, error)
            elif kind is PeerClosed:
                self._eof(connection)
            else:
                self.relays.effect(connection, effect)

    # -- The application ------------------------------------------------------------------------

    def _established(self, connection: Connection, facts: Established) -> None:
        connection.established = facts
        connection.active = self.now
        if facts.resumed:
            self.resumed += 1
        else:
            self.full += 1
        if connection.closing:
            return
        try:
            handler = self._handler(connection)
            connection.handler = handler
            handler.connection_made(connection)
        except Exception as error:  # noqa: BLE001 - counted and logged by failed()
            self.failed(connection, error)
            return
        if self.draining:
            self.tell_drain(connection)

    def tell_drain(self, connection: Connection) -> None:
        """The worker is leaving."""
        handler = connection.handler
        if handler is not None and not connection.closing:
            try:
                self._drain(handler)
            except Exception as error:  # noqa: BLE001 - counted and logged by failed()
                self.failed(connection, error)

    def _eof(self, connection: Connection) -> None:
        if connection.closing:
            return
        handler = connection.handler
        try:
            keep = handler is not None and handler.eof_received()
        except Exception as error:  # noqa: BLE001 - counted and logged by failed()
            self.failed(connection, error)
            return
        if not keep:
            self.start_close(connection)

    def failed(self, connection: Connection, error: Exception) -> None:
        """A callback raised: an operator's matter, and the end of this connection alone."""
        self.handler_errors += 1
        _log.exception("application raised, its connection is aborted", error)
        if connection.over:
            return
        reason = HandlerRaisedError(detail=type(error).__name__)
        reason.__cause__ = error
        connection.engine.abort()
        self.end(connection, reason)

    # -- The end --------------------------------------------------------------------------------

    def start_close(self, connection: Connection) -> None:
        """Begin an orderly close."""
        if connection.over:
            return
        # From here on what comes is read and thrown away, so a pause has no more meaning.
        connection.closing = connection.reading = True
        connection.deadline = self.now + LINGER
        self.step(connection, connection.engine.shutdown())
        if connection.edge:
            self.advance_again(connection)

    def start_abort(self, connection: Connection) -> None:
        """End it at once."""
        if not connection.over:
            connection.engine.abort()
            self.end(connection, connection.error or ConnectionAbortedHereError())

    def end(self, connection: Connection, error: ConnectionClosedError | None) -> None:
        """The connection is over: forget it, and tell its handler."""
        if connection.over:
            return
        connection.over = connection.closing = True
        del self.connections[connection.fd]
        self.relays.forget(connection)
        if connection.token:
            self.resumption.forget(connection.token)
        handler = connection.handler
        connection.handler = None
        connection.engine.close()
        connection.forget_backlog()
        self._told_ended()
        if connection.established is None:
            self.failed_handshakes += 1
        if error is not None:
            self.ended[error.reason] = self.ended.get(error.reason, 0) + 1
        if handler is not None:
            try:
                handler.connection_lost(error)
            except Exception as raised:  # noqa: BLE001 - the application's; it is over already
                self.handler_errors += 1
                _log.exception("application raised in connection_lost", raised)

    # -- Deadlines ------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Every deadline but the lookups': one pass over the connections."""
        now = self.now
        self.relays.sweep(now)
        idle_since = now - self._idle_timeout
        due = []
        for connection in self.connections.values():
            if connection.closing or connection.established is None:
                if now >= connection.deadline:
                    due.append(connection)
            elif connection.wrote:
                connection.wrote = False
                connection.active = now
            elif connection.active < idle_since:
                due.append(connection)
        for connection in due:
            self._deadline(connection, now)

    def _deadline(self, connection: Connection, now: float) -> None:
        if connection.closing:
            if connection.engine.backlog():
                # The writer watches whether the client reads; this is for what comes after.
                connection.deadline = now + LINGER
            else:
                self.end(connection, connection.error)
        elif connection.established is None:
            # No ceremony: whoever opens many of these shall not hold descriptors.
            self.end(connection, HandshakeTimeoutError())
        elif not connection.engine.backlog():
            connection.error = IdleTimeoutError()
            connection.close()
