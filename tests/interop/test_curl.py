"""``curl`` as the client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interop.dialog import answer
from tests.peers import peer
from tests.server import Server

PATHS = ("/json", "/bytes/")


def curl(server: Server, *arguments: str) -> str:
    """Run it; paths stand for URLs of the server."""
    base = f"https://localhost:{server.port}"
    return answer(
        [
            *(peer("curl"), "--silent", "--show-error", "--fail", "--http1.1"),
            *("--noproxy", "*", "--cacert", str(server.certificate.authority)),
            *("--resolve", f"localhost:{server.port}:{server.host}"),
            *(f"{base}{word}" if word.startswith(PATHS) else word for word in arguments),
        ]
    )


@pytest.mark.parametrize("limit", ["--tls-max=1.2", "--tlsv1.3"])
def test_json(hello: Server, limit: str) -> None:
    facts = json.loads(curl(hello, *limit.split("="), "/json"))
    assert facts["version"] == ("TLSv1.2" if "1.2" in limit else "TLSv1.3")
    assert facts["sni"] == "localhost"
    assert facts["alpn"] == "http/1.1"


def test_a_connection_is_kept_alive(hello: Server) -> None:
    text = curl(hello, "--write-out", "%{num_connects};", *["/bytes/0"] * 5)
    assert text == "1;0;0;0;0;"


def test_head(hello: Server) -> None:
    text = curl(hello, "--head", "/bytes/1234")
    assert text.startswith("HTTP/1.1 200")
    assert "content-length: 1234" in text.lower()


@pytest.mark.parametrize("length", [1, 100_000, 20_000_000])
def test_a_download(hello: Server, length: int, tmp_path: Path) -> None:
    file = tmp_path / "download"
    curl(hello, "--output", str(file), f"/bytes/{length}")
    assert file.stat().st_size == length


def test_the_page(hello: Server) -> None:
    assert "<html" in curl(hello, f"https://localhost:{hello.port}/").lower()
