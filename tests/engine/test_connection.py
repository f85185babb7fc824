"""The engine over real sockets, with Python's ssl (OpenSSL) at the other end."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import struct

import pytest

from shard import _engine
from tests.certificates import Certificate, issue
from tests.client import VERSIONS, TlsStream, client_context
from tests.engine.echo_loop import EchoLoop, virtual_host
from tests.waiting import eventually

BOTH = pytest.mark.parametrize("version", list(VERSIONS))


def exchange(stream: TlsStream, data: bytes) -> bytes:
    """Send `data` and read as much back."""
    stream.tls.sendall(data)
    echoed = b""
    while len(echoed) < len(data):
        chunk = stream.tls.recv(65536)
        assert chunk, f"closed after {len(echoed)} of {len(data)} bytes"
        echoed += chunk
    return echoed


@BOTH
def test_a_handshake_and_an_exchange(
    echo: EchoLoop, engine_certificate: Certificate, version: str
) -> None:
    with TlsStream(echo.address, client_context(engine_certificate, version)) as stream:
        assert exchange(stream, b"hello") == b"hello"
        assert stream.tls.version() == version
    facts = echo.established[0]
    assert facts.version == version
    assert facts.cipher in _engine.TlsContext.CIPHER_SUITES
    assert facts.server_name == "localhost"
    assert not facts.resumed
    assert facts.peer_certificates == []
    eventually(lambda: echo.closed, within=5, what="the orderly end")
    assert (echo.closed[0].reason, echo.closed[0].alert) == ("done", None)


@BOTH
def test_a_returning_client_resumes(
    echo: EchoLoop, engine_certificate: Certificate, version: str
) -> None:
    context = client_context(engine_certificate, version)
    session = None
    for visit in range(4):
        with TlsStream(echo.address, context, session=session) as stream:
            exchange(stream, b"x")
            assert stream.tls.session_reused is (visit > 0)
            session = stream.tls.session
    assert [facts.resumed for facts in echo.established] == [False, True, True, True]
    assert all(wanted.single_use is (version == "TLSv1.3") for wanted in echo.wanted)


def test_a_resumed_client_gets_one_ticket_for_the_one_it_used(
    echo: EchoLoop, engine_certificate: Certificate
) -> None:
    context = client_context(engine_certificate, "TLSv1.3")
    with TlsStream(echo.address, context) as stream:
        exchange(stream, b"x")
        session = stream.tls.session
    assert len(echo.sessions) == 2
    with TlsStream(echo.address, context, session=session) as stream:
        exchange(stream, b"x")
        assert stream.tls.session_reused
    assert len(echo.sessions) == 2


def test_the_ticket_lifetime_is_told(engine_certificate: Certificate) -> None:
    tls = _engine.TlsContext([virtual_host(engine_certificate)], ticket_lifetime=4321)
    with (
        EchoLoop(tls) as echo,
        TlsStream(echo.address, client_context(engine_certificate, "TLSv1.3")) as stream,
    ):
        exchange(stream, b"x")
        session = stream.tls.session
        assert session is not None
        assert session.ticket_lifetime_hint == 4321


@BOTH
def test_a_missed_session_costs_a_full_handshake(
    echo: EchoLoop, engine_certificate: Certificate, version: str
) -> None:
    context = client_context(engine_certificate, version)
    with TlsStream(echo.address, context) as stream:
        exchange(stream, b"x")
        session = stream.tls.session
    echo.sessions.clear()
    with TlsStream(echo.address, context, session=session) as stream:
        assert exchange(stream, b"again") == b"again"
        assert not stream.tls.session_reused


def test_without_resumption_nothing_is_issued_or_asked(engine_certificate: Certificate) -> None:
    tls = _engine.TlsContext([virtual_host(engine_certificate)], resumption=False)
    with EchoLoop(tls) as echo:
        for version in VERSIONS:
            context = client_context(engine_certificate, version)
            with TlsStream(echo.address, context) as stream:
                exchange(stream, b"x")
                session = stream.tls.session
            with TlsStream(echo.address, context, session=session) as stream:
                exchange(stream, b"x")
                assert not stream.tls.session_reused
        assert not echo.sessions
        assert not echo.wanted


def test_a_session_survives_a_hello_retry_request(
    echo: EchoLoop, engine_certificate: Certificate
) -> None:
    context = client_context(engine_certificate, "TLSv1.3")
    with TlsStream(echo.address, context) as stream:
        exchange(stream, b"x")
        session = stream.tls.session
    only_p384 = _engine.TlsContext([virtual_host(engine_certificate)], groups=["secp384r1"])
    with EchoLoop(only_p384) as other:
        other.sessions = echo.sessions
        with TlsStream(other.address, context, session=session) as stream:
            exchange(stream, b"x")
            assert stream.tls.session_reused
        assert len(other.wanted) == 1


@BOTH
def test_megabytes_both_ways_arrive_whole(
    echo: EchoLoop, engine_certificate: Certificate, version: str
) -> None:
    sent = os.urandom(1 << 20) * 4
    with TlsStream(echo.address, client_context(engine_certificate, version), timeout=20) as stream:
        echoed = bytearray()
        step = 1 << 16
        for start in range(0, len(sent), step):
            echoed += exchange(stream, sent[start : start + step])
    assert hashlib.sha256(echoed).digest() == hashlib.sha256(sent).digest()


def test_a_slow_reader_gets_everything(echo: EchoLoop, engine_certificate: Certificate) -> None:
    block = os.urandom(1 << 16)
    echo.respond = lambda _: block * 256
    with TlsStream(echo.address, client_context(engine_certificate), timeout=20) as stream:
        stream.tls.sendall(b"go")
        digest = hashlib.sha256()
        left = len(block) * 256
        while left:
            chunk = stream.tls.recv(min(left, 1 << 16))
            assert chunk
            digest.update(chunk)
            left -= len(chunk)
    assert digest.digest() == hashlib.sha256(block * 256).digest()


@BOTH
def test_half_close_leaves_the_other_direction_open(
    echo: EchoLoop, engine_certificate: Certificate, version: str
) -> None:
    echo.last_words = b"after your end"
    with TlsStream(echo.address, client_context(engine_certificate, version)) as stream:
        exchange(stream, b"x")
        stream.tls.settimeout(5)
        # Python's unwrap() sends close_notify and then reads: what the server still says is there.
        with pytest.raises((ssl.SSLError, OSError)):
            stream.tls.unwrap()
    eventually(lambda: echo.half_closed == 1, within=5, what="close_notify is seen")


def test_a_client_that_just_goes_is_truncation(
    echo: EchoLoop, engine_certificate: Certificate
) -> None:
    stream = TlsStream(echo.address, client_context(engine_certificate))
    exchange(stream, b"x")
    os.close(stream.tls.detach())
    eventually(lambda: echo.closed, within=5, what="the end")
    assert echo.closed[0].reason == "truncated"


def test_a_reset_is_told(echo: EchoLoop, engine_certificate: Certificate) -> None:
    stream = TlsStream(echo.address, client_context(engine_certificate))
    exchange(stream, b"x")
    stream.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(stream.tls.detach())
    eventually(lambda: echo.closed, within=5, what="the end")
    assert echo.closed[0].reason == "reset"


def test_an_alert_received_is_told(echo: EchoLoop, engine_certificate: Certificate) -> None:
    distrusting = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        TlsStream(echo.address, distrusting)
    eventually(lambda: echo.closed, within=5, what="the end")
    assert (echo.closed[0].reason, echo.closed[0].alert) == ("alert_received", "unknown_ca")


def test_an_alert_sent_arrives_and_is_told(engine_certificate: Certificate) -> None:
    modern = _engine.TlsContext([virtual_host(engine_certificate)], min_version="TLSv1.3")
    with EchoLoop(modern) as echo:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            TlsStream(echo.address, client_context(engine_certificate, "TLSv1.2"))
        eventually(lambda: echo.closed, within=5, what="the end")
        assert (echo.closed[0].reason, echo.closed[0].alert) == ("alert_sent", "protocol_version")


def test_alpn_is_negotiated(engine_certificate: Certificate) -> None:
    tls = _engine.TlsContext([virtual_host(engine_certificate)], alpn=["http/1.1", "echo"])
    with EchoLoop(tls) as echo:
        context = client_context(engine_certificate, alpn=["echo"])
        with TlsStream(echo.address, context) as stream:
            exchange(stream, b"x")
            assert stream.tls.selected_alpn_protocol() == "echo"
        assert echo.established[0].alpn == "echo"


def test_a_sessions_scope_is_its_hosts(engine_certificate: Certificate) -> None:
    hosts = [
        virtual_host(engine_certificate, scope=b"a" * 32),
        virtual_host(
            engine_certificate, names=("other.example", "*.wild.example"), scope=b"b" * 32
        ),
    ]
    trust = client_context(engine_certificate, "TLSv1.3")
    trust.check_hostname = False
    with EchoLoop(_engine.TlsContext(hosts)) as echo:
        for name, scope in [
            ("localhost", b"a"),
            ("unknown.example", b"a"),
            ("OTHER.example", b"b"),
            ("x.wild.example", b"b"),
            ("x.y.wild.example", b"a"),
            ("wild.example", b"a"),
        ]:
            echo.sessions.clear()
            with TlsStream(echo.address, trust, server_name=name) as stream:
                exchange(stream, b"x")
            assert {key[0] for key in echo.sessions} == {scope * 32}, name


def test_a_late_resume_and_calls_after_close_do_nothing(engine_certificate: Certificate) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        listener = _engine.Listener(listening.detach())
    client = socket.create_connection(address)
    context = _engine.TlsContext([virtual_host(engine_certificate)])
    ((connection, progress),) = eventually(
        lambda: listener.accept(context, 4), within=5, what="the connection is accepted"
    )
    assert progress.effects == ()
    assert connection.peername == client.getsockname()
    assert connection.sockname == address
    connection.close()
    assert connection.fileno() == -1
    assert connection.resume(None).effects == ()
    assert connection.advance(True).data == b""
    assert connection.write(b"x") == 0
    assert connection.shutdown().effects == ()
    connection.abort()
    connection.close()
    client.close()
    ours.close()
    listener.close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"min_version": "SSLv3"}, "min_version"),
        ({"cipher_suites": ["TLS_NULL"]}, "TLS_NULL"),
        ({"groups": ["ffdhe2048"]}, "ffdhe2048"),
        ({"tickets_per_connection": 9}, "tickets_per_connection"),
        ({"ticket_lifetime": 604801}, "ticket_lifetime"),
    ],
)
def test_a_wrong_parameter_is_named(
    engine_certificate: Certificate, change: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        _engine.TlsContext([virtual_host(engine_certificate)], **change)  # type: ignore[arg-type]


def test_a_key_that_does_not_match_is_refused(
    engine_certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = issue(tmp_path_factory.mktemp("other"))
    mixed = Certificate(engine_certificate.cert, other.key, other.authority)
    with pytest.raises(ValueError, match="key"):
        _engine.TlsContext([virtual_host(mixed)])
