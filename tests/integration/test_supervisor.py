"""The supervisor's signals and orders, on real processes."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate, issue
from tests.client import TlsStream, client_context, visit
from tests.ports import free_port
from tests.processes import descriptors
from tests.server import Server, running
from tests.traffic import Traffic
from tests.waiting import eventually

RELOADED = 10.0
"""Seconds in which two workers are replaced on a busy machine."""


@pytest.fixture
def server(tmp_path: Path, certificate: Certificate) -> Iterator[Server]:
    """Two workers that drain fast."""
    with running(
        tmp_path, certificate=certificate, workers=2, arguments=["--drain-timeout", "2"]
    ) as started:
        yield started


def ids(server: Server) -> set[str]:
    """Of all workers that are known."""
    return {worker["id"] for worker in server.workers(None)}


def send(server: Server, number: signal.Signals) -> None:
    """A signal to the supervisor."""
    os.kill(server.pid, number)


def test_ttin_and_ttou_are_one_worker_more_and_less(server: Server) -> None:
    send(server, signal.SIGTTIN)
    server.wait_ready(3)
    send(server, signal.SIGTTOU)
    server.wait_ready(2)
    send(server, signal.SIGTTOU)
    server.wait_ready(1)
    send(server, signal.SIGTTOU)
    eventually(lambda: "at least one" in server.log.read_text(), within=5, what="a refusal")
    server.wait_ready(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_stop_at_once_whatever_clients_do(
    server: Server, number: signal.Signals
) -> None:
    stream = TlsStream(server.address, client_context(server.certificate))
    send(server, number)
    assert server.exit_code(within=4) == 0
    assert stream.tls.recv(1) == b""  # close_notify, not a reset
    stream.tls.close()


def test_term_lets_clients_finish(server: Server) -> None:
    stream = TlsStream(server.address, client_context(server.certificate))
    length = 16 * 1024 * 1024
    stream.tls.sendall(f"GET /bytes/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    received = len(stream.tls.recv(1024))
    send(server, signal.SIGTERM)
    while chunk := stream.tls.recv(65536):
        received += len(chunk)
    assert received > length
    assert server.exit_code(within=5) == 0
    with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
        probe.connect(server.address)


def test_a_second_term_stops_at_once(tmp_path: Path, certificate: Certificate) -> None:
    with running(
        tmp_path, certificate=certificate, workers=1, arguments=["--drain-timeout", "1h"]
    ) as server:
        stream = TlsStream(server.address, client_context(certificate))
        stream.tls.sendall(b"GET /")  # a request that never ends
        send(server, signal.SIGTERM)
        eventually(lambda: server.workers("draining"), within=5, what="the worker drains")
        send(server, signal.SIGTERM)
        assert server.exit_code(within=5) == 0
        stream.tls.close()


def test_a_worker_that_does_not_leave_is_killed(tmp_path: Path, certificate: Certificate) -> None:
    with running(
        tmp_path, certificate=certificate, workers=2, arguments=["--drain-timeout", "0.5"]
    ) as server:
        stuck = server.workers()[-1]
        os.kill(stuck["pid"], signal.SIGSTOP)
        send(server, signal.SIGTERM)
        assert server.exit_code(within=6) == 0
        assert stuck["id"] in server.log.read_text()


def test_hup_replaces_every_worker_and_no_client_fails(server: Server) -> None:
    before = ids(server)
    with Traffic(server, clients=4) as traffic:
        traffic.more(20)
        send(server, signal.SIGHUP)
        eventually(lambda: not before & ids(server), within=RELOADED, what="all are new")
        server.wait_ready(2)
        traffic.more(20)
    assert traffic.failures == []
    # Same certificate, same scope: sessions outlive the workers that issued them.
    visits = traffic.visits()
    assert sum(one.resumed for one in visits) >= 0.95 * (len(visits) - 4)


def test_a_reload_brings_a_new_certificate(tmp_path: Path) -> None:
    old, new = issue(tmp_path / "old"), issue(tmp_path / "new")
    with running(tmp_path, certificate=old, workers=2) as server:
        visit(server.address, client_context(old))
        for source, target in ((new.cert, old.cert), (new.key, old.key)):
            target.write_bytes(source.read_bytes())
        done = server.command("reload")
        assert done.returncode == 0, done.stderr
        for _ in range(8):
            visit(server.address, client_context(new))
            with pytest.raises(ssl.SSLCertVerificationError):
                visit(server.address, client_context(old))


def test_a_reload_that_is_wrong_is_refused_with_every_problem(tmp_path: Path) -> None:
    certificate = issue(tmp_path / "certificate")
    config = "[server]\nidle_timeout = 60\n"
    with running(tmp_path, certificate=certificate, workers=2, config=config) as server:
        before = ids(server)
        certificate.key.write_bytes(issue(tmp_path / "other").key.read_bytes())
        done = server.command("reload")
        assert done.returncode == 1
        assert "certificate.0.key" in done.stderr
        (tmp_path / "shardtls.toml").write_text("[server]\nidle_timeout = 'x'\nworkerz = 2\n")
        done = server.command("reload")
        assert done.returncode == 1
        assert "server.idle_timeout" in done.stderr
        assert "server.workerz" in done.stderr
        assert "Traceback" not in done.stderr
        send(server, signal.SIGHUP)
        eventually(
            lambda: server.log.read_text().count("server.workerz") >= 2, within=5, what="logged"
        )
        visit(server.address, client_context(certificate))
        assert ids(server) == before


def test_a_reload_cannot_change_what_is_fixed_at_start(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running(tmp_path, certificate=certificate, workers=1, config="[sessions]\n") as server:
        (tmp_path / "shardtls.toml").write_text('[sessions]\nttl = "1h"\n[log]\nlevel = "debug"\n')
        done = server.command("reload")
        assert done.returncode == 1
        assert "sessions.ttl" in done.stderr
        assert "log.level" in done.stderr
        assert "restart" in done.stderr


def test_an_application_that_does_not_load_leaves_the_old_workers(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running(tmp_path, certificate=certificate, workers=2, config="") as server:
        before = ids(server)
        (tmp_path / "shardtls.toml").write_text('[server]\napp = "nowhere:app"\n')
        done = server.command("reload")
        assert done.returncode == 1
        assert "nowhere" in done.stderr
        server.wait_ready(2)
        assert ids(server) == before
        (tmp_path / "shardtls.toml").write_text("")
        assert server.command("reload").returncode == 0
        assert not before & ids(server)


def test_drain_replaces_a_worker(server: Server) -> None:
    victim, other = sorted(ids(server))
    done = server.command("drain", victim)
    assert done.returncode == 0, done.stderr
    server.wait_ready(2)
    assert other in ids(server)
    assert victim not in ids(server)
    assert server.command("drain", victim).returncode == 1
    assert server.command("drain", "nobody").returncode == 1


def test_usr1_opens_the_logs_again(tmp_path: Path, certificate: Certificate) -> None:
    log, rotated = tmp_path / "shardtls.log", tmp_path / "shardtls.log.1"
    with running(
        tmp_path, certificate=certificate, workers=1, arguments=["--log-file", str(log)]
    ) as server:
        eventually(lambda: "serving" in log.read_text(), within=5, what="a log")
        assert not log.stat().st_mode & 0o077
        log.rename(rotated)
        send(server, signal.SIGUSR1)
        eventually(log.exists, within=5, what="a new file")
        server.scale(2)
        eventually(
            lambda: "supervisor" in log.read_text() and "coordinator" in log.read_text(),
            within=5,
            what="every process writes to it",
        )


def test_the_coordinator_is_back_within_a_second_and_knows_the_workers(server: Server) -> None:
    before, workers = server.coordinator_pid(), ids(server)
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        return server.coordinator_pid() != before and len(server.workers()) == 2

    eventually(back, within=2, what="a new coordinator that knows the workers")
    assert ids(server) == workers
    eventually(lambda: server.command("scale", "2").returncode == 0, within=5, what="orders")


def test_a_server_keeps_no_descriptor_of_what_is_gone(server: Server) -> None:
    for round_ in range(3):
        for count in (3, 1, 2):
            server.scale(count)
        if round_ == 0:
            before = descriptors(server.pid)
    assert descriptors(server.pid) <= before


def test_several_addresses(tmp_path: Path, certificate: Certificate) -> None:
    other = free_port("::1")
    with running(
        tmp_path, certificate=certificate, workers=2, arguments=["--bind", f"[::1]:{other}"]
    ) as server:
        context = client_context(certificate)
        assert visit(server.address, context).facts["peer"].startswith("127.0.0.1")
        assert "::1" in visit(("::1", other), context).facts["peer"]
        text = server.log.read_text()
        assert f"https://127.0.0.1:{server.port}" in text
        assert f"https://[::1]:{other}" in text
