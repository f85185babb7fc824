"""``module:attr`` where attr is a coroutine function: one call for each connection, with asyncio's
``StreamReader`` and ``StreamWriter``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from shard.apps.looped import LoopApplication
from shard.errors import ConnectionClosedError

if TYPE_CHECKING:
    from shard.apps import Handler
    from shard.connection import Connection
    from shard.event_loop import LoopConnection

__all__ = ["StreamHandler", "Streams"]

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Streams(LoopApplication):
    """A coroutine function as an application.

    A connection is closed when its coroutine returns. What the coroutine raises is logged and
    aborts the connection, but for the end of the connection itself, which readers and writers
    tell with :class:`ConnectionResetError`, as asyncio's do.
    """

    def __init__(self, function: StreamHandler) -> None:
        self._function = function

    async def startup(self) -> None:
        """There is nothing to start."""

    async def shutdown(self) -> None:
        """What coroutines still run is cancelled with the loop."""

    def handler(self, connection: Connection) -> Handler:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        transport = cast("LoopConnection", connection)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._function(reader, writer)
            except Exception as error:  # noqa: BLE001 - the application's; counted and logged
                if not (isinstance(error, ConnectionResetError) and transport.is_closing()):
                    transport.failed(error)
            finally:
                writer.close()

        return cast("Handler", _Protocol(reader, serve, loop))

    def drain(self, handler: Handler) -> None:
        """A coroutine goes on until it returns, or its connection is closed at the deadline."""


class _Protocol(asyncio.StreamReaderProtocol):
    def eof_received(self) -> bool:
        super().eof_received()
        return True  # TLS has a half-close: the answer may still be on its way

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ConnectionClosedError):
            reset = ConnectionResetError(str(exc))
            reset.__cause__ = exc
            exc = reset
        super().connection_lost(exc)
