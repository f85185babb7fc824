"""``echo``: every byte back to its sender, at the pace at which he reads."""

from __future__ import annotations

from shard.connection import Connection
from shard.errors import ConnectionClosedError

__all__ = ["Echo"]


class Echo:
    """Sends back what it receives; a client's half-close is answered once all is sent."""

    __slots__ = ("_transport",)

    _transport: Connection

    def connection_made(self, transport: Connection) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def connection_lost(self, exc: ConnectionClosedError | None) -> None:  # noqa: ARG002
        del self._transport
