"""``--app asgi:…``: a FastAPI application and its HTTP clients."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
from collections.abc import Iterator

import httpx
import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, client_context
from tests.integration.conftest import notes
from tests.server import Server
from tests.waiting import eventually

SLOW = 20.0
"""Seconds for what takes its time on a busy machine."""


@pytest.fixture
def client(fastapi: Server, certificate: Certificate) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"https://localhost:{fastapi.port}", verify=certificate.trust(), timeout=SLOW
    ) as client:
        yield client


def until(stream: TlsStream, end: bytes) -> bytes:
    """What is received up to `end`."""
    received = b""
    while not received.endswith(end):
        chunk = stream.tls.recv(65536)
        assert chunk, received
        received += chunk
    return received


def test_the_scope_has_what_a_browser_and_tls_bring(
    fastapi: Server, certificate: Certificate
) -> None:
    context = client_context(certificate, "TLSv1.3")
    with TlsStream(fastapi.address, context) as stream:
        first = httpx.Response(200, content=stream.get("/scope?x=1")).json()
        host, port = stream.tls.getsockname()
        session = stream.tls.session
    assert first["scheme"] == "https"
    assert first["url"] == "https://localhost/scope?x=1"
    assert first["client"] == [host, port]
    assert first["server"] == ["127.0.0.1", fastapi.port]
    assert first["state"] == "a pool of connections"
    assert first["http_version"] == "1.1"
    (worker,) = fastapi.workers()
    assert first["extensions"]["shardtls"] == {"resumed": False, "worker": worker["id"]}
    tls = first["extensions"]["tls"]
    assert tls["tls_version"] == 0x0304
    assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert (tls["client_cert_chain"], tls["client_cert_name"]) == ([], None)
    with TlsStream(fastapi.address, context, session=session) as stream:
        again = httpx.Response(200, content=stream.get("/scope")).json()
    assert again["extensions"]["shardtls"]["resumed"] is True


def test_requests_share_a_connection(client: httpx.Client) -> None:
    seen = {tuple(client.get("/scope").json()["client"]) for _ in range(3)}
    assert len(seen) == 1
    assert client.get("/items/7?q=seven").json() == {"number": 7, "q": "seven"}
    assert client.get("/items/x").status_code == 422
    assert client.get("/nowhere").status_code == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_arrives_whole(client: httpx.Client, chunked: bool) -> None:
    body = os.urandom(8 * 1024 * 1024)
    parts = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
    answer = client.post("/digest", content=parts if chunked else body)
    assert answer.json() == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}


def test_a_stream_goes_both_ways_at_once(fastapi: Server, certificate: Certificate) -> None:
    """Each part comes back before the next is sent."""
    with TlsStream(fastapi.address, client_context(certificate)) as stream:
        head = "POST /relay/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        stream.tls.sendall(head.encode())
        for number in range(10):
            part = b"64\r\n%b\r\n" % (b"%d" % number * 100)
            stream.tls.sendall(part)
            until(stream, part)
        stream.tls.sendall(b"0\r\n\r\n")
        assert until(stream, b"0\r\n\r\n") == b"0\r\n\r\n"


def test_a_slow_client_holds_its_own_stream_back(
    client: httpx.Client, fastapi: Server, certificate: Certificate
) -> None:
    chunks = 1024  # 64 MiB
    with TlsStream(fastapi.address, client_context(certificate), timeout=SLOW) as slow:
        slow.tls.sendall(f"GET /stream/{chunks} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        slow.tls.recv(1)
        before = -1

        def stands_still() -> bool:
            nonlocal before
            last, before = before, int(client.get("/sent").text)
            return 0 < last == before

        eventually(stands_still, within=SLOW, what="the application is held back", every=0.1)
        assert before < chunks / 2
        received = 0
        while received < chunks * 65536:
            chunk = slow.tls.recv(1024 * 1024)
            assert chunk
            received += len(chunk)
    assert int(client.get("/sent").text) == chunks


def test_a_slow_application_holds_its_client_back(
    client: httpx.Client, fastapi: Server, certificate: Certificate
) -> None:
    size = 64 * 1024 * 1024
    with TlsStream(fastapi.address, client_context(certificate), timeout=SLOW) as stream:
        head = f"POST /slow-reader HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"
        stream.tls.sendall(head.encode())
        stream.tls.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < size:
                sent += stream.tls.send(bytes(16384))
        assert sent < size / 2
        client.get("/go")
        stream.tls.settimeout(SLOW)
        while sent < size:
            sent += stream.tls.send(bytes(min(16384, size - sent)))
        assert stream.tls.recv(4096).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_are_answered_in_order(
    fastapi: Server, certificate: Certificate
) -> None:
    with TlsStream(fastapi.address, client_context(certificate)) as stream:
        requests = [f"GET /items/{n} HTTP/1.1\r\nHost: h\r\n\r\n" for n in range(10)]
        stream.tls.sendall("".join(requests).encode())
        received = until(stream, b'{"number":9,"q":""}')
    at = [received.index(f'{{"number":{n},'.encode()) for n in range(10)]
    assert at == sorted(at)


def test_a_client_may_wait_for_continue(fastapi: Server, certificate: Certificate) -> None:
    with TlsStream(fastapi.address, client_context(certificate)) as stream:
        head = (
            "POST /digest HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        stream.tls.sendall(head.encode())
        assert stream.tls.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        stream.tls.sendall(b"abc")
        assert b'"size":3' in stream.tls.recv(4096)


@pytest.mark.parametrize("how", ["reset", "close_notify"])
def test_a_client_that_goes_away_is_told_to_the_application(
    fastapi: Server, certificate: Certificate, how: str
) -> None:
    waiting, gone = notes(fastapi).count("waiting"), notes(fastapi).count("client gone")
    stream = TlsStream(fastapi.address, client_context(certificate))
    stream.tls.sendall(b"GET /wait?x HTTP/1.1\r\nHost: h\r\n\r\n")
    eventually(lambda: notes(fastapi).count("waiting") > waiting, within=SLOW, what="the request")
    if how == "reset":
        stream.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.tls.close()
    else:
        stream.close()
    eventually(lambda: notes(fastapi).count("client gone") > gone, within=SLOW, what="the news")


def test_nonsense_is_answered_with_400(fastapi: Server, certificate: Certificate) -> None:
    with TlsStream(fastapi.address, client_context(certificate)) as stream:
        stream.tls.sendall(b"\0\1\2 nonsense\r\n\r\n")
        received = stream.tls.recv(4096)
        assert received.startswith(b"HTTP/1.1 400")
        assert stream.tls.recv(1) == b""


def test_a_head_and_its_body_leave_as_one_record(fastapi: Server, certificate: Certificate) -> None:
    """Which is one system call here and one segment on the wire."""
    with TlsStream(fastapi.address, client_context(certificate)) as stream:
        for _ in range(3):
            stream.tls.sendall(b"GET /items/1 HTTP/1.1\r\nHost: h\r\n\r\n")
            # A read of OpenSSL's gives a record at most.
            assert stream.tls.recv(65536).endswith(b'{"number":1,"q":""}')


def test_every_request_is_a_line_of_the_log(client: httpx.Client, fastapi: Server) -> None:
    client.get("/items/4711?q=%41")
    line = '"GET /items/4711?q=%41 HTTP/1.1" 200'
    eventually(lambda: line in fastapi.log.read_text(), within=SLOW, what="the access log")


def test_http_1_1_is_what_alpn_says(fastapi: Server, certificate: Certificate) -> None:
    context = client_context(certificate, alpn=["h2", "http/1.1"])
    with TlsStream(fastapi.address, context) as stream:
        assert stream.tls.selected_alpn_protocol() == "http/1.1"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TlsStream(fastapi.address, client_context(certificate, alpn=["h2"]))
