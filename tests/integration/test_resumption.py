"""A client that comes back resumes, whatever worker answers; a TLS 1.3 ticket works once."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, Visit, client_context, close_orderly, visit
from tests.server import Server
from tests.waiting import eventually

AT_LEAST = 0.99
"""Share of returning visits that must resume."""


def returning_visits(server: Server, version: str, number: int) -> list[Visit]:
    """So many visits, each at once after the one before and with the session that it gave."""
    context = client_context(server.certificate, version)
    session = visit(server.address, context).session
    made = []
    for _ in range(number):
        made.append(visit(server.address, context, session))
        session = made[-1].session
    return made


def resumed(visits: list[Visit]) -> float:
    """Share that resumed, both sides agreeing."""
    for one in visits:
        assert one.resumed == one.facts["resumed"], one
        assert one.facts["resumption"] == ("cache" if one.resumed else None), one
    return sum(one.resumed for one in visits) / len(visits)


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_an_immediate_return_resumes_on_any_worker(hello: Server, version: str) -> None:
    visits = returning_visits(hello, version, 250)
    assert {one.facts["version"] for one in visits} == {version}
    assert len({one.worker for one in visits}) == 4
    assert resumed(visits) >= AT_LEAST


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_many_clients_at_once_resume(hello: Server, version: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        series = pool.map(lambda _: returning_visits(hello, version, 40), range(8))
        visits = [one for part in series for one in part]
    assert len(visits) == 320
    assert len({one.worker for one in visits}) == 4
    assert resumed(visits) >= AT_LEAST


def test_both_tickets_of_a_connection_are_good(hello: Server) -> None:
    context = client_context(hello.certificate, "TLSv1.3")
    with TlsStream(hello.address, context) as stream:
        first = stream.facts()
        latest = stream.tls.session
    assert not first["resumed"]
    assert latest is not None
    assert latest.has_ticket
    assert latest.ticket_lifetime_hint == 86400
    assert visit(hello.address, context, latest).resumed


def test_a_ticket_offered_again_gets_a_full_handshake(hello: Server) -> None:
    context = client_context(hello.certificate, "TLSv1.3")
    ticket = visit(hello.address, context).session
    assert visit(hello.address, context, ticket).resumed
    again = visit(hello.address, context, ticket)
    assert not again.resumed
    assert again.facts["resumption"] is None


def test_a_tls12_session_id_may_be_offered_again(hello: Server) -> None:
    context = client_context(hello.certificate, "TLSv1.2")
    session = visit(hello.address, context).session
    assert [visit(hello.address, context, session).resumed for _ in range(8)] == [True] * 8


def offered_at_once(server: Server, version: str, number: int) -> list[Visit]:
    """One session, offered by `number` connections whose handshakes start together."""
    context = client_context(server.certificate, version)
    session = visit(server.address, context).session
    barrier = threading.Barrier(number, timeout=10)

    def offer(_: int) -> Visit:
        barrier.wait()
        return visit(server.address, context, session)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(offer, range(number)))


def test_a_ticket_offered_to_several_workers_at_once_resumes_at_most_once(hello: Server) -> None:
    rounds = [offered_at_once(hello, "TLSv1.3", 12) for _ in range(15)]
    used = [sum(one.resumed for one in offers) for offers in rounds]
    assert max(used) == 1
    assert sum(used) >= 14, "someone of each round should have been resumed"
    assert any(len({one.worker for one in offers}) > 1 for offers in rounds)


def test_a_tls12_session_offered_at_once_resumes_everywhere(hello: Server) -> None:
    rounds = [offered_at_once(hello, "TLSv1.2", 12) for _ in range(5)]
    assert all(one.resumed for offers in rounds for one in offers)
    assert any(len({one.worker for one in offers}) > 1 for offers in rounds)


def test_a_session_of_a_connection_that_is_still_open_resumes(hello: Server) -> None:
    context = client_context(hello.certificate, "TLSv1.3")
    with TlsStream(hello.address, context) as first:
        first.facts()
        assert visit(hello.address, context, first.tls.session).resumed
        assert first.facts()["resumed"] is False


@contextlib.contextmanager
def another_server(certificate: Certificate) -> Iterator[tuple[str, int]]:
    """OpenSSL's own tickets, for one client."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            tls = context.wrap_socket(plain, server_side=True)
            tls.sendall(b"hello")
            close_orderly(tls)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        thread.join(5)


def test_a_session_of_another_server_is_noticed_and_gets_a_full_handshake(hello: Server) -> None:
    context = client_context(hello.certificate, "TLSv1.3")
    with another_server(hello.certificate) as address:
        plain = socket.create_connection(address, timeout=5)
        tls = context.wrap_socket(plain, server_hostname="localhost")
        assert tls.recv(100) == b"hello"
        session = tls.session
        close_orderly(tls)
    assert session is not None
    assert session.has_ticket
    made = visit(hello.address, context, session)
    assert not made.resumed

    def foreign() -> int:
        (worker,) = (w for w in hello.workers() if w["id"] == made.worker)
        count: int = worker["lookups"]["misses"].get("foreign", 0)
        return count

    assert eventually(foreign, within=5, what="the miss is counted") == 1
    assert visit(hello.address, context, made.session).resumed
