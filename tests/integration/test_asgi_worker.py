"""``--app asgi:…`` and the life of a worker: lifespan, drain, stop, and what cannot start."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import httpx
import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, client_context
from tests.integration.conftest import notes
from tests.server import Server, running
from tests.waiting import eventually

SLOW = 20.0
APP = "asgi:tests.applications.fastapi_app:app"


def answer(stream: TlsStream) -> tuple[http.client.HTTPResponse, bytes]:
    found = http.client.HTTPResponse(stream.tls)
    found.begin()
    return found, found.read()


def test_a_drain_finishes_requests_and_ends_the_lifespan(
    tmp_path: Path, certificate: Certificate
) -> None:
    with running(
        tmp_path,
        certificate=certificate,
        workers=1,
        arguments=["--app", APP, "--root-path", "/api", "--keep-alive", "60"],
        environment={"NOTES_OF_FASTAPI_APP": str(tmp_path / "notes.txt")},
    ) as server:
        context = client_context(certificate)
        idle, busy = (TlsStream(server.address, context, timeout=SLOW) for _ in range(2))
        assert json.loads(idle.get("/scope"))["path"] == "/api/scope"
        busy.tls.sendall(b"GET /wait?seconds=1 HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: "waiting" in notes(server), within=SLOW, what="the request")
        (worker,) = server.workers()
        assert server.command("drain", worker["id"]).returncode == 0
        assert idle.tls.recv(1) == b""  # closed at once
        idle.close()
        found, body = answer(busy)
        assert (found.status, body) == (200, b'"waited"')
        assert found.headers["connection"] == "close"
        assert busy.tls.recv(1) == b""
        busy.close()
        # The successor has started by then.
        expected = ["startup", "waiting", "startup", "went on", "after the answer", "shutdown"]
        eventually(lambda: notes(server) == expected, within=SLOW, what=str(expected))
        server.wait_ready(1)
    assert notes(server) == [*expected, "shutdown"]


def failing(tmp_path: Path, certificate: Certificate, *arguments: str, **environment: str) -> str:
    """Start a server that cannot start; its log."""
    with pytest.raises(AssertionError, match="ended with 3"):
        start(tmp_path, certificate, *arguments, **environment)
    return (tmp_path / "server.log").read_text()


def start(tmp_path: Path, certificate: Certificate, *arguments: str, **environment: str) -> Server:
    with running(
        tmp_path,
        certificate=certificate,
        workers=1,
        arguments=arguments,
        environment=environment,
    ) as server:
        return server


def test_a_startup_that_fails_is_the_reason_why_the_server_does_not_start(
    tmp_path: Path, certificate: Certificate
) -> None:
    log = failing(tmp_path, certificate, "--app", APP, FAIL="startup")
    assert "startup failed: RuntimeError: the database is not there" in log


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("asgi:no_such_module:app", "there is no module no_such_module"),
        ("asgi:tests.applications.fastapi_app:nothing", "has no nothing"),
        ("wsgi:tests.applications.fastapi_app:NOTES", "it must be a WSGI application"),
    ],
)
def test_a_wrong_name_is_said_without_a_traceback(
    tmp_path: Path, certificate: Certificate, app: str, says: str
) -> None:
    log = failing(tmp_path, certificate, "--app", app)
    assert says in log
    assert "Traceback" not in log


def test_several_event_loops_for_one_application_are_refused(
    tmp_path: Path, certificate: Certificate
) -> None:
    with pytest.raises(AssertionError, match=r"raise server\.workers instead"):
        start(tmp_path, certificate, "--app", APP, "--readers", "2")


def test_http_2_by_alpn(tmp_path: Path, certificate: Certificate) -> None:
    """For those who ask for it: by uvicorn's own classes for zttp."""
    arguments = ["--app", APP, "--alpn", "h2,http/1.1"]
    with running(tmp_path, certificate=certificate, workers=1, arguments=arguments) as server:
        url = f"https://localhost:{server.port}"
        with TlsStream(server.address, client_context(certificate)) as stream:
            assert json.loads(stream.get("/scope"))["http_version"] == "1.1"
        with httpx.Client(verify=certificate.trust(), http2=True, timeout=SLOW) as client:
            body = bytes(1024 * 1024)
            for _ in range(2):
                scope = client.get(f"{url}/scope")
                assert (scope.http_version, scope.json()["http_version"]) == ("HTTP/2", "2")
                assert scope.json()["extensions"]["tls"]["tls_version"] == 0x0304
                assert client.post(f"{url}/digest", content=body).json()["size"] == len(body)
                assert len(client.get(f"{url}/stream/16").content) == 16 * 65536
