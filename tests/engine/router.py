"""A coordinator's endpoint for tests: a ROUTER in a thread that does as a subclass says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

import zmq

from tests.engine.reading import TIMEOUT

__all__ = ["RouterThread"]

_TURN_MS = 10


class RouterThread:
    """Bound for as long as the block lasts. :meth:`received` and :meth:`turn` run in the thread."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._stop = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def received(self, peer: bytes, frame: bytes) -> list[bytes]:
        """What a frame is answered with."""
        raise AssertionError(f"nobody answers {peer!r}, {len(frame)} bytes")

    def turn(self, send: Callable[[bytes, bytes], None]) -> None:
        """Called each turn, for what is sent unasked."""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._bound.wait(TIMEOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        router = context.socket(zmq.ROUTER)
        router.bind(self.endpoint)

        def send(peer: bytes, frame: bytes) -> None:
            router.send_multipart([peer, frame])

        self._bound.set()
        while not self._stop.is_set():
            if router.poll(_TURN_MS):
                peer, frame = router.recv_multipart()
                for answer in self.received(peer, frame):
                    send(peer, answer)
            self.turn(send)
        router.close(0)
        context.term()
