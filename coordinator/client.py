"""What talks to the coordinator: the socket that every peer uses, and a client for commands.

A ZeroMQ socket belongs to one thread: the one that made it uses it, polls it and closes it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, Protocol, Self

import zmq

from coordinator.errors import CommandRefusedError, CoordinatorUnavailableError
from coordinator.protocol import (
    MAX_MESSAGE_BYTES,
    Refusal,
    Reply,
    decode_from_coordinator,
    encode_request,
)

__all__ = ["ControlClient", "CurveCredentials", "dealer"]

SEND_HIGH_WATER: Final = 1000
HEARTBEAT_INTERVAL_MS: Final = 500
HEARTBEAT_TIMEOUT_MS: Final = 1500
RECONNECT_INTERVAL_MS: Final = 100
RECONNECT_INTERVAL_MAX_MS: Final = 1000
CONNECT_TIMEOUT_MS: Final = 1000


class CurveCredentials(Protocol):
    """A client's CURVE keys, each 40 characters of Z85 (ZeroMQ RFC 32)."""

    @property
    def server_public(self) -> str: ...
    @property
    def public(self) -> str: ...
    @property
    def secret(self) -> str: ...


def dealer(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, curve: CurveCredentials | None = None
) -> zmq.Socket[bytes]:
    """A DEALER that is connecting to `endpoint`, for the calling thread only.

    It never waits: it reconnects by itself within 0.1 s (``ipc://``) to 1 s (``tcp://``) of the
    coordinator's return, drops a silent connection after 1.5 s, and takes at most
    :data:`SEND_HIGH_WATER` messages while there is none (send with ``zmq.NOBLOCK``).

    :param endpoint: ``ipc://PATH`` or ``tcp://HOST:PORT``.
    :param curve: required by every ``tcp://`` endpoint.
    :raises zmq.ZMQError: the endpoint cannot be parsed, or a key is not valid Z85.
    """
    with ExitStack() as undo:
        socket = context.socket(zmq.DEALER)
        undo.callback(socket.close, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_INTERVAL_MS)
        # 0 means: no back-off. A refused connection on this machine costs next to nothing.
        backoff = 0 if endpoint.startswith("ipc:") else RECONNECT_INTERVAL_MAX_MS
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, backoff)
        if curve is not None:
            socket.curve_serverkey = curve.server_public.encode("ascii")
            socket.curve_publickey = curve.public.encode("ascii")
            socket.curve_secretkey = curve.secret.encode("ascii")
        socket.connect(endpoint)
        undo.pop_all()
    return socket


class ControlClient:
    """Requests to the *control* endpoint, one at a time, for commands.

    For the thread that made it. Use it as a context manager, or call :meth:`close`.
    """

    def __init__(
        self,
        endpoint: str,
        curve: CurveCredentials | None = None,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        """
        :param context: default: one of its own, ended by :meth:`close`.
        :raises zmq.ZMQError: as :func:`dealer`.
        """
        self.endpoint = endpoint
        self._own_context = context is None
        self._context: zmq.Context[zmq.Socket[bytes]] = (
            zmq.Context() if context is None else context
        )
        with ExitStack() as undo:
            undo.callback(self._end_context)
            self._socket = dealer(self._context, endpoint, curve)
            undo.pop_all()
        self._numbers = itertools.count(1)

    def request(self, type_: str, body: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """Ask, and wait for the answer.

        :param type_: one of :data:`coordinator.protocol.CONTROL_TYPES`.
        :param timeout: seconds.
        :returns: the reply's body.
        :raises CoordinatorUnavailableError: no answer within `timeout`.
        :raises CommandRefusedError: the answer is an error.
        :raises MessageError: the answer cannot be read, or the request is too large.
        """
        number = next(self._numbers)
        started = time.monotonic()
        try:
            self._socket.send(encode_request(type_, number, body), zmq.NOBLOCK)
        except zmq.Again:
            raise CoordinatorUnavailableError(self.endpoint, 0.0) from None
        while (left := started + timeout - time.monotonic()) > 0:
            if not self._socket.poll(max(1, int(left * 1000))):
                continue
            frames = self._socket.recv_multipart()
            if len(frames) != 1:
                continue
            answer = decode_from_coordinator(frames[0])
            if isinstance(answer, Reply) and answer.request == number:
                return answer.body
            if isinstance(answer, Refusal) and answer.request in (number, None):
                raise CommandRefusedError(answer.code, answer.detail)
        raise CoordinatorUnavailableError(self.endpoint, timeout)

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self._socket.close(0)
        self._end_context()

    def _end_context(self) -> None:
        if self._own_context:
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
