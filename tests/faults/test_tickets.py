"""Sealed tickets while a coordinator or a worker is lost: resumption goes on, and what was refused
stays refused.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.processes import stopped
from tests.server import Server, running
from tests.tickets import active, keys, returning, share
from tests.traffic import Traffic
from tests.waiting import eventually


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
    victim = harmed.workers()[0]["pid"]
    with stopped(harmed.coordinator_pid()):
        os.kill(victim, signal.SIGKILL)
        context = client_context(harmed.certificate)
        eventually(
            lambda: len({visit(harmed.address, context).worker for _ in range(12)}) == 4,
            within=5,
            what="four workers serve",
        )
    eventually(
        lambda: (
            [key["acknowledged"] for key in keys(harmed)] == [4]
            and len(harmed.worker_pids() - {victim}) == 4
        ),
        within=5,
        what="the new worker has the ring",
    )
    assert share(returning(harmed, "TLSv1.3", 60)) == 1.0


def test_a_worker_that_hangs_does_not_hold_rotation_up(harmed: Server) -> None:
    key = active(harmed)
    with stopped(harmed.workers()[0]["pid"]):
        done = harmed.command("rotate", "--timeout", "10")
        # Without it, or with the one that the supervisor has put in its place by now.
        assert done.stdout.endswith((" seals on 3 workers\n", " seals on 4 workers\n")), done.stderr
        assert active(harmed) != key
    eventually(
        lambda: all(key["acknowledged"] == key["workers"] == 4 for key in keys(harmed)),
        within=5,
        what="all four have the new key",
    )
    assert share(returning(harmed, "TLSv1.3", 60)) == 1.0


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
