"""What the built-in ``hello`` answers: tools rely on it."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.client import TlsStream, client_context, offer_group
from tests.server import Server


def fetch(stream: TlsStream, method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
    """One request on an open connection."""
    stream.tls.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = http.client.HTTPResponse(stream.tls, method=method)
    answer.begin()
    return answer, answer.read()


@pytest.fixture
def stream(hello: Server) -> TlsStream:
    return TlsStream(hello.address, client_context(hello.certificate))


def test_json_tells_the_facts_of_the_connection(hello: Server) -> None:
    context = client_context(hello.certificate, "TLSv1.3", alpn=["http/1.1"])
    offer_group(context, "X25519")
    with TlsStream(hello.address, context) as stream:
        host, port = stream.tls.getsockname()
        facts = stream.facts()
        cipher = stream.tls.cipher()
    assert cipher is not None
    assert facts["worker"] in {worker["id"] for worker in hello.workers()}
    assert facts["version"] == "TLSv1.3"
    assert facts["cipher"] == cipher[0]
    assert facts["group"].lower() == "x25519"
    assert facts["resumed"] is False
    assert facts["resumption"] is None
    assert facts["sni"] == "localhost"
    assert facts["alpn"] == "http/1.1"
    assert facts["peer"] == f"{host}:{port}"


def test_json_of_a_tls12_connection(hello: Server) -> None:
    context = client_context(hello.certificate, "TLSv1.2")
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with TlsStream(hello.address, context) as stream:
        facts = stream.facts()
    assert facts["version"] == "TLSv1.2"
    assert facts["cipher"] == "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    assert facts["alpn"] is None


def test_the_page_shows_the_same_to_people(stream: TlsStream) -> None:
    with stream:
        answer, body = fetch(stream, "GET", "/")
        facts = stream.facts()
    assert answer.status == 200
    assert answer.headers.get_content_type() == "text/html"
    for fact in ("worker", "version", "cipher"):
        assert facts[fact] in body.decode()


@pytest.mark.parametrize("length", [0, 1, 16384, 16385, 3_000_000])
def test_bytes_sends_as_many_as_are_asked_for(stream: TlsStream, length: int) -> None:
    with stream:
        answer, body = fetch(stream, "GET", f"/bytes/{length}")
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(length)
    assert len(body) == length


def test_a_connection_serves_many_requests(stream: TlsStream) -> None:
    with stream:
        workers = {stream.facts()["worker"] for _ in range(20)}
    assert len(workers) == 1


def test_requests_may_be_sent_ahead(stream: TlsStream) -> None:
    """Pipelining (RFC 9112 §9.3.2): answers come in the order of the requests."""
    with stream:
        stream.tls.sendall(
            b"".join(
                b"GET /bytes/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % length
                for length in (3, 5, 7)
            )
        )
        received = b""
        while received.count(b"\r\n\r\n") < 3 or len(received.rpartition(b"\r\n\r\n")[2]) < 7:
            chunk = stream.tls.recv(4096)
            assert chunk
            received += chunk
    heads = [
        part for part in received.split(b"\r\n") if part.lower().startswith(b"content-length:")
    ]
    assert [int(head.partition(b":")[2]) for head in heads] == [3, 5, 7]


def test_head_has_the_headers_alone(stream: TlsStream) -> None:
    with stream:
        answer, body = fetch(stream, "HEAD", "/json")
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 0
        assert body == b""
        assert json.loads(stream.get("/json"))["resumed"] is False


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/bytes/many", 400),
        ("GET", "/bytes/-1", 400),
        ("POST", "/json", 405),
    ],
)
def test_what_there_is_not_is_refused(
    stream: TlsStream, method: str, path: str, status: int
) -> None:
    with stream:
        answer, _ = fetch(stream, method, path)
    assert answer.status == status


@pytest.mark.parametrize("nonsense", [b"\0\xff\r\n\r\n", b"GET\r\n\r\n", b"SSH-2.0-client\r\n"])
def test_what_is_not_http_is_answered_with_an_error_and_a_close(
    stream: TlsStream, nonsense: bytes
) -> None:
    with stream:
        stream.tls.sendall(nonsense)
        received = b""
        while chunk := stream.tls.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 400 ") or received == b""


def test_connection_close_is_honoured(stream: TlsStream) -> None:
    with stream:
        stream.tls.sendall(b"GET /bytes/4 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := stream.tls.recv(4096):  # a close without close_notify would raise
            received += chunk
    assert len(received.partition(b"\r\n\r\n")[2]) == 4
