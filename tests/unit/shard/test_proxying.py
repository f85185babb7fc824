"""The proxy's decisions: headers byte by byte, which backend is next and is up, who goes where."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from shard.proxying.header import ClientFacts, header_v1, header_v2
from shard.proxying.pool import LEAST_CONNECTIONS, Backend, Health, Pool
from shard.proxying.routes import Routes
from shard.proxying.watch import Resolver, check
from shard.settings.backend import BackendName
from tests.backends import Backend as Listening
from tests.backends import unanswering
from tests.ports import free_port

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def facts(**changes: object) -> ClientFacts:
    values: dict[str, object] = {
        "source": ("192.0.2.1", 56324),
        "destination": ("198.51.100.7", 443),
        "version": "TLSv1.3",
        "cipher": "TLS_AES_128_GCM_SHA256",
    }
    return ClientFacts(**(values | changes))  # type: ignore[arg-type]


def backends(count: int, health: Health | None = None) -> list[Backend]:
    return [Backend(BackendName("10.0.0.1", 1 + n), health or Health()) for n in range(count)]


def test_a_header_of_version_1() -> None:
    assert header_v1(facts()) == b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
    six = facts(source=("2001:db8::1", 1), destination=("::1", 65535))
    assert header_v1(six) == b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"
    assert header_v1(facts(source=("::1", 1))) == b"PROXY UNKNOWN\r\n"


def test_a_header_of_version_2() -> None:
    ssl = (
        bytes.fromhex("01 00000001")
        + b"\x21\x00\x07TLSv1.3"
        + b"\x23\x00\x16TLS_AES_128_GCM_SHA256"
    )
    addresses = bytes.fromhex("c0000201 c6336407 dc04 01bb")
    rest = addresses + b"\x20" + len(ssl).to_bytes(2, "big") + ssl
    assert header_v2(facts()) == SIGNATURE + b"\x21\x11" + len(rest).to_bytes(2, "big") + rest


def test_all_that_a_header_of_version_2_can_tell() -> None:
    header = header_v2(
        facts(
            source=("2001:db8::1", 1),
            destination=("::1", 2),
            alpn="h2",
            server_name="a.example.org",
            certified=True,
            common_name="Zoë",
        )
    )
    assert header[:14] == SIGNATURE + b"\x21\x21"
    assert int.from_bytes(header[14:16], "big") == len(header) - 16
    assert header[48:52] == b"\x00\x01\x00\x02"
    assert b"\x01\x00\x02h2" + b"\x02\x00\x0da.example.org" + b"\x20" in header
    assert bytes.fromhex("07 00000000") + b"\x21" in header
    assert b"\x22\x00\x04" + "Zoë".encode() in header
    resumed = header_v2(facts(certified=True, resumed=True))
    assert bytes.fromhex("05 00000000") + b"\x21" in resumed


def test_a_header_of_version_2_without_a_common_family() -> None:
    header = header_v2(facts(source=("::1", 1)))
    assert header[12:14] == b"\x21\x00"
    assert header[16] == 0x20


def test_backends_take_turns() -> None:
    pool = Pool(backends(3))
    chosen = [pool.take() for _ in range(6)]
    assert {item and item.name.port for item in chosen[:3]} == {1, 2, 3}
    assert chosen[:3] == chosen[3:]
    assert [item.connections for item in pool.backends] == [2, 2, 2]


def test_the_one_with_the_fewest_connections() -> None:
    first, second, third = several = backends(3)
    pool = Pool(several, LEAST_CONNECTIONS)
    first.taken()
    third.taken()
    assert pool.take() is second
    second.taken()
    first.given_back()
    assert pool.take() is first


def test_those_that_were_tried_are_not_chosen_again() -> None:
    first, second = several = backends(2)
    pool = Pool(several)
    assert pool.take([first]) is second
    assert pool.take([second]) is first
    assert pool.take(several) is None


def is_up(backend: Backend) -> bool:
    return backend.up


def test_a_backend_falls_and_rises() -> None:
    first, second = several = backends(2, Health(rise=2, fall=3))
    pool = Pool(several)
    first.checked("refused")
    first.failed("refused")
    first.checked(None)  # in a row
    first.checked("refused")
    first.failed("refused")
    assert is_up(first)
    first.failed("refused")
    assert not is_up(first)
    assert (first.failures, second.failures) == (3, 0)
    assert [pool.take() for _ in range(4)] == [second] * 4
    first.checked(None)
    first.checked("refused")
    first.checked(None)
    assert not is_up(first)
    first.checked(None)
    assert is_up(first)
    assert first in (pool.take(), pool.take())


def test_if_all_are_down_all_are_tried() -> None:
    several = backends(2, Health(fall=1))
    for item in several:
        item.failed("refused")
    pool = Pool(several)
    assert {pool.take(), pool.take()} == set(several)


def test_without_checks_none_is_ever_down() -> None:
    (only,) = backends(1, Health(fall=0))
    for _ in range(10):
        only.failed("refused")
    assert only.up


def test_addresses_take_turns() -> None:
    backend = Backend(BackendName("name.example.org", 1), Health())
    assert backend.address() is None
    backend.addresses = (("10.0.0.1", 1), ("10.0.0.2", 1))
    assert {backend.address(), backend.address()} == set(backend.addresses)


def test_routes() -> None:
    fallback, exact, wild = (Pool(backends(1)) for _ in range(3))
    routes = Routes(fallback, [("a.example.org", exact), ("*.example.org", wild)])
    assert routes.find("A.example.org") is exact
    assert routes.find("b.example.org") is wild
    for name in (None, "example.org", "b.a.example.org", "example.com", ""):
        assert routes.find(name) is fallback


def test_a_check_tells_what_is_wrong(tmp_path: Path) -> None:
    silent, filling = unanswering()
    with Listening() as tcp, Listening(tmp_path / "s") as unix:
        nobody = free_port()
        found = check(
            [
                ("127.0.0.1", tcp.port),
                str(tmp_path / "s"),
                ("127.0.0.1", nobody),
                str(tmp_path / "none"),
                ("127.0.0.1", silent.port),
            ],
            0.2,
        )
        assert list(found.values()).count(None) == 2
        assert found["127.0.0.1", tcp.port] is None
        assert found[str(tmp_path / "s")] is None
        assert found["127.0.0.1", nobody] == "Connection refused"
        assert found[str(tmp_path / "none")] == "No such file or directory"
        assert found["127.0.0.1", silent.port] == "no answer"
        unix.accept().close()
    silent.close()
    for stream in filling:
        stream.close()


def test_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1)),
    ]

    def looked_up(host: str, port: int, **_: object) -> object:
        if host == "unknown":
            raise socket.gaierror(-2, "Name or service not known")
        return answers

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    known, unknown, kept, plain = (
        Backend(BackendName(host, 1), Health()) for host in ("known", "unknown", "unknown", "::2")
    )
    kept.addresses = (("10.0.0.1", 1),)
    resolver = Resolver([known, unknown, kept, plain], interval=60)
    resolver.start()
    resolver.stop()
    assert known.addresses == (("::1", 1), ("127.0.0.1", 1))
    assert unknown.addresses == ()
    assert kept.addresses == (("10.0.0.1", 1),)
    assert plain.addresses == (("::2", 1),)
