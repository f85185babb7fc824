"""The reader's line to the coordinator: no answer may lie unread in it."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from coordinator.protocol import Answer, Lookup, decode_sessions, encode_answers
from shard.channel import SessionsChannel
from shard.connection import Connection
from shard.resumption import FLUSH_AFTER, PROBE_INTERVAL, Found
from tests.certificates import Certificate
from tests.engine.reading import TIMEOUT, worker_settings
from tests.waiting import eventually, pause

SCOPE = bytes(32)
LOOKUP_TIMEOUT = 0.02


class Line:
    """A channel and the coordinator's end of it. The test is the reader's loop: it receives only
    when the descriptor says so, or when the channel does by itself.
    """

    def __init__(self, router: zmq.Socket[bytes], channel: SessionsChannel) -> None:
        self.router = router
        self.channel = channel
        self.resumed: list[Found | None] = []

    def ask(self, id_: bytes, now: float) -> None:
        """Look a session up at `now`."""
        wanted = self.channel.resumption.wanted
        assert wanted(None, True, SCOPE, [id_], now)  # type: ignore[arg-type]
        self.channel.exchange(now)

    def answer(self, id_: bytes) -> None:
        """The coordinator takes the next message with a lookup, and answers it."""
        lookups: tuple[Lookup, ...] = ()
        while not lookups:
            assert self.router.poll(int(TIMEOUT * 1000))
            routing, frame = self.router.recv_multipart()
            lookups = decode_sessions(frame).lookups
        found = Answer(lookups[0].token, id_, b"session", None)
        self.router.send_multipart([routing, encode_answers([found])])

    def signalled(self, within: float) -> bool:
        """Whether the descriptor tells the loop to receive."""
        return bool(select.select([self.channel.fd], [], [], within)[0])


@contextmanager
def line(folder: Path, certificate: Certificate) -> Iterator[Line]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.bind(f"ipc://{folder}/sessions.sock")
    settings = worker_settings(
        certificate,
        sessions_endpoint=f"ipc://{folder}/sessions.sock",
        resumption="cache",
        lookup_timeout=LOOKUP_TIMEOUT,
    )
    resumed: list[Found | None] = []

    def resume(_: Connection, found: Found | None) -> None:
        resumed.append(found)

    channel = SessionsChannel(settings, resume)
    with select.epoll() as epoll:
        channel.open(context, epoll)
        made = Line(router, channel)
        made.resumed = resumed
        try:
            yield made
        finally:
            channel.close(time.monotonic())
            router.close(0)
            context.term()


@pytest.mark.parametrize("late", [1, 5])
def test_a_late_answer_does_not_silence_the_line(
    tmp_path: Path, engine_certificate: Certificate, late: int
) -> None:
    """A send takes libzmq's signal of a late answer in. Left unread, that answer would keep every
    later one from being signalled, and each lookup would miss its deadline for ever.
    """
    with line(tmp_path, engine_certificate) as it:
        now = time.monotonic()
        it.channel.receive(now)  # the loop's first turn: nothing is there
        for number in range(late):
            it.ask(bytes([number]) * 32, now)
            now += LOOKUP_TIMEOUT * 2
            it.channel.exchange(now)  # the deadline has passed: nothing is awaited any more
            it.answer(bytes([number]) * 32)
            assert it.signalled(TIMEOUT)
            # Before the loop gets to it, puts are due and are sent. (libzmq looks for signals on a
            # send only if it has not done so for a millisecond or so.)
            pause(0.01)
            it.channel.resumption.issued(SCOPE, None, [(b"p" * 32, b"value")], now)
            now += FLUSH_AFTER
            it.channel.exchange(now)
            now += PROBE_INTERVAL
        # The coordinator is well again: the breaker's next probe finds out.
        now += 10
        it.resumed.clear()
        it.ask(b"z" * 32, now)
        it.answer(b"z" * 32)

        def loop() -> bool:
            if it.signalled(0):
                it.channel.receive(now)
            return bool(it.resumed)

        eventually(loop, within=1, what="the answer is received")
        assert it.resumed == [(b"z" * 32, b"session")]
