"""A reader's line to the *sessions* endpoint: its own DEALER, polled in the reader's epoll set.

What to send and whom an answer concerns is decided in :mod:`shard.resumption`.
"""

from __future__ import annotations

import hashlib
import select
from collections.abc import Callable
from typing import Final

import zmq

from coordinator.client import dealer
from shard.connection import Connection
from shard.lookup_counts import NO_NAME
from shard.resumption import Found, Resumption
from shard.worker_settings import WorkerSettings

__all__ = ["LEAVE_WITHIN", "SessionsChannel"]

LEAVE_WITHIN: Final = 0.2
"""Seconds, as for the link's last message."""

_NOBLOCK: Final = zmq.NOBLOCK


class SessionsChannel:
    """Reader thread only.

    :ivar resumption: the decisions and their counters.
    :ivar fd: in the epoll set; :meth:`receive` when it is readable. -1 while there is none.
    :ivar undeliverable: messages that found the queue to the coordinator full.
    """

    __slots__ = ("_resume", "_settings", "_socket", "fd", "resumption", "undeliverable")

    def __init__(
        self, settings: WorkerSettings, resume: Callable[[Connection, Found | None], None]
    ) -> None:
        """
        :param resume: continues a connection that waited for a session.
        """
        self._settings = settings
        self._resume = resume
        self._socket: zmq.Socket[bytes] | None = None
        self.fd = -1
        # Of several certificates with the same names the first one is served.
        hosts = settings.hosts[::-1]
        self.resumption: Resumption[Connection] = Resumption(
            settings.worker,
            settings.lookup_timeout,
            certificates={host.scope: hashlib.sha256(host.chain[0]).digest() for host in hosts},
            names={host.scope: next(iter(host.names), NO_NAME) for host in hosts},
        )
        self.undeliverable = 0

    def open(self, context: zmq.Context[zmq.Socket[bytes]], epoll: select.epoll) -> None:
        """Begin to connect, unless nothing is ever asked or stored: resumption is off, or by sealed
        tickets of which each may be used again.
        """
        settings = self._settings
        sealed = settings.resumption == "tickets" and not settings.single_use
        if settings.resumption == "off" or sealed:
            return
        self._socket = dealer(context, settings.sessions_endpoint, settings.curve)
        self.fd = self._socket.fileno()
        epoll.register(self.fd, select.EPOLLIN)
        self._socket.send(self.resumption.hello(), _NOBLOCK)
        self.receive(0.0)

    def close(self, now: float) -> None:
        """Send the puts that are collected, and close; they have :data:`LEAVE_WITHIN` to leave."""
        if self._socket is not None:
            self._send(self._socket, self.resumption.messages(now, last=True))
            self._socket.close(int(LEAVE_WITHIN * 1000))

    def exchange(self, now: float) -> None:
        """Give up on late answers, and send what is due."""
        resumption = self.resumption
        for connection in resumption.expired(now):
            self._resume(connection, None)
        frames = resumption.messages(now)
        if not frames or self._socket is None:
            return
        self._send(self._socket, frames)
        # A send takes in the descriptor's signal of what has arrived, be it an answer that nobody
        # awaits any more. Left unread it would keep every later one from being signalled
        # (zmq_getsockopt(3), ZMQ_FD), so a loop may wait only after a receive that found nothing.
        self.receive(now)

    def _send(self, socket: zmq.Socket[bytes], frames: list[bytes]) -> None:
        for frame in frames:
            try:
                socket.send(frame, _NOBLOCK)
            except zmq.Again:
                self.undeliverable += 1

    def receive(self, now: float) -> None:
        """Take every answer there is: the descriptor tells of a change only."""
        socket = self._socket
        if socket is None:
            return
        received = self.resumption.received
        resume = self._resume
        while True:
            try:
                frame = socket.recv(_NOBLOCK)
            except zmq.Again:
                return
            for connection, found in received(frame, now):
                resume(connection, found)
