"""A worker killed costs its own connections; its sessions resume elsewhere."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, client_context, visit
from tests.processes import stopped
from tests.server import PATIENT, Server, running
from tests.traffic import Traffic
from tests.waiting import eventually, pause

REPLACED = 1.0
"""Seconds."""


@pytest.fixture
def server(tmp_path: Path, certificate: Certificate) -> Iterator[Server]:
    with running(tmp_path, certificate=certificate, workers=2, arguments=PATIENT) as started:
        yield started


def entries(server: Server) -> int:
    """Sessions that the coordinator holds."""
    number: int = server.status()["coordinator"]["sessions"]["entries"]
    return number


def sessions_of(
    server: Server, worker: str, context: ssl.SSLContext, number: int, each: int
) -> list[ssl.SSLSession]:
    """Sessions that this worker issued, once the coordinator has them: workers collect what they
    send it for some milliseconds, and a kill within these loses what was collected.

    :param each: sessions that a full handshake leaves.
    """
    found: list[ssl.SSLSession] = []
    stored = entries(server)
    while len(found) < number:
        made = visit(server.address, context)
        stored += each
        assert stored < 40 * number * each, f"{worker} took too few of the connections"
        if made.worker == worker and made.session is not None:
            found.append(made.session)
    eventually(lambda: entries(server) >= stored, within=1, what="all sessions stored")
    return found


@pytest.mark.parametrize(("version", "each"), [("TLSv1.3", 2), ("TLSv1.2", 1)])
def test_its_sessions_resume_elsewhere(server: Server, version: str, each: int) -> None:
    victim = server.workers()[0]
    context = client_context(server.certificate, version)
    sessions = sessions_of(server, victim["id"], context, 10, each)
    os.kill(victim["pid"], signal.SIGKILL)
    visits = [visit(server.address, context, session) for session in sessions]
    assert [one.resumed for one in visits] == [True] * len(visits)
    assert victim["id"] not in {one.worker for one in visits}


def test_it_is_replaced_within_a_second(server: Server) -> None:
    victim, other = (worker["pid"] for worker in server.workers())
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()

    def replaced() -> bool:
        pids = server.worker_pids()
        return len(pids) == 2 and victim not in pids and other in pids

    eventually(replaced, within=killed + REPLACED - time.monotonic(), what="a ready replacement")
    context = client_context(server.certificate)
    eventually(
        lambda: len({visit(server.address, context).worker for _ in range(8)}) == 2,
        within=1,
        what="the replacement takes connections",
    )


def test_only_its_own_connections_are_lost(server: Server) -> None:
    victim = server.workers()[0]
    context = client_context(server.certificate)
    streams = [TlsStream(server.address, context) for _ in range(20)]
    homes = [stream.facts()["worker"] for stream in streams]
    assert set(homes) == {worker["id"] for worker in server.workers()}
    os.kill(victim["pid"], signal.SIGKILL)
    for stream, home in zip(streams, homes, strict=True):
        if home == victim["id"]:
            with pytest.raises(OSError):  # noqa: PT011 - a reset or a truncation, as it happens
                stream.facts()
            stream.tls.close()
        else:
            assert stream.facts()["worker"] == home
            stream.close()


def test_killed_again_and_again_under_traffic(server: Server) -> None:
    """Each kill may fail the visits that are on that worker, at most one of each client."""
    clients, kills = 4, 3
    with Traffic(server, clients=clients) as traffic:
        for _ in range(kills):
            victim = server.workers()[0]["pid"]
            os.kill(victim, signal.SIGKILL)
            eventually(
                lambda victim=victim: len(server.worker_pids() - {victim}) == 2,  # type: ignore[misc]
                within=5,
                what="two workers again",
            )
            traffic.more(5)
        assert len(traffic.failures) <= clients * kills
        refused = [one for one in traffic.failures if isinstance(one.error, ConnectionRefusedError)]
        assert refused == [], "the supervisor holds the listening socket"
        slow = [one for one in traffic.failures if one.after > 1.0]
        assert slow == [], "a lost connection is noticed at once"


def test_without_a_ready_worker_the_server_is_not_ready(
    tmp_path: Path, certificate: Certificate
) -> None:
    """Its supervisor is stopped too, so nobody replaces it."""
    with running(
        tmp_path, certificate=certificate, workers=1, arguments=["--lease-timeout", "1"]
    ) as server:
        (worker,) = server.workers()
        with stopped(server.pid), stopped(worker["pid"]):
            eventually(lambda: server.admin("/readyz")[0] == 503, within=5, what="503")
            code, reason = server.admin("/readyz")
            assert code == 503
            assert "worker" in reason
            assert server.admin("/livez")[0] == 200
            assert server.workers("lost")
        eventually(lambda: server.admin("/readyz")[0] == 200, within=5, what="ready again")


def test_one_that_hangs_is_replaced_while_the_others_serve(
    tmp_path: Path, certificate: Certificate
) -> None:
    lease = 1.0
    arguments = ["--lease-timeout", str(lease), "--handshake-timeout", "1"]
    with running(tmp_path, certificate=certificate, workers=2, arguments=arguments) as server:
        victim, other = server.workers()
        context = client_context(server.certificate)
        with stopped(victim["pid"]):
            stopped_at = time.monotonic()
            # Connections that the kernel gave to the hung one before wait for it; none of these.
            eventually(
                lambda: (
                    victim["pid"] not in (pids := server.worker_pids())
                    and len(pids) == 2
                    and other["pid"] in pids
                ),
                within=stopped_at + lease + REPLACED - time.monotonic(),
                what="a ready replacement",
            )
        assert visit(server.address, context).worker
        log = server.log.read_text()
        assert f"process killed child={victim['id']} reason=" in log
        assert server.status()["server"]["restarts"] == 1


def test_a_supervisor_that_was_stopped_itself_kills_nobody(
    tmp_path: Path, certificate: Certificate
) -> None:
    """As with Ctrl-Z and fg: all stop, all go on."""
    with running(
        tmp_path, certificate=certificate, workers=2, arguments=["--lease-timeout", "1"]
    ) as server:
        before = server.worker_pids()
        with stopped(server.pid):
            for pid in before:
                os.kill(pid, signal.SIGSTOP)
            pause(2.0)
        for pid in before:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: server.worker_pids() == before, within=3, what="all of them ready")
        pause(1.5)
        assert server.worker_pids() == before
        assert "process killed" not in server.log.read_text()
