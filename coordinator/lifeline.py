"""The socket between a supervisor and each process it spawned.

It is the child's standard input. The first frame down it is the child's settings (so that no
setting is in argv or the environment); later ones are orders. Up it go readiness and failure.
When one end closes, the other knows: a child whose supervisor was killed with SIGKILL reads end of
file and stops, so it is never an orphan.

A frame is a 4-byte big-endian length and one msgpack map with a key ``type``.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any, Final, Self

import msgpack

__all__ = ["MAX_FRAME_BYTES", "Lifeline"]

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")


class Lifeline:
    """One end. :meth:`receive` and :meth:`poll` belong to one thread; :meth:`send` to another at
    most, as a frame is one ``sendall``.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    @classmethod
    def from_stdin(cls) -> Self:
        """The child's end: file descriptor 0."""
        return cls(socket.socket(fileno=0))

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """The supervisor's end, and the socket to hand to the child as stdin."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(ours), theirs

    def fileno(self) -> int:
        """For epoll."""
        return self._sock.fileno()

    def send(self, frame: Mapping[str, Any]) -> bool:
        """Send one frame; False if the other end is gone."""
        packed: bytes = msgpack.packb(dict(frame), use_bin_type=True)
        try:
            self._sock.sendall(_LENGTH.pack(len(packed)) + packed)
        except OSError:
            return False
        return True

    def receive(self) -> dict[str, Any] | None:
        """Wait for one frame; None at end of file."""
        while (frame := self._next()) is None:
            if not self._fill():
                return None
        return frame

    def poll(self) -> tuple[list[dict[str, Any]], bool]:
        """What has arrived, after epoll said that something has: the whole frames, and whether
        the other end is still there.
        """
        alive = self._fill()
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames, alive

    def close(self) -> None:
        """Close this end; the other reads end of file."""
        self._sock.close()

    def _fill(self) -> bool:
        try:
            chunk = self._sock.recv(65536)
        except OSError:
            return False
        self._buffer += chunk
        return bool(chunk)

    def _next(self) -> dict[str, Any] | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        if length > MAX_FRAME_BYTES or len(self._buffer) < end:
            return None
        frame: dict[str, Any] = msgpack.unpackb(bytes(self._buffer[_LENGTH.size : end]), raw=False)
        del self._buffer[:end]
        return frame
