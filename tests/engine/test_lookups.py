"""Session lookups of a real reader, against a coordinator that does as the test says."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coordinator.protocol import Answer, Lookup, Put, decode_sessions, encode_answers
from shard.breaker import Breaker
from shard.lookup_counts import merged
from tests.certificates import Certificate
from tests.engine.reading import TIMEOUT, Serving, serving
from tests.engine.router import RouterThread
from tests.waiting import eventually


class Coordinator(RouterThread):
    """A *sessions* endpoint: keeps what is put, and answers as `answer` says.

    :ivar sessions: by scope and id.
    :ivar messages: how many came.
    :ivar answer: the frames to send for a lookup.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.sessions: dict[tuple[bytes, bytes], bytes] = {}
        self.puts: list[Put] = []
        self.lookups: list[Lookup] = []
        self.messages = 0
        self.answer: Callable[[Lookup], list[bytes]] = self.honest

    def honest(self, lookup: Lookup) -> list[bytes]:
        """Take it, if it is there."""
        for id_ in lookup.ids:
            value = self.sessions.pop((lookup.scope, id_), None)
            if value is not None:
                return [encode_answers([Answer(lookup.token, id_, value, None)])]
        return [encode_answers([Answer(lookup.token, None, None, "unknown")])]

    def silent(self, lookup: Lookup) -> list[bytes]:
        """Answer nothing."""
        return []

    def received(self, peer: bytes, frame: bytes) -> list[bytes]:
        request = decode_sessions(frame)
        self.messages += 1
        for put in request.puts:
            self.puts.append(put)
            self.sessions[put.scope, put.id] = put.value
        self.lookups += request.lookups
        return [reply for lookup in request.lookups for reply in self.answer(lookup)]


class Client:
    """Comes back with the session of its last visit."""

    def __init__(self, served: Serving, certificate: Certificate) -> None:
        self.context = certificate.trust()
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.session: ssl.SSLSession | None = None
        self.seconds = 0.0
        self._served = served

    def visit(self) -> bool:
        """Whether it resumed."""
        started = time.monotonic()
        plain = socket.create_connection(self._served.address, timeout=TIMEOUT)
        with self.context.wrap_socket(
            plain, server_hostname="localhost", session=self.session
        ) as client:
            self.seconds = time.monotonic() - started
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            self.session = client.session
            resumed = bool(client.session_reused)
            client.unwrap()
        return resumed


@contextmanager
def serving_with(
    coordinator: Coordinator, certificate: Certificate, **changes: Any
) -> Iterator[tuple[Serving, Client]]:
    with serving(
        certificate,
        resumption="cache",
        sessions_endpoint=coordinator.endpoint,
        prepare=lambda it: setattr(it, "on_data", lambda me, data: me.connection.write(data)),
        **({"lookup_timeout": 0.5} | changes),
    ) as served:
        yield served, Client(served, certificate)


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator(f"ipc://{tmp_path}/sessions") as running:
        yield running


def stored(coordinator: Coordinator, count: int) -> None:
    eventually(
        lambda: len(coordinator.puts) >= count, within=TIMEOUT, what=f"{count} sessions stored"
    )


def test_a_client_resumes_and_its_ticket_is_taken(
    coordinator: Coordinator, engine_certificate: Certificate
) -> None:
    with serving_with(coordinator, engine_certificate) as (served, client):
        assert not client.visit()
        stored(coordinator, 2)
        assert client.visit()
        assert served.reader.serving.full == 1
        assert served.reader.serving.resumed == 1
        assert merged([served.reader.channel.resumption.counts])["hits"] == 1
        eventually(lambda: len(served.handlers) == 2, within=TIMEOUT, what="the second handler")
        tls = served.handlers[1].connection.get_extra_info("tls")
        assert (tls.resumed, tls.resumption) == (True, "cache")


def test_puts_of_many_handshakes_share_a_message(
    coordinator: Coordinator, engine_certificate: Certificate
) -> None:
    with serving_with(coordinator, engine_certificate) as (served, _):
        clients = [Client(served, engine_certificate) for _ in range(32)]
        threads = [threading.Thread(target=client.visit) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stored(coordinator, 64)
        assert coordinator.messages < 32


def test_a_silent_coordinator_costs_the_deadline_and_then_nothing(
    coordinator: Coordinator, engine_certificate: Certificate
) -> None:
    coordinator.answer = coordinator.silent
    with serving_with(coordinator, engine_certificate, lookup_timeout=0.1) as (served, client):
        resumption = served.reader.channel.resumption
        client.visit()
        for _ in range(3):
            assert not client.visit()
            assert 0.09 < client.seconds < 0.4
        assert resumption.breaker is Breaker.OPEN
        client.visit()
        assert client.seconds < 0.09
        assert merged([resumption.counts])["misses"]["deadline"] == 3
        assert merged([resumption.counts])["misses"]["breaker"] == 1


def test_resumption_is_back_with_the_coordinator(
    coordinator: Coordinator, engine_certificate: Certificate
) -> None:
    coordinator.answer = coordinator.silent
    with serving_with(coordinator, engine_certificate, lookup_timeout=0.02) as (served, client):
        resumption = served.reader.channel.resumption
        client.visit()
        for _ in range(3):
            client.visit()
        states = [resumption.breaker]
        coordinator.answer = coordinator.honest
        served.reader.coordinator_answers()
        eventually(client.visit, within=1.0, what="a resumed visit")
        states.append(resumption.breaker)
        assert states == [Breaker.OPEN, Breaker.CLOSED]


def test_a_late_answer_reaches_nobody(
    coordinator: Coordinator, engine_certificate: Certificate
) -> None:
    held: list[Lookup] = []

    def answer_the_one_before(lookup: Lookup) -> list[bytes]:
        frames = [frame for late in held for frame in coordinator.honest(late)]
        held[:] = [lookup]
        return frames

    coordinator.answer = answer_the_one_before
    with serving_with(coordinator, engine_certificate, lookup_timeout=0.1) as (served, client):
        client.visit()
        stored(coordinator, 2)
        assert not client.visit()
        stored(coordinator, 4)
        assert not client.visit()
        resumption = served.reader.channel.resumption
        eventually(lambda: resumption.late == 1, within=TIMEOUT, what="a late answer")
        assert merged([resumption.counts])["hits"] == 0
        assert served.reader.serving.resumed == 0


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage",
        encode_answers([Answer(2**62, bytes(32), b"value", None)]),
    ],
)
def test_nonsense_changes_nothing(
    coordinator: Coordinator, engine_certificate: Certificate, reply: bytes
) -> None:
    coordinator.answer = lambda lookup: [reply, *coordinator.honest(lookup)]
    with serving_with(coordinator, engine_certificate) as (_, client):
        client.visit()
        stored(coordinator, 2)
        assert client.visit()


def test_a_value_that_is_none_of_the_engines_costs_a_full_handshake(
    coordinator: Coordinator, engine_certificate: Certificate
) -> None:
    def forged(lookup: Lookup) -> list[bytes]:
        return [encode_answers([Answer(lookup.token, lookup.ids[0], b"\xff" * 100, None)])]

    coordinator.answer = forged
    with serving_with(coordinator, engine_certificate) as (_, client):
        client.visit()
        assert not client.visit()


def test_a_client_that_leaves_while_it_waits_is_forgotten(
    coordinator: Coordinator, engine_certificate: Certificate
) -> None:
    coordinator.answer = coordinator.silent
    with serving_with(coordinator, engine_certificate, lookup_timeout=0.5) as (served, client):
        client.visit()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = client.context.wrap_bio(
            incoming, outgoing, server_hostname="localhost", session=client.session
        )
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        with socket.create_connection(served.address, timeout=TIMEOUT) as plain:
            plain.sendall(outgoing.read())
            resumption = served.reader.channel.resumption
            eventually(lambda: resumption.outstanding == 1, within=TIMEOUT, what="a lookup")
        eventually(
            lambda: not served.reader.serving.connections, within=TIMEOUT, what="the client's end"
        )
        eventually(lambda: resumption.outstanding == 0, within=TIMEOUT, what="no lookup")
        client.session = None
        client.visit()


def test_without_a_coordinator_everybody_is_served(
    tmp_path: Path, engine_certificate: Certificate
) -> None:
    nobody = Coordinator(f"ipc://{tmp_path}/nobody")
    with serving_with(nobody, engine_certificate, lookup_timeout=0.02) as (served, client):
        for _ in range(10):
            client.visit()
        assert served.reader.serving.full == 10
