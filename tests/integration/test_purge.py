"""Purges of a running server: whom they cost a full handshake, and what is told of them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.client import ControlClient
from tests.certificates import Certificate
from tests.client import Visit, client_context, visit
from tests.server import Server, running
from tests.waiting import eventually

FORMAT = ["--log-format", "json", "--log-level", "warning"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Two workers, and a log that leaves out all but warnings, and the audit."""
    folder = tmp_path_factory.mktemp("purge")
    with running(folder, certificate=certificate, workers=2, arguments=FORMAT) as one:
        yield one


def cache(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.status()["coordinator"]["sessions"]
    return found


def first_visit(server: Server) -> tuple[ssl.SSLContext, Visit]:
    """A visit whose sessions have arrived in the cache."""
    context = client_context(server.certificate, "TLSv1.3")
    before = cache(server)["stored"]
    made = visit(server.address, context)
    eventually(lambda: cache(server)["stored"] >= before + 2, within=5, what="stored")
    return context, made


@pytest.fixture
def control(server: Server) -> Iterator[ControlClient]:
    """What the command uses, without starting a process each time."""
    with ControlClient(f"ipc://{server.runtime_dir}/control.sock") as client:
        client.request("ping", {}, 5)
        yield client


def purged(control: ControlClient, **conditions: Any) -> int:
    """Purge; how many sessions that were."""
    count: int = control.request("purge", conditions or {"all": True}, 5)["sessions"]
    return count


def fingerprint(certificate: Certificate) -> bytes:
    der = ssl.PEM_cert_to_DER_cert(certificate.cert.read_text())
    return hashlib.sha256(der).digest()


def test_each_condition_spares_others_and_reaches_its_own(
    server: Server, control: ControlClient
) -> None:
    context, made = first_visit(server)
    (scope,) = (bytes.fromhex(item["scope"]) for item in cache(server)["scopes"])
    conditions: dict[str, tuple[Any, Any]] = {
        "scope": (bytes(32), scope),
        "server_name": ("a.example", "LOCALHOST"),
        "certificate": (bytes(32), fingerprint(server.certificate)),
        "worker": ("nobody", None),
        "older_than": (3600, 0.001),
    }
    for name, (other, own) in conditions.items():
        assert purged(control, **{name: other}) == 0
        assert visit(server.address, context, made.session).resumed
        context, made = first_visit(server)
        assert purged(control, **{name: own or made.worker}) >= 2
        assert not visit(server.address, context, made.session).resumed
        context, made = first_visit(server)
    assert purged(control, client="alice") == 0
    assert purged(control, server_name="localhost", client="alice") == 0


def test_the_command_takes_every_condition(server: Server) -> None:
    first_visit(server)
    (scope,) = (item["scope"] for item in cache(server)["scopes"])
    digest = fingerprint(server.certificate).hex(":").upper()
    done = server.command(
        *("purge", "--scope", scope, "--certificate", digest, "--server-name", "localhost"),
        *("--worker", "nobody", "--client", "alice", "--older-than", "1h"),
    )
    assert done.stdout == "0 sessions purged\n", done.stderr
    assert cache(server)["purges"][-1]["what"] == {
        "scope": scope,
        "server_name": "localhost",
        "certificate": digest.replace(":", "").lower(),
        "client": "alice",
        "worker": "nobody",
        "older_than": 3600.0,
    }
    done = server.command("purge", "--certificate", digest)
    assert int(done.stdout.split()[0]) >= 2


def test_visits_resume_again_as_soon_as_a_purge_is_acknowledged(
    server: Server, control: ControlClient
) -> None:
    """Every worker knows of it then, so that what they issue is new."""
    context = client_context(server.certificate, "TLSv1.3")
    for _ in range(10):
        session = visit(server.address, context).session
        purged(control)
        assert not visit(server.address, context, session).resumed
        session = None
        resumed = []
        for _ in range(4):
            made = visit(server.address, context, session)
            session = made.session
            resumed.append(made.resumed)
        assert resumed == [False, True, True, True]


def test_sessions_that_have_not_left_their_worker_are_purged(
    server: Server, control: ControlClient
) -> None:
    """The purge is asked for within the 5 ms for which a worker collects."""
    context = client_context(server.certificate, "TLSv1.3")
    for _ in range(30):
        session = visit(server.address, context).session
        purged(control)
        assert not visit(server.address, context, session).resumed


def test_a_stopped_worker_cannot_revive_what_was_purged(
    server: Server, control: ControlClient
) -> None:
    context = client_context(server.certificate, "TLSv1.2")
    made = visit(server.address, context)
    pid = next(w["pid"] for w in server.workers() if w["id"] == made.worker)
    os.kill(pid, signal.SIGSTOP)
    try:
        purged(control)
    finally:
        os.kill(pid, signal.SIGCONT)
    server.wait_ready(2)
    assert not visit(server.address, context, made.session).resumed


def test_a_miss_is_shown_by_worker_and_server_name_with_its_reason(
    server: Server, control: ControlClient
) -> None:
    context, made = first_visit(server)
    purged(control)
    again = visit(server.address, context, made.session)

    def by_worker() -> dict[str, int]:
        return {
            worker["id"]: worker["lookups"]["server_names"]["localhost"]["misses"].get("purged", 0)
            for worker in server.workers()
            if worker["lookups"]["server_names"]
        }

    def told() -> dict[str, int]:
        """Heartbeats have told all that the coordinator knows."""
        found = by_worker()
        return found if sum(found.values()) == cache(server)["misses"]["purged"] else {}

    count = eventually(told, within=5, what="the miss is counted")[again.worker]
    assert count >= 1
    labels = f'reason="purged",server_name="localhost",worker="{again.worker}"'
    assert f"shardtls_worker_lookup_misses_total{{{labels}}}" in server.admin("/metrics")[1]
    shown = server.command("status").stdout
    line = next(
        text for text in shown.splitlines() if text.split()[:2] == [again.worker, "localhost"]
    )
    assert f"{count} purged" in line
    machine = json.loads(server.command("status", "--json").stdout)
    (lookups,) = (w["lookups"] for w in machine["workers"] if w["id"] == again.worker)
    assert lookups["server_names"]["localhost"]["misses"]["purged"] == count


def test_it_is_in_the_audit_log_whatever_the_level(server: Server, control: ControlClient) -> None:
    count = purged(control, server_name="Audited.Example", older_than=90)
    records = [
        json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")
    ]
    record = next(r for r in records if r.get("server_name") == "audited.example")
    assert (record["logger"], record["level"], record["by"]) == ("audit", "info", "local")
    assert (record["sessions"], record["older_than"]) == (count, 90.0)
    latest = cache(server)["purges"][-1]
    assert latest["what"] == {"server_name": "audited.example", "older_than": 90.0}
    assert latest["by"] == "local"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "all"),
        (["all", "--worker", "w"], "all"),
        (["--scope", "abc"], "64 hexadecimal digits"),
        (["--certificate", "zz" * 32], "64 hexadecimal digits"),
        (["--older-than", "yesterday"], "not a number with an optional unit"),
        (["--older-than", "0"], "more than 0 s"),
    ],
)
def test_conditions_that_are_wrong_exit_with_2(
    server: Server, arguments: list[str], word: str
) -> None:
    before = cache(server)["purges"]
    done = server.command("purge", *arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert cache(server)["purges"] == before
