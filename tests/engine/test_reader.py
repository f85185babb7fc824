"""A reader and its handlers, over real sockets: callbacks, ends, deadlines."""

from __future__ import annotations

import gc
import logging
import socket
import ssl
import struct
import threading
import time
import weakref

import pytest

from shard import serving as serving_module
from shard.connection import Connection, TlsInfo
from shard.errors import (
    AlertReceivedError,
    ConnectionAbortedHereError,
    ConnectionClosedError,
    ConnectionResetByPeerError,
    HandlerRaisedError,
    IdleTimeoutError,
    TruncatedError,
)
from tests.certificates import Certificate
from tests.engine.reading import TIMEOUT, Recorder, Serving, connect, exactly, read_all, serving
from tests.waiting import eventually


def lost(recorder: Recorder) -> ConnectionClosedError | None:
    """Wait for the last callback; it comes once."""
    eventually(lambda: recorder.lost, within=TIMEOUT, what="connection_lost")
    assert len(recorder.lost) == 1
    return recorder.lost[0]


def echo(recorder: Recorder) -> None:
    recorder.on_data = lambda it, data: it.connection.write(data)


def serves(served: Serving, certificate: Certificate) -> None:
    """The reader still does its work."""
    with connect(served.address, certificate) as client:
        client.sendall(b"still there?")


def test_callbacks_come_in_order_on_the_readers_thread(engine_certificate: Certificate) -> None:
    with serving(engine_certificate, prepare=echo) as served:
        with connect(served.address, engine_certificate) as client:
            client.sendall(b"hello")
            assert exactly(client, 5) == b"hello"
            client.unwrap()
        recorder = served.handler()
        assert lost(recorder) is None
        assert recorder.events == ["made", "data", "eof", "lost"]
        assert recorder.threads == {served.reader.thread.ident}
        assert served.reader.serving.ended == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_facts(engine_certificate: Certificate, version: ssl.TLSVersion) -> None:
    context = engine_certificate.trust()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    with (
        serving(engine_certificate) as served,
        socket.create_connection(served.address, timeout=TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        ask = served.handler().connection.get_extra_info
        assert ask("peername") == client.getsockname()
        assert ask("sockname") == served.address
        cipher = client.cipher()
        assert cipher is not None
        assert ask("cipher")[1:] == (client.version(), cipher[2])
        assert ask("compression", "x") is None
        assert ask("peercert_der") == ()
        assert ask("no such thing", 5) == 5
        tls = ask("tls")
        assert isinstance(tls, TlsInfo)
        assert (tls.version, tls.server_name, tls.alpn) == (
            client.version(),
            "localhost",
            "http/1.1",
        )
        assert (tls.resumed, tls.resumption, tls.worker) == (False, None, "test-0.1")
        assert ask("tls") is tls


def test_ipv6(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, host="::1") as served,
        connect(served.address, engine_certificate) as client,
    ):
        peer = served.handler().connection.get_extra_info("peername")
        assert peer == client.getsockname()[:2]


def test_a_client_that_just_goes_is_truncation(engine_certificate: Certificate) -> None:
    with serving(engine_certificate) as served:
        client = connect(served.address, engine_certificate)
        recorder = served.handler()
        client.close()
        assert isinstance(lost(recorder), TruncatedError)
        assert served.reader.serving.ended == {"truncated": 1}


def test_a_reset(engine_certificate: Certificate) -> None:
    with serving(engine_certificate) as served:
        client = connect(served.address, engine_certificate)
        recorder = served.handler()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert isinstance(lost(recorder), ConnectionResetByPeerError)


def test_an_alert_has_its_name(engine_certificate: Certificate) -> None:
    context = ssl.create_default_context()  # which does not trust the test's authority
    with serving(engine_certificate) as served:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version = context.maximum_version = version
            plain = socket.create_connection(served.address, timeout=TIMEOUT)
            with plain, pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(plain, server_hostname="localhost")
        counters = served.reader.serving
        eventually(
            lambda: counters.failed_handshakes == 2, within=TIMEOUT, what="two failed handshakes"
        )
        assert counters.ended == {AlertReceivedError.reason: 2}
        assert served.handlers == []


def test_close_sends_everything_first(engine_certificate: Certificate) -> None:
    size = 4_000_000

    def write_and_close(recorder: Recorder) -> None:
        recorder.connection.write(bytes(size))
        recorder.connection.close()
        recorder.connection.write(b"dropped")
        assert recorder.connection.is_closing()
        assert "lost" not in recorder.events

    def prepare(recorder: Recorder) -> None:
        recorder.on_made = write_and_close

    with serving(engine_certificate, prepare=prepare) as served:
        with connect(served.address, engine_certificate) as client:
            recorder = served.handler()
            # It is closing, and what the client says is no longer delivered.
            client.sendall(b"x")
            assert len(read_all(client)) == size
            client.unwrap()
        assert lost(recorder) is None
        assert recorder.data == b""


def test_abort_resets(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate) as served,
        connect(served.address, engine_certificate) as client,
    ):
        recorder = served.handler()
        client.sendall(b"x")
        eventually(lambda: recorder.data, within=TIMEOUT, what="data")
        recorder.connection.abort()
        assert isinstance(lost(recorder), ConnectionAbortedHereError)
        # Python's ssl takes a reset for an end of file; the socket itself does not.
        with socket.socket(fileno=socket.dup(client.fileno())) as plain:
            plain.settimeout(TIMEOUT)
            with pytest.raises(ConnectionResetError):
                plain.recv(1)


def test_half_close_leaves_the_other_direction_open(engine_certificate: Certificate) -> None:
    def prepare(recorder: Recorder) -> None:
        recorder.keep_open = True

    context = engine_certificate.trust()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with (
        serving(engine_certificate, prepare=prepare) as served,
        socket.create_connection(served.address, timeout=TIMEOUT) as plain,
    ):

        def turn(step: object, *arguments: object) -> object:
            """One operation of the client, with what it needs of the network."""
            assert callable(step)
            while True:
                try:
                    return step(*arguments)
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    received = plain.recv(65536)
                    incoming.write(received) if received else incoming.write_eof()

        turn(client.do_handshake)
        client.write(b"request")
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()  # close_notify; its own wait for ours is not ours
        plain.sendall(outgoing.read())
        recorder = served.handler()
        eventually(lambda: "eof" in recorder.events, within=TIMEOUT, what="end of file")
        assert bytes(recorder.data) == b"request"
        recorder.connection.write(b"late answer")
        recorder.connection.write_eof()
        with pytest.raises(RuntimeError):
            recorder.connection.write(b"too late")
        assert recorder.lost == []
        received = b""
        while chunk := plain.recv(65536):
            received += chunk
        assert received
    assert lost(recorder) is None


# -- Pausing reading ------------------------------------------------------------------------------


def test_what_arrived_while_reading_was_paused_comes_after(
    engine_certificate: Certificate,
) -> None:
    with serving(engine_certificate) as served:
        client = connect(served.address, engine_certificate)
        recorder = served.handler()
        client.sendall(b"1")
        eventually(lambda: recorder.data, within=TIMEOUT, what="data")
        recorder.connection.pause_reading()
        assert not recorder.connection.is_reading()
        client.sendall(b"23")
        client.close()  # the end itself is an edge that comes only once
        connection = served.reader.serving.connections
        eventually(
            lambda: any(c.edge for c in connection.values()),
            within=TIMEOUT,
            what="the edge is remembered",
        )
        assert recorder.data == b"1"
        recorder.connection.resume_reading()
        assert isinstance(lost(recorder), TruncatedError)
        assert recorder.data == b"123"


def test_a_paused_connection_can_be_closed(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate) as served,
        connect(served.address, engine_certificate) as client,
    ):
        recorder = served.handler()
        recorder.connection.pause_reading()
        client.sendall(b"unheard")
        recorder.connection.close()
        assert read_all(client) == b""
        client.unwrap()
        assert lost(recorder) is None


# -- Handlers that raise --------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["factory", "made", "data", "eof"])
def test_a_handler_that_raises_ends_its_connection_alone(
    engine_certificate: Certificate, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    recorders: list[Raising] = []

    class Raising(Recorder):
        def connection_made(self, transport: Connection) -> None:
            super().connection_made(transport)
            self.may_raise("made")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.may_raise("data")

        def eof_received(self) -> bool:
            self.may_raise("eof")
            return super().eof_received()

        @staticmethod
        def may_raise(here: str) -> None:
            if here == where:
                raise ZeroDivisionError(f"in {here}")

    def factory() -> Recorder:
        Raising.may_raise("factory")
        recorders.append(Raising())
        return recorders[-1]

    caplog.set_level(logging.ERROR, "shardtls")
    logging.getLogger("shardtls").propagate = True
    with serving(engine_certificate, factory=factory) as served:
        counters = served.reader.serving
        with socket.create_connection(served.address, timeout=TIMEOUT) as plain:
            client = engine_certificate.trust().wrap_socket(plain, server_hostname="localhost")
            try:
                client.sendall(b"x")
                client.unwrap()
            except OSError:
                pass  # the abort was faster
            finally:
                client.close()
        eventually(lambda: counters.handler_errors, within=TIMEOUT, what="the error is counted")
        eventually(lambda: not counters.connections, within=TIMEOUT, what="the connection's end")
        assert counters.handler_errors == 1
        if recorders:
            error = lost(recorders[0])
            assert isinstance(error, HandlerRaisedError)
            assert isinstance(error.__cause__, ZeroDivisionError)
        serving_still = served.reader.thread.is_alive()
    assert serving_still
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 1
    assert tracebacks[0].levelno == logging.ERROR


def test_a_handler_that_raises_at_the_end_is_counted(engine_certificate: Certificate) -> None:
    class Raising(Recorder):
        def connection_lost(self, exc: ConnectionClosedError | None) -> None:
            raise ZeroDivisionError

    with serving(engine_certificate, factory=Raising) as served:
        counters = served.reader.serving
        for number in (1, 2):
            connect(served.address, engine_certificate).close()
            eventually(
                lambda number=number: counters.handler_errors == number,  # type: ignore[misc]
                within=TIMEOUT,
                what="the error is counted",
            )


# -- Deadlines ------------------------------------------------------------------------------------


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
        serving(engine_certificate, factory=factory) as served,
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
        with serving(engine_certificate, factory=factory) as served:
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
