"""The admin interface's contracts: what monitoring reads."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.certificates import Certificate
from tests.client import TlsStream, client_context, visit
from tests.server import Server, running
from tests.waiting import eventually, pause


def test_status_has_what_tools_rely_on(hello: Server) -> None:
    status = hello.status()
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", status["version"])
    coordinator = status["coordinator"]
    assert isinstance(coordinator["pid"], int)
    assert coordinator["started"]
    sessions = coordinator["sessions"]
    assert {"entries", "bytes", "hits", "misses"} <= set(sessions)
    assert isinstance(sessions["misses"], dict)
    assert {"entropy", "ticket_keys"} <= set(coordinator)
    assert len(status["workers"]) == 4
    for worker in status["workers"]:
        assert {"id", "pid", "host", "state", "connections", "handshakes", "drbg"} <= set(worker)
        assert worker["state"] == "ready"
        assert {"full", "resumed"} <= set(worker["handshakes"])
    assert len({worker["id"] for worker in status["workers"]}) == 4
    assert len({worker["pid"] for worker in status["workers"]} | {coordinator["pid"]}) == 5


def handshakes(server: Server, kind: str) -> int:
    """Counted by all workers."""
    return sum(worker["handshakes"][kind] for worker in server.workers())


def test_status_counts_what_happens(hello: Server) -> None:
    def settled() -> bool:
        """Workers tell their counts with each heartbeat, 0.5 s apart: all of the past is in."""
        before = handshakes(hello, "full"), handshakes(hello, "resumed")
        pause(0.7)
        return before == (handshakes(hello, "full"), handshakes(hello, "resumed"))

    eventually(settled, within=10, what="what came before is counted")
    full, resumed = handshakes(hello, "full"), handshakes(hello, "resumed")
    hits = hello.status()["coordinator"]["sessions"]["hits"]
    context = client_context(hello.certificate, "TLSv1.3")
    session = visit(hello.address, context).session
    assert visit(hello.address, context, session).resumed

    def counted() -> bool:
        return (
            handshakes(hello, "full") == full + 1
            and handshakes(hello, "resumed") == resumed + 1
            and hello.status()["coordinator"]["sessions"]["hits"] == hits + 1
        )

    eventually(counted, within=5, what="one full and one resumed handshake counted")


def test_status_counts_open_connections(hello: Server) -> None:
    eventually(lambda: hello.connections() == 0, within=5, what="no connection at first")
    with TlsStream(hello.address, client_context(hello.certificate)) as stream:
        stream.facts()
        eventually(lambda: hello.connections() == 1, within=5, what="one connection")
    eventually(lambda: hello.connections() == 0, within=5, what="none again")


def test_a_used_ticket_is_a_miss_with_its_reason(hello: Server) -> None:
    def used() -> int:
        misses: dict[str, int] = hello.status()["coordinator"]["sessions"]["misses"]
        return misses.get("used", 0)

    before = used()
    context = client_context(hello.certificate, "TLSv1.3")
    ticket = visit(hello.address, context).session
    assert visit(hello.address, context, ticket).resumed
    assert not visit(hello.address, context, ticket).resumed
    eventually(lambda: used() == before + 1, within=5, what="a miss: used")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_of_a_healthy_server(hello: Server, path: str) -> None:
    assert hello.admin(path)[0] == 200


def test_the_status_page_is_html(hello: Server) -> None:
    code, body = hello.admin("/")
    assert code == 200
    assert "<html" in body.lower()
    for worker in hello.workers():
        assert worker["id"] in body or "status.json" in body


def test_the_admin_interface_is_read_only(hello: Server) -> None:
    for method in ("POST", "PUT", "DELETE"):
        for path in ("/", "/status.json", "/metrics", "/livez", "/readyz"):
            connection = http.client.HTTPConnection("127.0.0.1", hello.admin_port, timeout=5)
            connection.request(method, path)
            assert connection.getresponse().status == 405, (method, path)
            connection.close()
    assert hello.admin("/nothing")[0] == 404


def worker_labels(text: str) -> set[str]:
    """Workers that any series names."""
    return {
        sample.labels["worker"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "worker" in sample.labels
    }


def test_metrics_are_prometheus_text(hello: Server) -> None:
    code, text = hello.admin("/metrics")
    assert code == 200
    families = list(text_string_to_metric_families(text))
    assert families
    ours = [family for family in families if not family.name.startswith(("python_", "process_"))]
    assert ours
    for family in ours:
        assert family.name.startswith("shardtls_"), family.name
        assert family.documentation, family.name
        assert not re.search(r"_(ms|millis|milliseconds|kb|kib|mb|mib)$", family.name), family.name
    assert worker_labels(text) == {worker["id"] for worker in hello.workers()}


def test_metrics_know_no_worker_that_is_gone(tmp_path: Path, certificate: Certificate) -> None:
    with running(tmp_path, certificate=certificate, workers=3) as server:
        assert len(worker_labels(server.admin("/metrics")[1])) == 3
        server.scale(1)
        assert worker_labels(server.admin("/metrics")[1]) == {
            worker["id"] for worker in server.workers()
        }


def test_the_status_command_shows_the_same(hello: Server) -> None:
    done = hello.command("status", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert {worker["id"] for worker in shown["workers"]} == {
        worker["id"] for worker in hello.workers()
    }
    for_people = hello.command("status")
    assert for_people.returncode == 0, for_people.stderr
    for worker in hello.workers():
        assert worker["id"] in for_people.stdout
