"""PROXY headers: what backends are sent, and what is accepted from balancers."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from shard.worker_settings import ProxySettings, RouteSettings
from tests.backends import Backend, exactly
from tests.certificates import Certificate, issue
from tests.engine.reading import connect, serving
from tests.engine.test_proxy import ended, proxying

TIMEOUT = 5.0
LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
BINARY = bytes.fromhex(
    "0d0a0d0a000d0a515549540a 21 11 000c c0000201 c6336407 dc04 01bb".replace(" ", "")
)


def test_a_backend_is_told_of_the_client(certificate: Certificate) -> None:
    for version in ("v1", "v2"):
        settings = ProxySettings(send_proxy=version)
        with (
            Backend() as backend,
            proxying(certificate, backend.name, proxy=settings) as served,
            connect(served.address, certificate) as client,
        ):
            client.sendall(b"hello")
            with backend.accept() as behind:
                host, port = client.getsockname()
                if version == "v1":
                    line = f"PROXY TCP4 {host} 127.0.0.1 {port} {served.address[1]}\r\n".encode()
                    assert exactly(behind, len(line)) == line
                else:
                    fixed = exactly(behind, 16)
                    rest = exactly(behind, int.from_bytes(fixed[14:], "big"))
                    assert fixed[12:14] == b"\x21\x11"
                    assert rest[:4] == rest[4:8] == socket.inet_aton("127.0.0.1")
                    assert rest[8:10] == port.to_bytes(2, "big")
                    assert rest[10:12] == served.address[1].to_bytes(2, "big")
                    assert b"\x02\x00\x09localhost" in rest
                    assert b"\x21\x00\x07TLSv1.3" in rest
                assert exactly(behind, 5) == b"hello"


def test_another_backend_gets_the_header_too(certificate: Certificate, tmp_path: Path) -> None:
    settings = ProxySettings(send_proxy="v1", retries=1)
    with Backend() as backend:
        names = [f"unix:{tmp_path / 'none'}", backend.name]
        with proxying(certificate, *names, proxy=settings) as served:
            for _ in range(2):
                with connect(served.address, certificate) as client, backend.accept() as behind:
                    client.sendall(b"hello")
                    assert exactly(behind, 11) == b"PROXY TCP4 "
                    while exactly(behind, 1) != b"\n":
                        pass
                    assert exactly(behind, 5) == b"hello"


def test_clients_go_where_their_name_is_routed(tmp_path: Path) -> None:
    certificate = issue(tmp_path, "localhost", "a.example.org", "*.example.net")
    with ExitStack() as stack:
        fallback, exact, wild = (stack.enter_context(Backend()) for _ in range(3))
        settings = ProxySettings(
            routes=(
                RouteSettings(server_name="a.example.org", backends=exact.name),
                RouteSettings(server_name="*.example.net", backends=wild.name),
            )
        )
        served = stack.enter_context(proxying(certificate, fallback.name, proxy=settings))
        for name, backend in [
            ("localhost", fallback),
            ("a.example.org", exact),
            ("b.example.net", wild),
        ]:
            plain = socket.create_connection(served.address, timeout=TIMEOUT)
            with certificate.trust().wrap_socket(plain, server_hostname=name) as client:
                client.sendall(name.encode())
                with backend.accept() as behind:
                    assert exactly(behind, len(name)) == name.encode()


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["v1", "v2"])
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_a_balancers_header_tells_the_clients_address(
    header: bytes, pieces: int, certificate: Certificate
) -> None:
    with serving(certificate, proxy_protocol_from=("127.0.0.0/8",)) as served:
        plain = socket.create_connection(served.address, timeout=TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(header) // pieces)
        for start in range(0, len(header), size):
            plain.sendall(header[start : start + size])
        with certificate.trust().wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"x")
            transport = served.handler().connection
            assert transport.get_extra_info("peername") == ("192.0.2.1", 56324)
            assert transport.get_extra_info("sockname") == ("198.51.100.7", 443)


def test_a_header_and_the_client_hello_in_one_piece(certificate: Certificate) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificate.trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with (
        serving(certificate, proxy_protocol_from=("127.0.0.1",)) as served,
        socket.create_connection(served.address, timeout=TIMEOUT) as plain,
    ):
        first = LINE
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(first + outgoing.read())
                incoming.write(plain.recv(65536))
                first = b""
            else:
                break
        plain.sendall(outgoing.read())
        assert served.handler().connection.get_extra_info("peername") == ("192.0.2.1", 56324)


def test_a_balancer_may_speak_for_itself(certificate: Certificate) -> None:
    with serving(certificate, proxy_protocol_from=("127.0.0.1",)) as served:
        plain = socket.create_connection(served.address, timeout=TIMEOUT)
        plain.sendall(b"PROXY UNKNOWN\r\n")
        with certificate.trust().wrap_socket(plain, server_hostname="localhost") as client:
            transport = served.handler().connection
            assert transport.get_extra_info("peername") == client.getsockname()


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP9\r\n", bytes(64)])
def test_a_balancer_that_sends_none_is_closed(garbage: bytes, certificate: Certificate) -> None:
    with serving(certificate, proxy_protocol_from=("127.0.0.1",)) as served:
        with socket.create_connection(served.address, timeout=TIMEOUT) as plain:
            plain.sendall(garbage)
            assert plain.recv(1) == b""
        ended(served, "proxy_header")


def test_a_balancers_check_without_a_byte_is_no_fault(certificate: Certificate) -> None:
    with serving(certificate, proxy_protocol_from=("127.0.0.1",)) as served:
        socket.create_connection(served.address, timeout=TIMEOUT).close()
        ended(served, "truncated")


def test_from_others_no_header_is_taken(certificate: Certificate) -> None:
    """Or anybody could choose his address."""
    with serving(certificate, proxy_protocol_from=("10.0.0.0/8", "::1")) as served:
        with socket.create_connection(served.address, timeout=TIMEOUT) as plain:
            plain.sendall(LINE)
            assert plain.recv(1) == b"\x15"  # an alert
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(64):
                pass
        ended(served, "alert_sent")
        with connect(served.address, certificate) as client:
            transport = served.handler().connection
            assert transport.get_extra_info("peername") == client.getsockname()
