"""The coordinator's two ROUTER sockets: how they are bound, read and written.

Binding belongs to the main thread, before the broker's thread starts; everything else to the
broker's thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq

from coordinator.auth import check_endpoint, secure
from coordinator.errors import MessageError, StartError
from coordinator.permissions import LOCAL, AllowList, Peer
from coordinator.protocol import ERROR_FORBIDDEN, ERROR_SHAPE, MAX_MESSAGE_BYTES
from coordinator.settings import ServerCurve

__all__ = ["Endpoint", "Received"]

HIGH_WATER: Final = 1000
BACKLOG: Final = 1024
HANDSHAKE_MS: Final = 3000
"""A connection that has not made its ZMTP handshake by then is closed; libzmq's own is 30 s."""

Received = tuple[bytes, bytes, Peer | MessageError]
"""Routing id, frame, and whose it is, or why it is refused."""


class Endpoint:
    """One bound ROUTER.

    It never waits: an answer for a peer that is gone, or that does not read, is dropped.

    :ivar address: where it is bound; with the port chosen for ``tcp://HOST:*``.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        setting: str,
        endpoint: str,
        curve: ServerCurve | None,
        allowed: AllowList,
    ) -> None:
        """
        :param setting: the setting's path, for errors.
        :raises StartError: it cannot be bound, or would be open to everybody.
        """
        check_endpoint(setting, endpoint, curve)
        self._allowed = allowed
        self._path = Path(endpoint[len("ipc://") :]) if endpoint.startswith("ipc://") else None
        self.socket = context.socket(zmq.ROUTER)
        with contextlib.ExitStack() as undo:
            undo.callback(self.socket.close, 0)
            try:
                self._bind(setting, endpoint, curve)
            except (zmq.ZMQError, OSError) as error:
                raise StartError(
                    f"{setting}: cannot bind {endpoint}: {error.strerror}; stop what uses it or set"
                    " another endpoint"
                ) from error
            undo.pop_all()
        self.receive: Callable[[], Received | None] = (
            self._receive_local if self._path is not None else self._receive_curve
        )

    def _bind(self, setting: str, endpoint: str, curve: ServerCurve | None) -> None:
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 0)
        self.socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        self.socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        self.socket.setsockopt(zmq.BACKLOG, BACKLOG)
        self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if self._path is not None:
            _bind_ipc(self.socket, setting, endpoint, self._path)
            self._identity = self._path.stat().st_ino
        elif curve is not None:
            # A peer that vanished without a FIN would otherwise stay for hours.
            self.socket.setsockopt(zmq.HEARTBEAT_IVL, 1000)
            self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3000)
            secure(self.socket, curve)
            self.socket.bind(endpoint)
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def fileno(self) -> int:
        """A descriptor for epoll; libzmq's own poll costs several system calls a message more.

        It tells of commands of libzmq's I/O thread, not of messages (zmq_getsockopt(3), ZMQ_FD):
        sending and receiving take them off, each for the other. So the loop may wait for it only
        if :meth:`receive` was the last call on this socket, and returned None.
        """
        return int(self.socket.getsockopt(zmq.FD))

    def send(self, routing: bytes, frame: bytes) -> None:
        """Send one frame to a peer, or drop it.

        :raises zmq.ZMQError: the socket is closed.
        """
        self.socket.send_multipart((routing, frame), zmq.NOBLOCK)

    def close(self) -> None:
        """Close, and remove the socket file if it is still ours."""
        self.socket.close(0)
        if self._path is not None:
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._identity:
                    self._path.unlink()

    def _receive_local(self) -> Received | None:
        """One message, or None if there is none."""
        try:
            routing = self.socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        frame = self.socket.recv(zmq.NOBLOCK)
        if self.socket.getsockopt(zmq.RCVMORE):
            # One by one, so that they are not in memory a second time. libzmq itself holds all of
            # a message's frames until the last one has come, and has no bound for their number.
            while self.socket.getsockopt(zmq.RCVMORE):
                self.socket.recv(zmq.NOBLOCK)
            return routing, b"", MessageError(ERROR_SHAPE, "a message is one frame")
        return routing, frame, LOCAL

    def _receive_curve(self) -> Received | None:
        """As above, from a peer whose key libzmq names in each frame's properties."""
        try:
            routing = self.socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        if frame.more:
            while self.socket.getsockopt(zmq.RCVMORE):
                self.socket.recv(zmq.NOBLOCK)
            return routing, b"", MessageError(ERROR_SHAPE, "a message is one frame")
        try:
            user_id = frame.get("User-Id")
            return routing, frame.bytes, self._allowed.peer(str(user_id))
        except zmq.ZMQError:
            return routing, b"", MessageError(ERROR_FORBIDDEN, "this connection has no key")
        except MessageError as error:
            return routing, b"", error


def _bind_ipc(router: zmq.Socket[bytes], setting: str, endpoint: str, path: Path) -> None:
    """Bind with mode 0600, in place of what a killed coordinator left, never of a live one."""
    limit = 107  # sun_path without its final NUL, unix(7)
    if len(os.fsencode(path)) > limit:
        raise StartError(f"{setting}: {path} is longer than {limit} bytes; use a shorter directory")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(mode):
            raise StartError(f"{setting}: {path} exists and is no socket; set another path")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            # Non-blocking: a stopped coordinator with a full backlog would hold us up.
            probe.setblocking(False)
            if probe.connect_ex(os.fsencode(path)) not in (errno.ECONNREFUSED, errno.ENOENT):
                raise StartError(
                    f"{setting}: another coordinator listens on {path}; stop it or set another path"
                )
        path.unlink(missing_ok=True)
    previous = os.umask(0o177)
    try:
        router.bind(endpoint)
    finally:
        os.umask(previous)
