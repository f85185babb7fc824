"""Sealed tickets: the engine with real clients, and a reader that asks about their first use."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.protocol import Answer, Lookup, LookupOp, decode_sessions, encode_answers
from shard import _engine
from shard.breaker import Breaker
from shard.lookup_counts import merged
from tests.certificates import Certificate
from tests.client import VERSIONS, TlsStream, client_context
from tests.engine.echo_loop import EchoLoop, virtual_host
from tests.engine.reading import TIMEOUT, Serving, serving
from tests.engine.router import RouterThread
from tests.waiting import pause

BOTH = pytest.mark.parametrize("version", sorted(VERSIONS))
NAME, NEXT = b"n" * 16, b"m" * 16
TTL = 1000


def ring(worker: str = "a", *, life: float = 5000.0) -> _engine.TicketKeys:
    """With one key, that seals."""
    keys = _engine.TicketKeys(worker, TTL)
    keys.replace(kept=[], added=[(NAME, b"k" * 32, life)], active=NAME)
    return keys


def context_of(
    certificate: Certificate,
    keys: _engine.TicketKeys,
    *,
    scope: bytes = bytes(32),
    single_use: bool = False,
    groups: list[str] | None = None,
) -> _engine.TlsContext:
    return _engine.TlsContext(
        [virtual_host(certificate, scope=scope)],
        ticket_keys=keys,
        single_use=single_use,
        groups=groups,
    )


def come(
    echo: EchoLoop, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[bool, ssl.SSLSession | None]:
    """A visit: whether it resumed, and the session to come back with."""
    with TlsStream(echo.address, client, session=session) as stream:
        stream.tls.sendall(b"x")
        assert stream.tls.recv(1) == b"x"
        return bool(stream.tls.session_reused), stream.tls.session


@BOTH
def test_a_session_is_with_the_client_alone(engine_certificate: Certificate, version: str) -> None:
    client = client_context(engine_certificate, version)
    with EchoLoop(context_of(engine_certificate, ring("a"))) as first:
        resumed, session = come(first, client)
        assert not resumed
        assert session is not None
        assert session.has_ticket
        assert session.ticket_lifetime_hint in (TTL, TTL - 1)
    with EchoLoop(context_of(engine_certificate, ring("b"))) as second:
        for _ in range(3):
            resumed, session = come(second, client, session)
            assert resumed
        assert second.established[-1].resumed
        for echo in (first, second):
            assert not echo.sessions
            assert not echo.wanted


@BOTH
def test_another_scope_opens_nothing(engine_certificate: Certificate, version: str) -> None:
    client = client_context(engine_certificate, version)
    with EchoLoop(context_of(engine_certificate, ring())) as first:
        _, session = come(first, client)
    keys = ring()
    with EchoLoop(context_of(engine_certificate, keys, scope=b"s" * 32)) as second:
        assert come(second, client, session)[0] is False
        assert keys.status().missed == [("scope", 1)]


@BOTH
def test_without_a_ring_everybody_is_served_and_gets_no_ticket(
    engine_certificate: Certificate, version: str
) -> None:
    client = client_context(engine_certificate, version)
    with EchoLoop(context_of(engine_certificate, ring())) as first:
        _, session = come(first, client)
    empty = _engine.TicketKeys("b", TTL)
    with EchoLoop(context_of(engine_certificate, empty)) as second:
        resumed, given = come(second, client, session)
        assert not resumed
        assert given is None or not given.has_ticket
        assert empty.status().missed == [("unknown", 1)]
        # The ring comes later, and connections begin to use it.
        empty.replace(kept=[], added=[(NAME, b"k" * 32, 100.0)], active=NAME)
        assert come(second, client, session)[0]


@BOTH
def test_no_life_is_promised_that_the_key_has_not(
    engine_certificate: Certificate, version: str
) -> None:
    client = client_context(engine_certificate, version)
    with EchoLoop(context_of(engine_certificate, ring(life=100.0))) as echo:
        _, session = come(echo, client)
        assert session is not None
        assert session.ticket_lifetime_hint in (98, 99)


def now_ms() -> int:
    return int(time.time() * 1000)


@BOTH
def test_a_purge_during_a_handshake_reaches_the_ticket_that_it_ends_with(
    engine_certificate: Certificate, version: str
) -> None:
    client = client_context(engine_certificate, version)
    keys = ring()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with (
        EchoLoop(context_of(engine_certificate, keys)) as echo,
        socket.create_connection(echo.address, timeout=TIMEOUT) as plain,
    ):
        slow = client.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def until_done(step: Callable[[], object], purge: bool = False) -> None:
            while True:
                try:
                    step()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
                    if purge:
                        keys.set_watermarks([(now_ms() + 1, None, None, None, None)])
                        purge = False
                else:
                    plain.sendall(outgoing.read())
                    return

        until_done(slow.do_handshake, purge=True)
        slow.write(b"x")
        until_done(lambda: slow.read(1))
        assert come(echo, client, slow.session)[0] is False
        assert keys.status().missed == [("purged", 1)]
        _, fresh = come(echo, client)
        assert come(echo, client, fresh)[0]


@BOTH
def test_another_ticket_for_the_same_secret_is_no_younger(
    engine_certificate: Certificate, version: str
) -> None:
    """In TLS 1.2 it holds the same master secret; in TLS 1.3 a new one."""
    client = client_context(engine_certificate, version)
    keys = ring()
    with EchoLoop(context_of(engine_certificate, keys)) as echo:
        _, first = come(echo, client)
        pause(0.005)
        between = now_ms()
        pause(0.005)
        resumed, second = come(echo, client, first)
        assert resumed
        keys.set_watermarks([(between, None, None, None, None)])
        assert come(echo, client, second)[0] is (version == "TLSv1.3")


def test_a_single_use_ticket_is_asked_about(engine_certificate: Certificate) -> None:
    client = client_context(engine_certificate, "TLSv1.3")
    context = context_of(engine_certificate, ring(), scope=b"s" * 32, single_use=True)
    with EchoLoop(context) as echo:
        before = time.time()
        _, session = come(echo, client)
        assert echo.offered == []
        assert come(echo, client, session)[0]
        echo.unused = False
        assert not come(echo, client, session)[0]
        first, second = echo.offered
        assert (first.scope, len(first.id)) == (b"s" * 32, 32)
        assert first.id == second.id
        assert before - 1 < first.issued_ms / 1000 < time.time() + 1
        assert first.expires_ms - first.issued_ms == TTL * 1000


def test_a_tls12_ticket_is_not_asked_about(engine_certificate: Certificate) -> None:
    client = client_context(engine_certificate, "TLSv1.2")
    with EchoLoop(context_of(engine_certificate, ring(), single_use=True)) as echo:
        _, session = come(echo, client)
        assert [come(echo, client, session)[0] for _ in range(3)] == [True] * 3
        assert echo.offered == []


@pytest.mark.parametrize("single_use", [False, True])
def test_a_ticket_survives_a_hello_retry_request(
    engine_certificate: Certificate, single_use: bool
) -> None:
    client = client_context(engine_certificate, "TLSv1.3")
    with EchoLoop(context_of(engine_certificate, ring())) as first:
        _, session = come(first, client)
    only_p384 = context_of(engine_certificate, ring(), single_use=single_use, groups=["secp384r1"])
    with EchoLoop(only_p384) as second:
        assert come(second, client, session)[0]
        assert len(second.offered) == single_use


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"added": [(b"n" * 15, b"k" * 32, 1.0)]}, "16 bytes"),
        ({"added": [(NAME, b"k" * 31, 1.0)]}, "32 bytes"),
        ({"added": [(NAME, bytes(32), 1.0)]}, "zeros"),
        ({"added": [(bytes(16), b"k" * 32, 1.0)]}, "zeros"),
        ({"added": [(NAME, b"k" * 32, -1.0)]}, "seconds"),
        ({"added": [(NAME, b"k" * 32, float("nan"))]}, "seconds"),
        ({"kept": [b""]}, "16 bytes"),
        ({"active": b"x"}, "16 bytes"),
    ],
)
def test_what_is_no_ring_is_refused(wrong: dict[str, object], text: str) -> None:
    keys = ring()
    how: dict[str, object] = {"kept": [], "added": [], "active": None, **wrong}
    with pytest.raises(ValueError, match=text):
        keys.replace(**how)  # type: ignore[arg-type]
    assert keys.status().names == [NAME]
    with pytest.raises(ValueError, match="scope"):
        keys.set_watermarks([(1, b"short", None, None, None)])
    with pytest.raises(ValueError, match="fingerprint"):
        keys.set_watermarks([(1, None, None, b"short", None)])


class Register(RouterThread):
    """A *sessions* endpoint that is asked about first uses alone.

    :ivar answer: the reply to a question.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.lookups: list[Lookup] = []
        self.answer: Callable[[Lookup], list[bytes]] = self.first_use

    def first_use(self, lookup: Lookup) -> list[bytes]:
        return [encode_answers([Answer(lookup.token, lookup.ids[0], b"", None)])]

    def received(self, peer: bytes, frame: bytes) -> list[bytes]:
        request = decode_sessions(frame)
        assert request.puts == ()
        self.lookups += request.lookups
        return [reply for lookup in request.lookups for reply in self.answer(lookup)]


class Client:
    """Comes back with the session of its first visit, or the latest."""

    def __init__(self, served: Serving, certificate: Certificate) -> None:
        self.context = client_context(certificate, "TLSv1.3")
        self.session: ssl.SSLSession | None = None
        self._served = served

    def visit(self) -> bool:
        plain = socket.create_connection(self._served.address, timeout=TIMEOUT)
        with self.context.wrap_socket(
            plain, server_hostname="localhost", session=self.session
        ) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            self.session = client.session
            resumed = bool(client.session_reused)
            client.unwrap()
        return resumed


def test_a_reader_asks_once_for_each_use_and_goes_on_in_full_without_an_answer(
    tmp_path: Path, engine_certificate: Certificate
) -> None:
    with (
        Register(f"ipc://{tmp_path}/sessions") as register,
        serving(
            engine_certificate,
            resumption="tickets",
            single_use=True,
            sessions_endpoint=register.endpoint,
            lookup_timeout=0.1,
            ticket_keys=ring(),
            prepare=lambda it: setattr(it, "on_data", lambda me, data: me.connection.write(data)),
        ) as served,
    ):
        client = Client(served, engine_certificate)
        resumption = served.reader.channel.resumption
        assert [client.visit() for _ in range(4)] == [False, True, True, True]
        assert [lookup.op for lookup in register.lookups] == [LookupOp.STRIKE] * 3
        assert all(lookup.expires_ms > lookup.issued_ms for lookup in register.lookups)
        tls = served.handlers[-1].connection.get_extra_info("tls")
        assert (tls.resumed, tls.resumption) == (True, "ticket")
        register.answer = lambda ask: [encode_answers([Answer(ask.token, None, None, "used")])]
        assert not client.visit()
        register.answer = lambda _: []
        assert [client.visit() for _ in range(4)] == [False] * 4
        assert resumption.breaker is Breaker.OPEN
        counts = merged([resumption.counts])
        assert counts["hits"] == 3
        assert counts["misses"] == {"used": 1, "deadline": 3, "breaker": 1}
