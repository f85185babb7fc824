"""The entropy service of a running server: sources that fail, seeds that are refused, randomness
that repeats. What an operator sees of each.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.client import ControlClient
from coordinator.health import STARTUP_SAMPLES
from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.server import Server, running
from tests.waiting import eventually


def sources(server: Server) -> dict[str, dict[str, Any]]:
    """As the status has them, by name."""
    entropy = server.status()["coordinator"]["entropy"]
    return {source["name"]: source for source in entropy["sources"]}


def metric(server: Server, line: str) -> float:
    """The value of a series."""
    (found,) = [text for text in server.admin("/metrics")[1].splitlines() if text.startswith(line)]
    return float(found.rpartition(" ")[2])


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A noise source that the test feeds: its path, and the end to write to."""
    path = tmp_path / "noise"
    os.mkfifo(path)
    # Both ends, so that opening it waits for nobody.
    fd = os.open(path, os.O_RDWR)
    yield path, fd
    os.close(fd)


def test_constant_bytes_put_a_source_into_quarantine_until_it_is_sound_again(
    tmp_path: Path, certificate: Certificate, fifo: tuple[Path, int]
) -> None:
    path, fd = fifo
    name = f"file:{path}"
    arguments = ["--entropy-sources", f"getrandom,jitter,{name}@8", "--entropy-retest", "0.5"]
    with running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server:

        def is_in(state: str) -> None:
            eventually(
                lambda: sources(server)[name]["state"] == state, within=10, what=f"it is {state}"
            )

        # Not the kernel's: chance may raise an alarm once in ten thousand start-up tests.
        os.write(fd, random.Random(1).randbytes(STARTUP_SAMPLES))
        is_in("healthy")
        os.write(fd, bytes(64))
        is_in("quarantined")
        assert sources(server)[name]["reason"] == "repetition count test"
        assert sources(server)[name]["cutoffs"]["repetition"] == [4, 6]
        # The others go on, and everybody can see why they are on their own.
        assert server.command("rotate", "--drbg").returncode == 0
        shown = server.command("entropy").stdout
        assert f"{name}  quarantined" in shown
        assert "repetition count test" in server.command("status").stdout
        label = f'{{source="{name}"'
        assert metric(server, f"shardtls_entropy_source_failures_total{label}") >= 1
        quarantined = f'shardtls_entropy_source_state{label},state="quarantined"'
        assert metric(server, quarantined) == 1
        assert "entropy source quarantined" in server.log.read_text()
        ledger = json.loads(server.command("entropy", "--json").stdout)["ledger"]
        assert ledger[-1]["purpose"] == "order"
        assert ledger[-1]["sources"]["getrandom"] >= 256
        assert name not in ledger[-1]["sources"]
        os.write(fd, random.Random(2).randbytes(STARTUP_SAMPLES))
        is_in("healthy")


def test_without_enough_entropy_workers_go_on_with_their_own_and_say_so(
    tmp_path: Path, certificate: Certificate
) -> None:
    arguments = ["--entropy-sources", "file:/dev/zero,workers"]
    with running(tmp_path, certificate=certificate, workers=2, arguments=arguments) as server:
        context = client_context(certificate)
        assert not any(visit(server.address, context).resumed for _ in range(4))
        eventually(
            lambda: [w["drbg"]["seeded_from"] for w in server.workers()] == ["local"] * 2,
            within=5,
            what="both say that their seed is local",
        )
        assert server.command("rotate", "--drbg").returncode == 0
        entropy = json.loads(server.command("entropy", "--json").stdout)
        assert (entropy["seeds"], entropy["available_bits"], entropy["ledger"]) == (0, 0.0, [])
        assert entropy["refusals"] >= 2
        assert sources(server)["file:/dev/zero"]["state"] == "quarantined"
        errors = metric(server, 'shardtls_coordinator_errors_total{code="insufficient_entropy"}')
        assert errors >= 2
        log = server.log.read_text()
        assert log.count("seeds refused") == 1
        assert log.count("DRBG reseeds on local randomness alone") == 2
        assert "0 of 448 bits of entropy available" in log


def test_the_ledger_says_who_got_what(hello: Server) -> None:
    shown = json.loads(hello.command("entropy", "--json", "--limit", "1024").stdout)
    first = shown["ledger"][0]
    assert first["number"] == 1
    assert first["purpose"] == "instantiate"
    assert first["sources"]["getrandom"] >= 448
    requesters = {line["requester"] for line in shown["ledger"]}
    assert requesters >= {worker["id"] for worker in hello.workers()}
    assert shown["ledger_length"] == shown["seeds"] == len(shown["ledger"])
    for_people = hello.command("entropy", "--limit", "1")
    assert for_people.returncode == 0, for_people.stderr
    listed = for_people.stdout.partition("SEED ")[2].splitlines()[1:]
    assert len(listed) == 2, "one seed, and that there are others"
    assert "earlier ones: --limit" in for_people.stdout
    assert "jitter" in for_people.stdout


def test_workers_whose_first_output_repeats_are_replaced(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running(tmp_path, certificate=certificate, workers=2) as server:
        before = {worker["id"] for worker in server.workers()}
        with ControlClient(f"ipc://{server.runtime_dir}/control.sock") as client:
            for worker in sorted(before):
                beat = {"id": worker, "state": "ready", "first_outputs": [bytes(32)]}
                client.request("heartbeat", beat, 5)

        def replaced() -> bool:
            ids = {worker["id"] for worker in server.workers(None)}
            return len(ids) == 2 and not ids & before

        eventually(replaced, within=15, what="both workers are replaced")
        server.wait_ready(2)
        assert metric(server, "shardtls_entropy_canary_repeats_total") == 1
        log = server.log.read_text()
        assert all(f"randomness repeated worker={worker}" in log for worker in before)
