"""Sealed tickets: a client brings its session itself, and any worker opens it."""

from __future__ import annotations

import os
import re
import signal
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from coordinator.client import ControlClient
from tests.certificates import Certificate, issue
from tests.client import TlsStream, Visit, client_context, visit
from tests.interop.dialog import answer
from tests.interop.test_openssl import FLAGS, FULL, REQUEST, RESUMED, s_client
from tests.peers import peer
from tests.server import PATIENT, Server, running
from tests.traffic import Traffic
from tests.waiting import eventually

AT_LEAST = 0.99
VERSIONS = ["TLSv1.3", "TLSv1.2"]


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


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Four workers whose coordinator is killed; each test leaves four."""
    with running(
        tmp_path_factory.mktemp("harmed"),
        certificate=certificate,
        workers=4,
        arguments=["--resumption", "tickets"],
    ) as started:
        yield started


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Two workers without resumption."""
    with running(
        tmp_path_factory.mktemp("off"), certificate=certificate, arguments=["--resumption", "off"]
    ) as started:
        yield started


def keys(server: Server) -> list[dict[str, Any]]:
    """The epochs, as the status shows them."""
    found: list[dict[str, Any]] = server.status()["coordinator"]["ticket_keys"]["keys"]
    return found


def active(server: Server) -> str:
    """The beginning of the name of the key that seals."""
    (name,) = (key["name"] for key in keys(server) if key["state"] == "active")
    return str(name)


def missed(server: Server, reason: str) -> int:
    """Tickets refused by all workers, as told by their latest heartbeats."""
    return sum(worker["lookups"]["misses"].get(reason, 0) for worker in server.workers())


def returning(server: Server, version: str, number: int) -> list[Visit]:
    """So many visits, each with the session of the one before."""
    context = client_context(server.certificate, version)
    made = [visit(server.address, context)]
    for _ in range(number):
        made.append(visit(server.address, context, made[-1].session))
    return made[1:]


def share(visits: list[Visit]) -> float:
    """Of visits that resumed, by a ticket, both sides agreeing."""
    for one in visits:
        assert one.resumed == one.facts["resumed"], one
        assert one.facts["resumption"] == ("ticket" if one.resumed else None), one
    return sum(one.resumed for one in visits) / len(visits)


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


def test_resumption_goes_on_without_the_coordinator_and_after_its_return(harmed: Server) -> None:
    with Traffic(harmed, clients=4) as traffic:
        old = harmed.coordinator_pid()
        key = active(harmed)
        os.kill(old, signal.SIGKILL)
        traffic.more(5)
        eventually(
            lambda: harmed.coordinator_pid() != old,
            within=8,
            what="a new coordinator",
        )
        eventually(
            lambda: [k["state"] for k in keys(harmed) if k["acknowledged"] == 4] == ["active"],
            within=5,
            what="a new ring, with which all seal",
        )
        assert active(harmed) != key
        traffic.more(5)
        assert traffic.failures == []
        visits = traffic.visits()
    assert sum(not one.resumed for one in visits) == 4, share(visits)


def test_a_worker_that_starts_without_the_coordinator_gets_its_keys_later(harmed: Server) -> None:
    os.kill(harmed.coordinator_pid(), signal.SIGSTOP)
    stopped = [pid for pid in harmed.leftovers() if "coordinator" in command_line(pid)]
    try:
        victim = server_worker(harmed)
        os.kill(victim, signal.SIGKILL)
        context = client_context(harmed.certificate)
        eventually(
            lambda: len({visit(harmed.address, context).worker for _ in range(12)}) == 4,
            within=5,
            what="four workers serve",
        )
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    eventually(
        lambda: [k["acknowledged"] for k in keys(harmed)] == [4] and len(harmed.workers()) == 4,
        within=5,
        what="the new worker has the ring",
    )
    assert share(returning(harmed, "TLSv1.3", 60)) == 1.0


def command_line(pid: int) -> str:
    """Of a process that lives."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def server_worker(server: Server) -> int:
    """Process id of a worker; the coordinator is not asked."""
    return min(pid for pid in server.leftovers() if "shard.worker" in command_line(pid))


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


def test_a_purge_holds_for_workers_and_coordinators_to_come(harmed: Server) -> None:
    context = client_context(harmed.certificate, "TLSv1.3")
    session = visit(harmed.address, context).session
    assert harmed.command("purge", "all").returncode == 0
    old = harmed.coordinator_pid()
    os.kill(old, signal.SIGKILL)
    eventually(lambda: harmed.coordinator_pid() != old, within=8, what="a new coordinator")
    eventually(lambda: len(harmed.workers()) == 4, within=5, what="all workers registered")
    assert harmed.status()["coordinator"]["ticket_keys"]["watermarks"] == 1
    harmed.scale(5)
    offered = [visit(harmed.address, context, session) for _ in range(20)]
    harmed.scale(4)
    assert len({one.worker for one in offered}) == 5
    assert not any(one.resumed for one in offered)


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


def test_a_lost_register_makes_no_used_ticket_good_again(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running(
        tmp_path,
        certificate=certificate,
        arguments=["--resumption", "tickets", "--ticket-single-use", "--lookup-timeout", "0.1"],
    ) as server:
        context = client_context(certificate, "TLSv1.3")
        session = visit(server.address, context).session
        assert visit(server.address, context, session).resumed
        unused = visit(server.address, context).session
        old = server.coordinator_pid()
        os.kill(old, signal.SIGKILL)
        # Nobody can say whether it was used: served all the same, in full.
        assert not visit(server.address, context, session).resumed
        eventually(lambda: server.coordinator_pid() != old, within=8, what="a new coordinator")
        eventually(lambda: len(server.workers()) == 2, within=5, what="all workers registered")

        def returns() -> bool:
            assert not visit(server.address, context, session).resumed
            assert not visit(server.address, context, unused).resumed
            fresh = visit(server.address, context).session
            return visit(server.address, context, fresh).resumed

        eventually(returns, within=5, what="new tickets resume")


@pytest.mark.parametrize("version", VERSIONS)
def test_off_means_that_nothing_resumes(
    off: Server, certificate: Certificate, version: str
) -> None:
    context = client_context(certificate, version)
    first = visit(off.address, context)
    assert first.session is None or not first.session.has_ticket
    again = [visit(off.address, context, first.session) for _ in range(4)]
    assert not any(one.resumed or one.facts["resumed"] for one in again)
    if version == "TLSv1.2":
        assert RESUMED.findall(answer(s_client(off, "-tls1_2", "-reconnect"))) == []
        shown = answer(s_client(off, "-tls1_2", "-ign_eof"), told=REQUEST)
        assert re.search(r"Session-ID: *$", shown, re.MULTILINE)
        assert "TLS session ticket" not in shown
    else:
        shown = answer(s_client(off, "-tls1_3", "-ign_eof"), told=REQUEST)
        assert "New Session Ticket" not in shown
    command = [
        *(peer("gnutls-cli"), "--x509cafile", str(certificate.authority), "--resume"),
        *("--priority", f"NORMAL:-VERS-ALL:+VERS-{version.replace('v', '')}"),
        *("--verify-hostname", "localhost", "--port", str(off.port), off.host),
    ]
    assert "*** This is a resumed session" not in answer(command)
    assert off.status()["coordinator"]["messages"]["sessions"] == 0
    refused = off.command("rotate")
    assert refused.returncode == 1
    assert "no ticket keys to rotate" in refused.stderr


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
