"""Sealed tickets: a client brings its session itself, and any worker opens it."""

from __future__ import annotations

import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coordinator.client import ControlClient
from tests.certificates import Certificate, issue
from tests.client import TlsStream, client_context, visit
from tests.interop.dialog import answer
from tests.interop.test_openssl import FLAGS, FULL, REQUEST, RESUMED, s_client
from tests.peers import peer
from tests.server import PATIENT, Server, running
from tests.tickets import VERSIONS, active, keys, missed, returning, share
from tests.traffic import Traffic
from tests.waiting import eventually

AT_LEAST = 0.99


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for another name, of the same make."""
    return issue(tmp_path_factory.mktemp("other"), "other.example")


@pytest.fixture(scope="module")
def tickets(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate, two_hosts: Certificate
) -> Iterator[Server]:
    """Four workers with sealed tickets, and two certificates."""
    with running(
        tmp_path_factory.mktemp("tickets"),
        certificate=certificate,
        workers=4,
        arguments=["--cert", str(two_hosts.cert), "--key", str(two_hosts.key)],
        config='[sessions]\nresumption = "tickets"\n',
    ) as server:
        yield server


def ticket_key(text: str) -> str:
    """Name of the key of the last ticket that s_client tells of, in hex."""
    (*_, line) = re.findall(r"TLS session ticket:\s+0000 - ((?:[0-9a-f]{2}[ -]){16})", text)
    return re.sub("[ -]", "", line)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_resumes_on_any_worker(tickets: Server, version: str) -> None:
    visits = returning(tickets, version, 150)
    assert {one.facts["version"] for one in visits} == {version}
    assert len({one.worker for one in visits}) == 4
    assert share(visits) >= AT_LEAST
    # Neither full handshakes nor resumed ones tell the coordinator anything.
    assert tickets.status()["coordinator"]["messages"]["sessions"] == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_may_be_offered_again(tickets: Server, version: str) -> None:
    context = client_context(tickets.certificate, version)
    first = visit(tickets.address, context).session
    assert first is not None
    assert first.has_ticket
    assert first.ticket_lifetime_hint in (86400, 86399)
    assert [visit(tickets.address, context, first).resumed for _ in range(6)] == [True] * 6


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_the_previous_key_resumes_and_gets_a_ticket_under_the_new(
    tickets: Server, version: str, tmp_path: Path
) -> None:
    session = str(tmp_path / "session.pem")
    flags = (FLAGS[version], "-ign_eof")
    first = answer(s_client(tickets, *flags, "-sess_out", session), told=REQUEST)
    assert ticket_key(first)[:8] == active(tickets)
    assert ticket_key(first) != "0" * 32
    done = tickets.command("rotate")
    assert done.returncode == 0, done.stderr
    assert active(tickets) != ticket_key(first)[:8]
    assert done.stdout == f"ticket key {active(tickets)} seals on 4 workers\n"
    for _ in range(4):
        again = answer(s_client(tickets, *flags, "-sess_in", session), told=REQUEST)
        assert RESUMED.findall(again) == [version]
        assert ticket_key(again)[:8] == active(tickets)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ticket_does_not_cross_to_another_host(
    tickets: Server, version: str, tmp_path: Path, two_hosts: Certificate
) -> None:
    session = tmp_path / "session.pem"
    flags = (FLAGS[version], "-ign_eof")
    answer(s_client(tickets, *flags, "-sess_out", str(session)), told=REQUEST)
    before = missed(tickets, "scope")
    command = [
        *(peer("openssl"), "s_client", "-connect", f"{tickets.host}:{tickets.port}"),
        *("-servername", "other.example", "-CAfile", str(two_hosts.authority), *flags),
        *("-sess_in", str(session)),
    ]
    assert FULL.findall(answer(command, told=REQUEST)) == [version]
    eventually(lambda: missed(tickets, "scope") == before + 1, within=3, what="the miss counted")
    assert RESUMED.search(answer(s_client(tickets, *flags, "-sess_in", str(session)), told=REQUEST))


def test_the_keys_are_shown_without_their_content(tickets: Server) -> None:
    name = active(tickets)
    eventually(
        lambda: all(key["acknowledged"] == key["workers"] == 4 for key in keys(tickets)),
        within=3,
        what="every worker has every key",
    )
    status = tickets.command("status").stdout
    assert re.search(rf"^keys  .*{name} active \(\d+ s old\)$", status, re.MULTILINE)
    metrics = tickets.admin("/metrics")[1]
    assert 'shardtls_ticket_keys{state="active"} 1.0' in metrics
    assert "shardtls_ticket_key_rotations_total" in metrics
    assert 'shardtls_ticket_strikes_refused_total{reason="used"} 0.0' in metrics


def test_gnutls_resumes(tickets: Server) -> None:
    command = [
        *(peer("gnutls-cli"), "--x509cafile", str(tickets.certificate.authority), "--resume"),
        *("--sni-hostname", "localhost", "--verify-hostname", "localhost"),
        *("--port", str(tickets.port), tickets.host),
    ]
    assert "*** This is a resumed session" in answer(command)


def test_rotation_under_load_costs_nobody_anything(tickets: Server) -> None:
    with Traffic(tickets, clients=4) as traffic:
        for _ in range(3):
            assert tickets.command("rotate").returncode == 0
            traffic.more(5)
        assert traffic.failures == []
        visits = traffic.visits()
    assert len({one.worker for one in visits}) == 4
    # The first visit of each client has nothing to offer.
    assert sum(not one.resumed for one in visits) == 4, share(visits)
    assert len({key["name"] for key in keys(tickets)}) >= 4


@pytest.mark.parametrize("version", VERSIONS)
def test_a_purge_reaches_every_ticket_issued_before(tickets: Server, version: str) -> None:
    context = client_context(tickets.certificate, version)
    with TlsStream(tickets.address, context) as stream:
        stream.facts()
        sessions = [stream.tls.session, visit(tickets.address, context).session]
        assert all(visit(tickets.address, context, session).resumed for session in sessions)
        done = tickets.command("purge", "all")
        assert done.returncode == 0, done.stderr
        assert re.search(r"issued before .* are refused by 4 workers$", done.stdout)
        for session in sessions:
            offered = [visit(tickets.address, context, session) for _ in range(6)]
            assert not any(one.resumed for one in offered)
    assert share(returning(tickets, version, 20)) == 1.0
    assert [key["state"] for key in keys(tickets)] == ["active"]


def test_tickets_outlive_a_reload(tickets: Server) -> None:
    with Traffic(tickets, clients=2) as traffic:
        done = tickets.command("reload")
        assert done.returncode == 0, done.stderr
        traffic.more(5)
        assert traffic.failures == []
        visits = traffic.visits()
    assert len({one.worker for one in visits}) > 4
    assert sum(not one.resumed for one in visits) == 2, share(visits)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Four workers with tickets that may be used once."""
    with running(
        tmp_path_factory.mktemp("once"),
        certificate=certificate,
        workers=4,
        arguments=["--resumption", "tickets", "--ticket-single-use", *PATIENT],
    ) as server:
        yield server


def test_of_many_offers_at_once_one_resumes(once: Server) -> None:
    context = client_context(once.certificate, "TLSv1.3")
    used = []
    for _ in range(10):
        session = visit(once.address, context).session
        barrier = threading.Barrier(12, timeout=10)

        def offer(_: int, session: Any = session, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return visit(once.address, context, session).resumed

        with ThreadPoolExecutor(12) as pool:
            used.append(sum(pool.map(offer, range(12))))
    assert used == [1] * 10
    strikes = once.status()["coordinator"]["ticket_keys"]["strikes"]
    assert (strikes["accepted"], strikes["refused"]["used"]) == (10, 110)


def test_single_use_costs_a_message_for_each_resumption_and_none_else(once: Server) -> None:
    asked = once.status()["coordinator"]["messages"]
    assert share(returning(once, "TLSv1.3", 60)) == 1.0
    context = client_context(once.certificate, "TLSv1.2")
    session = visit(once.address, context).session
    # TLS 1.2 tickets are reusable by nature, as its session ids are.
    assert [visit(once.address, context, session).resumed for _ in range(6)] == [True] * 6
    after = once.status()["coordinator"]["messages"]
    assert after["lookups"] - asked["lookups"] == 60
    assert after["puts"] == 0


def test_no_key_is_shown_or_logged(tmp_path: Path, certificate: Certificate) -> None:
    with running(
        tmp_path,
        certificate=certificate,
        arguments=["--resumption", "tickets", "--log-level", "debug"],
    ) as server:
        about = {
            "role": "worker",
            "id": "spy",
            "pid": 1,
            "host": "h",
            "group": "g",
            "version": "1",
            "state": "starting",
            "ticket_keys": {},
        }
        with ControlClient(f"ipc://{server.runtime_dir}/control.sock") as client:
            told = client.request("register", about, 5)["ticket_keys"]
            client.request("goodbye", {"id": "spy"}, 5)
        ((name, key, _),) = told["epochs"]
        assert name.hex()[:8] == active(server)
        shown = str(server.status()) + server.admin("/metrics")[1] + server.admin("/")[1]
        assert server.command("rotate").returncode == 0
        assert server.command("purge", "all").returncode == 0
        logged = server.log.read_text()
        for spelling in (key.hex()[:16], b64encode(key).decode()[:16], repr(key)[2:14]):
            assert spelling not in shown
            assert spelling not in logged
