"""A reader's turns on an asyncio event loop, for applications that need one.

The reader's epoll set can be polled itself, so the loop watches it as one descriptor, and takes a
turn (:meth:`shard.reader.Reader.turns`) when something in it is ready, when something is due, or
when the thread has called itself. The loop is uvloop's if that is installed.

Everything here runs on the reader's thread.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Final, cast

from coordinator.log import get_logger
from shard.connection import Connection
from shard.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from shard.apps.looped import LoopApplication
    from shard.reader import Reader

__all__ = ["CORK", "PASS", "EventLoop", "LoopConnection", "LoopServing", "new_event_loop"]

CORK: Final = 64 * 1024
"""Bytes of plaintext that are collected at most, before they are encrypted and sent."""

PASS: Final = 1024 * 1024
"""Bytes of plaintext that a connection sends in one pass of the loop, before its handler is told to
pause until the next: others want their turn, and that a client is gone is only learnt in between.
"""

_SHORTEST_TIMER: Final = 0.001
_LOOK_AGAIN: Final = 0.05

_log = get_logger("reader")


class LoopConnection(Connection):
    """A transport that collects what is written during a pass of the event loop, so that a head
    and a body that are written one after the other leave as one TLS record in one segment.

    As with asyncio's transports, :meth:`write` and what else sends or closes belong to the event
    loop's thread.
    """

    __slots__ = ("_collected", "_corked", "_pending", "_sent")

    _home: LoopServing

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._pending: list[bytes] = []
        self._collected = 0
        self._corked = False
        self._sent = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` at the end of this pass of the loop; :data:`CORK` bytes or more at once."""
        if self.closing or self._write_ended:
            self._refuse_write(data)
            return
        if not self._corked:
            self._corked = True
            self._home.cork(self)
        self._pending.append(data if type(data) is bytes else bytes(data))
        self._collected += len(data)
        if self._collected >= CORK:
            self._sent += self._collected
            self.send_collected()
            if self._sent >= PASS:
                self._rest()

    def write_eof(self) -> None:
        self.send_collected()
        super().write_eof()

    def get_write_buffer_size(self) -> int:
        return self._collected + super().get_write_buffer_size()

    def close(self) -> None:
        self.send_collected()
        super().close()

    def uncork(self) -> None:
        """Send what was collected, and what the handshake left to go with it."""
        self._corked = False
        if self._pending:
            self.send_collected()
        elif not self.over:
            backlog = self.engine.flush()
            if backlog:
                self.backlogged(backlog)
        self._sent = 0
        if self.paused:
            self._check_flow()

    def flush_held(self) -> int:
        if not self._corked:
            self._corked = True
            self._home.cork(self)
        return 0

    def failed(self, error: Exception) -> None:
        """The application raised: it is logged and counted, and the connection aborted."""
        self._home.failed(self, error)

    def _rest(self) -> None:
        """Tell the handler to pause; :meth:`uncork` tells it to go on."""
        handler = self.handler
        if handler is None or self.paused:
            return
        self.paused = True
        try:
            handler.pause_writing()
        except Exception as error:  # noqa: BLE001 - the application's; counted and logged there
            self._home.failed(self, error)

    def send_collected(self) -> None:
        """Send at once what was collected."""
        pending = self._pending
        if not pending:
            return
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._collected = 0
        # The engine takes nothing after a close.
        backlog = self.engine.write(data)
        if backlog:
            self.backlogged(backlog)
        else:
            self.wrote = True


class LoopServing(Serving):
    """The connections of a reader that runs an event loop.

    :ivar uncork_soon: has :meth:`uncork` called at the end of this pass of the loop.
    """

    connection_type = LoopConnection
    uncork_soon: Callable[[], object]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._corked: list[LoopConnection] = []
        self.uncorking = False

    def start_close(self, connection: Connection) -> None:
        cast(LoopConnection, connection).send_collected()
        super().start_close(connection)

    def cork(self, connection: LoopConnection) -> None:
        """The connection has something to send at the end of this pass."""
        self._corked.append(connection)
        if not self.uncorking:
            self.uncorking = True
            self.uncork_soon()

    def uncork(self) -> None:
        """Send what was collected."""
        self.uncorking = False
        corked, self._corked = self._corked, []
        for connection in corked:
            connection.uncork()


class EventLoop:
    """Runs a reader on an event loop."""

    def __init__(self, reader: Reader, application: LoopApplication) -> None:
        self._reader = reader
        self._application = application
        self._loop: asyncio.AbstractEventLoop
        self._serving: LoopServing
        self._turn: Callable[[float], bool]
        self._done: asyncio.Future[None]
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def run(self) -> None:
        """Start the application, serve until the worker has left, end the application.

        :raises StartError: the application cannot serve.
        """
        loop = self._loop = new_event_loop()
        loop.set_exception_handler(_unhandled)
        try:
            loop.run_until_complete(self._main())
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._cancel_tasks()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _main(self) -> None:
        reader, loop = self._reader, self._loop
        await self._application.startup()
        self._done = loop.create_future()
        self._turn = reader.turns()
        self._serving = cast(LoopServing, reader.serving)
        self._serving.uncork_soon = lambda: loop.call_soon(self._serving.uncork)
        reader.mailbox.owner_called = self._soon
        loop.add_reader(reader.fileno(), self._take_turn)
        try:
            reader.start()
            self._soon()
            await self._done
            await self._end()
        finally:
            reader.mailbox.owner_called = None
            loop.remove_reader(reader.fileno())

    def _soon(self) -> None:
        """Take a turn in the next pass of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        reader, serving = self._reader, self._serving
        self._scheduled = True
        uncorking = serving.uncorking
        serving.uncorking = True
        try:
            alive = self._turn(0.0)
        except Exception as error:  # noqa: BLE001 - the reader's thread reports it
            if not self._done.done():
                self._done.set_exception(error)
            return
        if not uncorking:
            # Behind the tasks that were just made: what they write at once goes with it.
            self._loop.call_soon(serving.uncork)
        self._scheduled = False
        timeout = reader.timeout()
        if not timeout:
            self._soon()
        elif serving.now + timeout < self._timer_at:
            self._set_timer(timeout)
        if not alive and not self._done.done():
            self._done.set_result(None)

    def _set_timer(self, timeout: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._serving.now + timeout
        self._timer = self._loop.call_later(max(timeout, _SHORTEST_TIMER), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._take_turn()

    async def _end(self) -> None:
        """The application's own end, in the time that the reader has for it."""
        task = self._loop.create_task(self._application.shutdown())
        while not task.done():
            left = self._reader.end_by - time.monotonic()
            if left <= 0:
                _log.warning("the application did not end in time")
                task.cancel()
            await asyncio.wait({task}, timeout=_LOOK_AGAIN)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.exception("application raised in its shutdown", error)

    def _cancel_tasks(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=_LOOK_AGAIN))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, if it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a task of the application left behind."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        _log.exception(context["message"], error)
    else:
        _log.error(context["message"])
