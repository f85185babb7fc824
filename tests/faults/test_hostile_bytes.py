"""Hostile bytes get an alert or a close; the server goes on, forgets nothing and leaks nothing."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import hostile
from tests.certificates import Certificate
from tests.client import TlsStream, client_context, visit
from tests.hostile import Reaction, client_hello, extensions, pre_shared_key, psk_body, records
from tests.processes import descriptors
from tests.server import PATIENT, Server, running
from tests.waiting import eventually

HANDSHAKE_TIMEOUT = 1.0
PATIENCE = HANDSHAKE_TIMEOUT + 3.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    with running(
        tmp_path_factory.mktemp("hostile"),
        certificate=certificate,
        workers=2,
        arguments=["--handshake-timeout", str(HANDSHAKE_TIMEOUT), *PATIENT],
    ) as started:
        yield started


@pytest.fixture(autouse=True)
def unharmed(server: Server) -> Iterator[None]:
    """Afterwards: the same workers, no connection and no descriptor left, and visits are served."""
    context = client_context(server.certificate)
    visit(server.address, context)
    eventually(lambda: server.connections() == 0, within=5, what="no connection before the test")
    before = {pid: descriptors(pid) for pid in server.worker_pids()}
    yield
    for version in ("TLSv1.3", "TLSv1.2"):
        context = client_context(server.certificate, version)
        session = visit(server.address, context).session
        assert visit(server.address, context, session).resumed
    eventually(lambda: server.connections() == 0, within=5, what="no connection left")
    eventually(
        lambda: {pid: descriptors(pid) for pid in server.worker_pids()} == before,
        within=5,
        what="the same workers with as many descriptors as before",
    )
    server.check_log()


def send(server: Server, *pieces: bytes, until_handshake: bool = True) -> Reaction:
    """Send and see; the server must have closed when patience ends."""
    return hostile.send(server.address, pieces, patience=PATIENCE, until_handshake=until_handshake)


def refused(reaction: Reaction) -> bool:
    """An alert or a close, and no handshake."""
    return (reaction.closed or reaction.alert is not None) and not reaction.went_on


def test_the_builder_builds_what_a_server_accepts(server: Server) -> None:
    """Otherwise the tests below would prove nothing."""
    assert send(server, records(client_hello())).went_on


def test_a_handshake_that_does_not_go_on_is_closed_at_the_deadline(server: Server) -> None:
    reaction = send(server, records(client_hello()), until_handshake=False)
    assert reaction.went_on
    assert reaction.closed


def test_an_empty_handshake_record(server: Server) -> None:
    assert refused(send(server, records(b"")))


def test_a_thousand_empty_handshake_records(server: Server) -> None:
    assert refused(send(server, records(b"") * 1000))


def test_empty_records_before_a_client_hello(server: Server) -> None:
    """RFC 8446 §5.1: zero-length fragments of handshake messages are not allowed."""
    assert refused(send(server, records(b"") * 3 + records(client_hello())))


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0", b"\0\0\0"])
def test_a_psk_extension_under_four_bytes(server: Server, body: bytes) -> None:
    reaction = send(server, records(pre_shared_key(body)))
    assert refused(reaction)
    assert reaction.alert in ("decode_error", "illegal_parameter")


def test_a_psk_identity_of_no_bytes(server: Server) -> None:
    """§4.2.11: an identity has 1 byte or more."""
    reaction = send(server, records(pre_shared_key(psk_body(b""))))
    assert reaction.closed or reaction.alert is not None or reaction.went_on


@pytest.mark.parametrize("length", [1, 31, 32, 33, 1000, 40_000])
def test_a_psk_identity_that_is_not_ours_is_a_full_handshake(server: Server, length: int) -> None:
    reaction = send(server, records(pre_shared_key(psk_body(os.urandom(length)))))
    assert reaction.went_on
    assert reaction.alert is None


def test_a_psk_identity_longer_than_its_extension(server: Server) -> None:
    body = b"\xff\xff" + b"\xff\xff" + bytes(100)
    assert refused(send(server, records(pre_shared_key(body))))


def test_many_psk_identities(server: Server) -> None:
    """More than are ever looked up."""
    body = psk_body(*[os.urandom(32) for _ in range(400)])
    assert send(server, records(pre_shared_key(body))).went_on


def test_one_byte_at_a_time(server: Server) -> None:
    message = records(client_hello(session_id=os.urandom(32)))
    reaction = send(server, *[message[at : at + 1] for at in range(len(message))])
    assert reaction.went_on


def test_one_byte_in_each_record(server: Server) -> None:
    reaction = send(server, records(client_hello(), size=1))
    assert reaction.went_on or refused(reaction)


def test_a_compressed_p256_share(server: Server) -> None:
    """RFC 8446 §4.2.8.2: points are uncompressed."""
    share = b"\x02" + bytes.fromhex(
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    )
    reaction = send(server, records(client_hello(extensions(group=hostile.SECP256R1, share=share))))
    assert refused(reaction)
    assert reaction.alert == "illegal_parameter"


@pytest.mark.parametrize(
    ("group", "share"),
    [
        (hostile.SECP256R1, b"\x04" + bytes(64)),
        (hostile.SECP256R1, b"\x00"),
        (hostile.SECP256R1, b""),
        (hostile.X25519, bytes(31)),
        (hostile.X25519, bytes(33)),
        (hostile.X25519, bytes(32)),  # a point of small order: the secret would be zero (§7.4.2)
    ],
)
def test_a_share_that_is_no_point(server: Server, group: int, share: bytes) -> None:
    reaction = send(server, records(client_hello(extensions(group=group, share=share))))
    assert refused(reaction)
    assert reaction.alert in ("illegal_parameter", "decode_error")


def test_a_client_hello_over_the_cap(server: Server) -> None:
    """More than 64 KiB is not collected."""
    assert refused(send(server, records(client_hello(padding=70_000))))


def test_a_client_hello_that_claims_sixteen_mebibytes(server: Server) -> None:
    claims = bytes([1]) + b"\xff\xff\xff"
    assert refused(send(server, records(claims + bytes(1000))))


@pytest.mark.parametrize("padding", [20_000, 60_000])
def test_a_large_client_hello_under_the_cap(server: Server, padding: int) -> None:
    assert send(server, records(client_hello(padding=padding))).went_on


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes(server: Server, seed: int) -> None:
    assert refused(send(server, random.Random(seed).randbytes(2000)))


@pytest.mark.parametrize("seed", range(24))
def test_a_client_hello_with_some_bytes_changed(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    message = bytearray(records(pre_shared_key(psk_body(os.urandom(32)))))
    for _ in range(chance.randint(1, 4)):
        message[chance.randrange(5, len(message))] = chance.randrange(256)
    reaction = send(server, bytes(message))
    assert reaction.closed or reaction.alert is not None or reaction.went_on


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"SSH-2.0-client\r\n", b"\r\n" * 40]
)
def test_plain_text(server: Server, text: bytes) -> None:
    assert refused(send(server, text))


def test_every_cut_of_a_client_hello(server: Server) -> None:
    """The client goes away in the middle of it."""
    message = records(pre_shared_key(psk_body(os.urandom(32), os.urandom(32))))
    for cut in range(0, len(message), 7):
        hostile.send(server.address, [message[:cut]], patience=0.001)


def test_other_records_first(server: Server) -> None:
    for kind in (20, 21, 23, 24, 99):
        assert refused(send(server, records(b"\x01", kind=kind)))


def test_garbage_after_the_handshake_closes_that_connection_alone(server: Server) -> None:
    with TlsStream(server.address, client_context(server.certificate)) as victim:
        victim.facts()
        other = TlsStream(server.address, client_context(server.certificate))
        other.facts()
        os.set_blocking(other.tls.fileno(), True)  # a socket with a timeout is not
        os.write(other.tls.fileno(), records(os.urandom(64), kind=23))
        reply = os.read(other.tls.fileno(), 4096)
        assert reply[:1] in (b"", b"\x15", b"\x17")
        other.tls.close()
        victim.facts()


def test_the_cap_is_not_paid_by_the_worker(server: Server) -> None:
    """A hundred clients that each stop just under the cap: memory stays in bounds."""

    def resident() -> int:
        total = 0
        for pid in server.worker_pids():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total

    before = resident()
    message = records(client_hello(padding=60_000))[:-100]
    with ExitStack() as stack:
        for _ in range(100):
            plain = stack.enter_context(socket.create_connection(server.address, timeout=5))
            plain.sendall(message)
        assert resident() - before < 100 * 4 * 64 * 1024
