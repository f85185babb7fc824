"""``--app wsgi:…``: Flask and Django; and Django as ASGI."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.certificates import Certificate
from tests.server import Server, running

SLOW = 20.0


def client_of(server: Server, certificate: Certificate) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://localhost:{server.port}", verify=certificate.trust(), timeout=SLOW
    )


@pytest.fixture(scope="module")
def flask(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[httpx.Client]:
    arguments = ["--app", "wsgi:tests.applications.flask_app:app", "--threads", "3"]
    folder = tmp_path_factory.mktemp("flask")
    with (
        running(folder, certificate=certificate, workers=1, arguments=arguments) as server,
        client_of(server, certificate) as client,
    ):
        yield client


def test_flask_knows_that_it_is_https(flask: httpx.Client) -> None:
    shown = flask.get("/environ?x=1").json()
    assert shown["url"] == f"{flask.base_url}/environ?x=1"
    assert (shown["scheme"], shown["remote"]) == ("https", "127.0.0.1")
    assert shown["tls"]["tls_version"] == 0x0304


def test_bodies_of_megabytes_go_both_ways(flask: httpx.Client) -> None:
    body = os.urandom(4 * 1024 * 1024)
    told = flask.post("/digest", content=body).json()
    assert told == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    streamed = flask.get("/stream/64").content
    assert streamed == b"".join(bytes([number]) * 65536 for number in range(64))


def test_requests_run_on_a_bounded_pool(flask: httpx.Client) -> None:
    """Three at a time; a fourth waits for a thread."""
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: flask.get("/together"), range(6)))
    assert [answer.status_code for answer in found] == [200] * 6
    assert len({answer.text for answer in found}) == 3


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_django(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate, kind: str
) -> None:
    arguments = ["--app", f"{kind}:tests.applications.django_app:{kind}"]
    folder = tmp_path_factory.mktemp("django")
    with (
        running(folder, certificate=certificate, workers=1, arguments=arguments) as server,
        client_of(server, certificate) as client,
    ):
        for number in range(3):
            assert client.post(f"/show/{number}?q=1", content=bytes(100_000)).json() == {
                "number": number,
                "secure": True,
                "url": f"{client.base_url}/show/{number}?q=1",
                "size": 100_000,
            }
        assert client.get("/nowhere").status_code == 404
