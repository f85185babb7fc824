"""A reader and its handlers, over real sockets: callbacks, ends, deadlines."""

from __future__ import annotations

import logging
import socket
import ssl
import struct

import pytest

from shard.connection import Connection, TlsInfo
from shard.errors import (
    AlertReceivedError,
    ConnectionAbortedHereError,
    ConnectionClosedError,
    ConnectionResetByPeerError,
    HandlerRaisedError,
    TruncatedError,
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
    serving,
)
from tests.waiting import eventually


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
    with serving(engine_certificate, application=factory) as served:
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

    with serving(engine_certificate, application=Raising) as served:
        counters = served.reader.serving
        for number in (1, 2):
            connect(served.address, engine_certificate).close()
            eventually(
                lambda number=number: counters.handler_errors == number,  # type: ignore[misc]
                within=TIMEOUT,
                what="the error is counted",
            )


# -- Deadlines ------------------------------------------------------------------------------------
