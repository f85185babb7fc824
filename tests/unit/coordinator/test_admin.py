"""The admin server by real HTTP."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.admin.server import AdminServer
from coordinator.broker import BrokerStoppedError
from coordinator.client import ControlClient
from coordinator.errors import StartError
from tests.unit.coordinator.conftest import StartCoordinator

PATHS = ["/", "/status.json", "/metrics", "/livez", "/readyz"]
NASTY = '<img src=x onerror=alert(1)>"\\'


def fetch(url: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read().decode()
    finally:
        connection.close()


def register(control: ControlClient, id_: str = "a-0.1", state: str = "ready") -> None:
    control.request(
        "register",
        {
            "role": "worker",
            "id": id_,
            "pid": 42,
            "host": NASTY,
            "group": "a",
            "slot": 0,
            "version": "1",
            "state": state,
        },
        5,
    )


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_status_has_what_tools_rely_on(start: StartCoordinator, control: ControlClient) -> None:
    coordinator = start()
    register(control)
    code, headers, text = fetch(coordinator.admin_url, "/status.json")
    assert (code, headers["content-type"]) == (200, "application/json")
    status = json.loads(text)
    assert status["version"] == "9.8.7"
    own = status["coordinator"]
    assert {"pid", "started", "sessions", "entropy", "ticket_keys"} <= own.keys()
    assert {"entries", "bytes", "hits", "misses"} <= own["sessions"].keys()
    (worker,) = status["workers"]
    expected = {"id", "pid", "host", "state", "connections", "handshakes", "drbg"}
    assert expected <= worker.keys()
    assert {"full", "resumed"} <= worker["handshakes"].keys()


def test_ready_is_not_alive(start: StartCoordinator, control: ControlClient) -> None:
    url = start().admin_url
    assert fetch(url, "/livez")[0] == 200
    code, _, text = fetch(url, "/readyz")
    assert (code, text) == (503, "not ready: no worker is registered\n")
    register(control, state="starting")
    assert fetch(url, "/readyz")[2] == "not ready: no worker is ready: 1 starting\n"
    control.request("heartbeat", {"id": "a-0.1", "state": "ready", "stats": {}}, 5)
    assert fetch(url, "/readyz")[0] == 200


def test_metrics_show_workers_that_exist_and_no_others(
    start: StartCoordinator, control: ControlClient
) -> None:
    url = start().admin_url
    register(control, "a-0.1")
    register(control, "a-1.1")
    stats = {
        "connections": 3,
        "handshakes": {"full": 5, "resumed": 7},
        "lookups": {
            "hits": 7,
            "misses": {"deadline": 2},
            "server_names": {"a.example": {"hits": 7, "misses": {"deadline": 2}}},
        },
        "ended": {"done": 4},
        "puts": {"sent": 8, "dropped": 1},
        "messages": {"control": {"refused": 6}},
        "drbg": {
            "requests": 50,
            "last_reseed_age": 2.5,
            "last_reseed_reason": "interval",
            "seeded_from": "local",
            "failed": True,
        },
    }
    control.request("heartbeat", {"id": "a-0.1", "state": "ready", "stats": stats}, 5)
    code, headers, text = fetch(url, "/metrics")
    assert code == 200
    assert headers["content-type"].startswith("text/plain; version=")
    found = samples(text)
    worker = ("worker", "a-0.1")
    assert found["shardtls_worker_connections", (worker,)] == 3
    assert found["shardtls_worker_handshakes_total", (("kind", "resumed"), worker)] == 7
    assert found["shardtls_worker_lookup_hits_total", (("server_name", "a.example"), worker)] == 7
    missed = (("reason", "deadline"), ("server_name", "a.example"), worker)
    assert found["shardtls_worker_lookup_misses_total", missed] == 2
    assert found["shardtls_worker_connections_ended_total", (("reason", "done"), worker)] == 4
    assert found["shardtls_worker_session_puts_total", (("outcome", "dropped"), worker)] == 1
    refused = "shardtls_worker_messages_refused_total"
    assert found[refused, (("endpoint", "control"), worker)] == 6
    assert found["shardtls_worker_drbg_requests_total", (worker,)] == 50
    seed = (("reason", "interval"), ("seeded_from", "local"), worker)
    assert found["shardtls_worker_drbg_last_reseed", seed] == 1
    assert found["shardtls_worker_drbg_failed", (worker,)] == 1
    assert found["shardtls_workers", (("state", "ready"),)] == 2
    assert all(name.startswith("shardtls_") for name, _ in found)
    control.request("goodbye", {"id": "a-0.1"}, 5)
    after = samples(fetch(url, "/metrics")[2])
    assert {labels["worker"] for _, pairs in after if "worker" in (labels := dict(pairs))} == {
        "a-1.1"
    }


def test_no_two_series_are_the_same(start: StartCoordinator, control: ControlClient) -> None:
    url = start().admin_url
    register(control)
    text = fetch(url, "/metrics")[2]
    series = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_the_page_is_one_document_that_allows_its_own_code_only(start: StartCoordinator) -> None:
    code, headers, page = fetch(start().admin_url, "/")
    assert code == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert len(re.findall(r"(?:script|style)-src 'sha256-[A-Za-z0-9+/]{43}='", policy)) == 2
    # Nothing is loaded from elsewhere, and no markup is made of what is shown.
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)
    assert not re.search(r"\son[a-z]+=|style=", page)


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_security_headers(start: StartCoordinator, path: str) -> None:
    _, headers, _ = fetch(start().admin_url, path)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_nothing_can_be_changed(start: StartCoordinator, path: str, method: str) -> None:
    assert fetch(start().admin_url, path, method)[0] == 405


def test_other_paths_are_not_found(start: StartCoordinator) -> None:
    url = start().admin_url
    for path in ("/nothing", "/status.json/x", "/../etc/passwd", "//"):
        assert fetch(url, path)[0] == 404


def test_a_broker_that_does_not_answer_is_told_within_a_second() -> None:
    def stopped() -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        future.set_exception(BrokerStoppedError("stopped"))
        return future

    silent: Callable[[], Future[dict[str, Any]]] = Future
    for status in (silent, stopped):
        server = AdminServer("127.0.0.1", 0, status)
        server.start()
        try:
            assert fetch(server.url, "/livez")[0] == 200
            assert fetch(server.url, "/status.json")[0] == 503
            code, _, text = fetch(server.url, "/readyz")
            assert (code, text) == (503, "not ready: the broker does not answer\n")
            assert fetch(server.url, "/metrics")[0] == 503
        finally:
            server.stop()
            server.close()


def test_a_port_in_use_names_the_setting_and_the_remedy(start: StartCoordinator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"admin\.bind: 127\.0\.0\.1:{port} is in use; .*0"):
            start(admin_port=port)


def test_an_address_that_is_not_ours_is_a_start_error(start: StartCoordinator) -> None:
    with pytest.raises(StartError, match=r"admin\.bind: cannot bind"):
        start(admin_host="203.0.113.1")


def test_a_failed_start_leaves_nothing_behind(start: StartCoordinator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StartError):
        start(admin_port=taken.getsockname()[1])
    assert start().alive()


def test_ipv6(start: StartCoordinator) -> None:
    url = start(admin_host="::1").admin_url
    assert url.startswith("http://[::1]:")
    assert fetch(url, "/livez")[0] == 200
