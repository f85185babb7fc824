"""A worker's generator: reseeded whatever becomes of the coordinator, replaced when it fails.

Promises: the coordinator away, every reseed that is due happens on local randomness, and is shown;
a process that was stopped reseeds when it goes on; a generator that fails gives nothing any more,
and its worker is replaced at once.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.failing_random import failing_random
from tests.processes import stopped
from tests.server import Server, running
from tests.traffic import Traffic
from tests.waiting import eventually, pause


def drbg(server: Server, pid: int | None = None) -> dict[str, Any]:
    """What the status says of the generator of one worker (the first)."""
    found = [worker for worker in server.workers() if pid in (None, worker["pid"])]
    state: dict[str, Any] = found[0]["drbg"]
    return state


@pytest.fixture
def server(tmp_path: Path, certificate: Certificate) -> Iterator[Server]:
    with running(
        tmp_path, certificate=certificate, workers=1, arguments=["--reseed-interval", "1"]
    ) as started:
        yield started


def test_reseeds_go_on_while_the_coordinator_is_stopped(server: Server) -> None:
    (worker,) = server.workers()
    eventually(
        lambda: drbg(server)["last_reseed_reason"] == "interval", within=5, what="a reseed by age"
    )
    assert drbg(server)["seeded_from"] == "coordinator"
    with Traffic(server, clients=2) as traffic:
        before = drbg(server)["reseeds"]
        with stopped(server.coordinator_pid()):
            pause(6.5)
        # Each took a second of age and at most 1.25 s of waiting for the coordinator.
        eventually(lambda: drbg(server)["reseeds"] >= before + 3, within=0.8, what="local reseeds")
        assert traffic.failures == []
    log = server.log.read_text()
    assert log.count("DRBG reseeds on local randomness alone") == 1
    eventually(
        lambda: drbg(server)["seeded_from"] == "coordinator", within=3, what="its seeds again"
    )
    assert server.worker_pids() == {worker["pid"]}


def test_reseeds_by_number_of_requests(tmp_path: Path, certificate: Certificate) -> None:
    arguments = ["--reseed-requests", "20", "--reseed-interval", "1d"]
    with running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server:
        context = client_context(server.certificate)
        for _ in range(10):
            visit(server.address, context)
        eventually(lambda: drbg(server)["reseeds"] >= 1, within=3, what="a reseed")
        assert drbg(server)["last_reseed_reason"] == "requests"


def test_on_going_on_and_on_command(tmp_path: Path, certificate: Certificate) -> None:
    """A worker that was stopped reseeds, no other does; ``rotate`` says how many reseeded, and who
    did not.
    """
    with running(tmp_path, certificate=certificate, workers=2) as server:
        stopped_one, other = server.workers()
        with stopped(stopped_one["pid"]):
            pause(0.3)
        eventually(
            lambda: drbg(server, stopped_one["pid"])["reseeds"] == 2,
            within=2,
            what="a reseed at once, and one with the coordinator's seed",
        )
        assert drbg(server, stopped_one["pid"])["last_reseed_reason"] == "continued"
        assert drbg(server, stopped_one["pid"])["seeded_from"] == "coordinator"
        assert drbg(server, other["pid"])["reseeds"] == 0
        done = server.command("rotate", "--drbg")
        assert done.stdout == "2 workers have reseeded\n"
        eventually(
            lambda: {w["drbg"]["last_reseed_reason"] for w in server.workers()} == {"order"},
            within=2,
            what="shown",
        )
        victim = server.workers()[0]
        with stopped(victim["pid"]):
            failed = server.command("rotate", "--drbg", "--timeout", "0.5")
        assert failed.returncode == 1
        assert victim["id"] in failed.stderr
        assert "1 of 2 did it" in failed.stderr


def test_a_generator_that_fails_gives_nothing_and_its_worker_is_replaced(
    tmp_path: Path, certificate: Certificate
) -> None:
    environment, trigger = failing_random(tmp_path)
    with running(tmp_path, certificate=certificate, workers=2, environment=environment) as server:
        first = server.workers()
        pids = {worker["pid"] for worker in first}
        context = client_context(server.certificate)
        visit(server.address, context)
        trigger.touch()

        def both_left() -> bool:
            if not server.worker_pids() & pids:
                return True
            with pytest.raises((ssl.SSLError, OSError)):
                visit(server.address, context)
            return False

        eventually(both_left, within=10, what="neither of the first two serves")
        trigger.unlink()
        eventually(lambda: len(server.worker_pids()) == 2, within=20, what="two workers that serve")
        assert visit(server.address, context).worker
        log = server.log.read_text()
        assert "Traceback" not in log
        for worker in first:
            said = re.findall(rf"{worker['id']}\[\d+\] no handshake succeeds here.*", log)
            assert len(said) == 1, log
            assert "the DRBG has failed" in said[0]
            assert (
                f'process ended child={worker["id"]} pid={worker["pid"]} how="exit status 4"' in log
            )
