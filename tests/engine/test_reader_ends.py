"""A reader's deadlines, its draining and its stop, on real sockets."""

from __future__ import annotations

import gc
import socket
import threading
import time
import weakref

import pytest

from shard import serving as serving_module
from shard.errors import (
    IdleTimeoutError,
)
from tests.certificates import Certificate
from tests.engine.reading import (
    TIMEOUT,
    Recorder,
    connect,
    echo,
    exactly,
    lost,
    read_all,
    serves,
    serving,
)
from tests.waiting import eventually


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_a_handshake_has_a_deadline(engine_certificate: Certificate, sent: bytes) -> None:
    with (
        serving(engine_certificate, handshake_timeout=0.3) as served,
        socket.create_connection(served.address, timeout=TIMEOUT) as client,
    ):
        started = time.monotonic()
        client.sendall(sent)
        assert client.recv(100) == b""
        assert 0.25 < time.monotonic() - started < 1.5
        eventually(
            lambda: served.reader.serving.ended == {"handshake_timeout": 1},
            within=TIMEOUT,
            what="it is counted",
        )
        assert served.reader.serving.failed_handshakes == 1


def test_an_idle_connection_is_closed_orderly(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, idle_timeout=0.3) as served,
        connect(served.address, engine_certificate) as client,
    ):
        recorder = served.handler()
        started = time.monotonic()
        assert read_all(client) == b""
        assert 0.25 < time.monotonic() - started < 1.5
        client.unwrap()
        assert isinstance(lost(recorder), IdleTimeoutError)


def test_bytes_either_way_keep_it_from_being_idle(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, idle_timeout=0.5) as served,
        connect(served.address, engine_certificate) as client,
    ):
        recorder = served.handler()
        started = time.monotonic()
        while time.monotonic() - started < 1.2:
            recorder.connection.write(b"tick")
            assert exactly(client, 4) == b"tick"
            threading.Event().wait(0.1)
        assert recorder.lost == []
        assert read_all(client) == b""
        client.unwrap()
        assert isinstance(lost(recorder), IdleTimeoutError)


def test_a_client_that_does_not_close_after_close_notify_is_not_waited_for(
    engine_certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "LINGER", 0.3)
    with (
        serving(engine_certificate, handshake_timeout=1.0) as served,
        connect(served.address, engine_certificate),
    ):
        recorder = served.handler()
        recorder.connection.close()
        assert lost(recorder) is None


def test_a_client_that_does_not_close_after_an_alert_is_not_waited_for(
    engine_certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "LINGER", 0.3)
    with (
        serving(engine_certificate, handshake_timeout=2.0) as served,
        connect(served.address, engine_certificate) as client,
    ):
        recorder = served.handler()
        plain = socket.socket(fileno=socket.dup(client.fileno()))
        with plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # no record of this connection
            error = lost(recorder)
        assert error is not None
        assert error.reason == "alert_sent"


# -- Leaving --------------------------------------------------------------------------------------


def test_drain_tells_handlers_and_waits_for_them(engine_certificate: Certificate) -> None:
    drained = threading.Event()

    class Draining(Recorder):
        def drain(self) -> None:
            drained.set()

    handlers: list[Draining] = []

    def factory() -> Draining:
        handlers.append(Draining())
        echo(handlers[-1])
        return handlers[-1]

    with (
        serving(engine_certificate, application=factory) as served,
        connect(served.address, engine_certificate) as client,
    ):
        client.sendall(b"1")
        assert exactly(client, 1) == b"1"
        served.reader.drain()
        assert drained.wait(TIMEOUT)
        client.sendall(b"2")
        assert exactly(client, 1) == b"2"
        assert served.reader.thread.is_alive()
        client.unwrap()
        served.reader.thread.join(TIMEOUT)
        assert not served.reader.thread.is_alive()
        assert lost(handlers[0]) is None


def test_drain_has_an_end(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, drain_timeout=0.3) as served,
        connect(served.address, engine_certificate) as client,
    ):
        recorder = served.handler()
        started = time.monotonic()
        served.reader.drain()
        assert read_all(client) == b""
        assert 0.25 < time.monotonic() - started < 1.5
        client.unwrap()
        assert lost(recorder) is None


def test_stop_says_goodbye_to_everybody_and_waits_for_nobody(
    engine_certificate: Certificate,
) -> None:
    with serving(engine_certificate) as served:
        clients = [connect(served.address, engine_certificate) for _ in range(20)]
        served.handler(19)
        half_open = socket.create_connection(served.address, timeout=TIMEOUT)
        started = time.monotonic()
        served.reader.stop()
        for client in clients:
            assert read_all(client) == b""
        served.reader.thread.join(TIMEOUT)
        assert time.monotonic() - started < 2.0
        for client in clients:
            client.close()
        half_open.close()
        assert [recorder.lost for recorder in served.handlers] == [[None]] * 20


# -- Several readers, and what stays behind ----------------------------------------------------


def test_readers_share_the_connection_limit(engine_certificate: Certificate) -> None:
    with serving(
        engine_certificate, readers=2, writers=2, max_connections=4, prepare=echo
    ) as served:
        clients = [connect(served.address, engine_certificate) for _ in range(4)]
        assert served.capacity.count == 4
        waiting = socket.create_connection(served.address, timeout=0.3)
        client = engine_certificate.trust()
        with pytest.raises(TimeoutError):
            client.wrap_socket(waiting, server_hostname="localhost")
        assert served.capacity.count == 4
        waiting.close()
        for each in clients:
            each.close()
        for _ in range(8):
            with connect(served.address, engine_certificate) as each:
                each.sendall(b"x")
                assert exactly(each, 1) == b"x"


def test_nothing_of_a_connection_stays_behind(engine_certificate: Certificate) -> None:
    references: list[weakref.ref[object]] = []

    class Watched(Recorder):
        __slots__ = ("__weakref__",)

    def factory() -> Watched:
        recorder = Watched()
        echo(recorder)
        references.append(weakref.ref(recorder))
        return recorder

    gc.disable()
    try:
        with serving(engine_certificate, application=factory) as served:
            for _ in range(3):
                with connect(served.address, engine_certificate) as client:
                    client.sendall(bytes(100_000))
                    exactly(client, 100_000)
                    client.unwrap()
            eventually(
                lambda: not served.reader.serving.connections, within=TIMEOUT, what="their end"
            )
            with connect(served.address, engine_certificate) as client:
                eventually(lambda: len(references) == 4, within=TIMEOUT, what="a handshake")
                (connection,) = served.reader.serving.connections.values()
                connection.write(bytes(10_000_000))
                del connection
            eventually(
                lambda: not served.reader.serving.connections, within=TIMEOUT, what="their end"
            )
            # One may be a local of the loop until its next event.
            serves(served, engine_certificate)
            eventually(
                lambda: not any(reference() for reference in references[:4]),
                within=TIMEOUT,
                what="handlers freed without the cycle collector",
            )
    finally:
        gc.enable()
