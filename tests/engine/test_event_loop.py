"""Readers that run an asyncio event loop, in this process, on a real engine and real sockets."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from coordinator.errors import StartError
from shard.apps import Handler
from shard.apps.looped import LoopApplication
from shard.connection import Connection
from shard.event_loop import CORK, PASS
from tests.certificates import Certificate
from tests.engine.reading import TIMEOUT, Recorder, connect, exactly, lost, serving
from tests.waiting import eventually


class Looped(LoopApplication):
    """Recorders, and what the reader did with the application."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.recorders: list[Recorder] = []
        self.loop: asyncio.AbstractEventLoop
        self.failure: Exception | None = None

    async def startup(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.events.append(f"startup on {threading.current_thread().name}")
        if self.failure is not None:
            raise self.failure

    def handler(self, connection: Connection) -> Handler:
        recorder = Recorder()
        recorder.on_data = self.answer
        self.recorders.append(recorder)
        return recorder

    def answer(self, recorder: Recorder, data: bytes) -> None:
        """From a task, a head and a body, as servers do."""

        async def write() -> None:
            recorder.connection.write(b"head:")
            recorder.connection.write(bytearray(data))

        self.task = self.loop.create_task(write())

    def drain(self, handler: Handler) -> None:
        self.events.append("drain")
        assert isinstance(handler, Recorder)
        handler.connection.close()

    async def shutdown(self) -> None:
        self.events.append("shutdown")


def test_what_a_pass_writes_is_one_record(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, application=Looped()) as served,
        connect(served.address, engine_certificate) as client,
    ):
        for _ in range(3):
            client.sendall(b"body")
            # A read of OpenSSL's gives a record at most.
            assert client.recv(100) == b"head:body"


def test_the_application_lives_on_the_readers_thread(engine_certificate: Certificate) -> None:
    application = Looped()
    with serving(engine_certificate, application=application) as served:
        with connect(served.address, engine_certificate) as client:
            client.sendall(b"x")
            assert exactly(client, 6) == b"head:x"
        lost(application.recorders[0])
        served.reader.drain()
        served.reader.thread.join(TIMEOUT)
        assert served.reader.ended
    assert application.events == ["startup on reader-0", "shutdown"]
    assert application.recorders[0].threads == {served.reader.mailbox.ident}


def test_a_drain_reaches_every_handler_and_what_was_written_arrives(
    engine_certificate: Certificate,
) -> None:
    application = Looped()
    with serving(engine_certificate, application=application) as served:
        client = connect(served.address, engine_certificate)
        eventually(lambda: application.recorders, within=TIMEOUT, what="a handshake")
        connection = application.recorders[0].connection

        def write_and_close() -> None:
            connection.write(b"last words")
            connection.close()

        application.loop.call_soon_threadsafe(write_and_close)
        assert exactly(client, 10) == b"last words"
        assert client.recv(1) == b""
        client.close()
        assert lost(application.recorders[0]) is None
        other = connect(served.address, engine_certificate)
        eventually(lambda: len(application.recorders) == 2, within=TIMEOUT, what="a handshake")
        served.reader.drain()
        assert other.recv(1) == b""
        other.close()
    assert application.events == ["startup on reader-0", "drain", "shutdown"]


def test_nobody_writes_for_a_whole_pass(engine_certificate: Certificate) -> None:
    """Else a handler that never waits would keep its loop from learning that its client left."""
    application = Looped()
    with (
        serving(engine_certificate, application=application) as served,
        connect(served.address, engine_certificate) as client,
    ):
        eventually(lambda: application.recorders, within=TIMEOUT, what="a handshake")
        recorder = application.recorders[0]
        written: list[int] = []

        def pour() -> None:
            recorder.connection.set_write_buffer_limits(high=100 * PASS)
            while "pause" not in recorder.events and len(written) < 100:
                recorder.connection.write(bytes(CORK))
                written.append(CORK)

        application.loop.call_soon_threadsafe(pour)
        eventually(lambda: "resume" in recorder.events, within=TIMEOUT, what="the next pass")
        assert sum(written) == PASS
        exactly(client, PASS)


def test_writes_are_in_order_whatever_their_size(engine_certificate: Certificate) -> None:
    application = Looped()
    with (
        serving(engine_certificate, application=application) as served,
        connect(served.address, engine_certificate) as client,
    ):
        eventually(lambda: application.recorders, within=TIMEOUT, what="a handshake")
        connection = application.recorders[0].connection
        parts = [bytes([number]) * size for number, size in enumerate((1, CORK, 10, 2 * CORK, 3))]

        def write() -> None:
            connection.writelines(parts[:2])
            for part in parts[2:]:
                connection.write(part)
            connection.write_eof()

        application.loop.call_soon_threadsafe(write)
        assert exactly(client, sum(map(len, parts))) == b"".join(parts)
        assert client.recv(1) == b""


def test_an_application_that_cannot_start_is_told(engine_certificate: Certificate) -> None:
    application = Looped()
    application.failure = StartError("no database")
    with serving(engine_certificate, application=application) as served:
        served.reader.thread.join(TIMEOUT)
        assert served.reader.failure is application.failure
        assert (served.reader.started, served.reader.crashed) == (True, False)
    assert application.events == ["startup on reader-0"]


@pytest.mark.parametrize("uvloop", [True, False])
def test_either_event_loop_serves(
    engine_certificate: Certificate, monkeypatch: pytest.MonkeyPatch, uvloop: bool
) -> None:
    if not uvloop:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    application = Looped()
    with (
        serving(engine_certificate, application=application) as served,
        connect(served.address, engine_certificate) as client,
    ):
        client.sendall(b"x")
        assert exactly(client, 6) == b"head:x"
        assert (type(application.loop).__module__ == "uvloop") is uvloop
