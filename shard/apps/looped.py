"""Applications that live on an asyncio event loop: what a reader needs of one.

A reader with such an application runs the loop on its own thread (:mod:`shard.event_loop`), and
calls everything here on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shard.apps import Handler
    from shard.connection import Connection

__all__ = ["LoopApplication"]


class LoopApplication(ABC):
    """The event loop's thread only, but for the constructor."""

    @abstractmethod
    async def startup(self) -> None:
        """Before the first connection.

        :raises StartError: it cannot serve; the text says why.
        """

    @abstractmethod
    def handler(self, connection: Connection) -> Handler:
        """A handler for a connection whose handshake is complete."""

    @abstractmethod
    def drain(self, handler: Handler) -> None:
        """The worker is leaving: have the handler end as soon as that suits the protocol."""

    @abstractmethod
    async def shutdown(self) -> None:
        """After the last connection. Cancelled when the worker's time is over."""
