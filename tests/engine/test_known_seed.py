"""Where the random bytes of a handshake come from: with a known seed an independent CTR_DRBG
predicts them, on the wire, in the order in which they are drawn.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from trustme import KeyType

from shard import _engine
from tests.certificates import Certificate, issue
from tests.client import TIMEOUT, client_context, offer_group
from tests.engine.known_seed import (
    PERSONALIZATION,
    SEED,
    TOP,
    KnownSeedServer,
    known_seed_engine,
    serving,
)
from tests.engine.prediction import CURVES, X25519, Prediction, answer, converse
from tests.hostile import HANDSHAKE, client_hello, extensions, parse, records

GROUPS = {"x25519": ("X25519", X25519)} | {
    name: ({"secp256r1": "prime256v1"}.get(name, name), code) for name, (code, _) in CURVES.items()
}
"""By IANA name: OpenSSL's name and the code point."""
X25519MLKEM768 = 0x11EC


@pytest.fixture
def server(engine_certificate: Certificate) -> Iterator[KnownSeedServer]:
    with serving(engine_certificate) as started:
        yield started


@pytest.fixture
def prediction() -> Prediction:
    return Prediction(SEED, PERSONALIZATION)


def client(certificate: Certificate, version: str, group: str) -> ssl.SSLContext:
    """A client that offers one group."""
    context = client_context(certificate, version)
    offer_group(context, GROUPS[group][0])
    return context


@pytest.mark.parametrize("group", GROUPS)
def test_tls_1_3_random_share_and_tickets_are_as_predicted(
    server: KnownSeedServer, engine_certificate: Certificate, prediction: Prediction, group: str
) -> None:
    for _ in range(3):
        stream, session = converse(server.address, client(engine_certificate, "TLSv1.3", group))
        got = answer(stream)
        assert got.random == prediction.random()
        assert (got.group, got.share) == (GROUPS[group][1], prediction.share(group))
        _, second = prediction.ticket(), prediction.ticket()
        assert session is not None
        # OpenSSL names a TLS 1.3 session by the hash of its ticket.
        assert session.id == hashlib.sha256(second).digest()


@pytest.mark.parametrize("group", GROUPS)
def test_tls_1_2_random_session_id_and_share_are_as_predicted(
    tmp_path: Path, prediction: Prediction, group: str
) -> None:
    # An RSA key, as a client's groups limit the curve of an ECDSA key too (RFC 8422 §5.1).
    certificate = issue(tmp_path, key_type=KeyType.RSA)
    with serving(certificate) as server:
        for _ in range(3):
            stream, _session = converse(server.address, client(certificate, "TLSv1.2", group))
            got = answer(stream)
            # A server that could do TLS 1.3 says so in the last 8 bytes (RFC 8446 §4.1.3).
            assert got.random == prediction.random()[:24] + b"DOWNGRD\x01"
            assert got.session_id == prediction.session_id()
            assert (got.group, got.share) == (GROUPS[group][1], prediction.share(group))


def test_a_hybrid_share_is_taken_by_default_and_its_x25519_half_is_as_predicted(
    server: KnownSeedServer, prediction: Prediction
) -> None:
    # As browsers do: the hybrid first, X25519 alone for servers that do not know it. An
    # encapsulation key of zeros is well-formed (FIPS 203 §7.2): each coefficient is below q.
    x25519 = bytes([9]) + bytes(31)
    offers = [(X25519MLKEM768, bytes(1184) + x25519), (X25519, x25519)]
    shares = b"".join(struct.pack(">HH", group, len(key)) + key for group, key in offers)
    replaced = {
        10: struct.pack(">HHH", 4, X25519MLKEM768, X25519),
        51: struct.pack(">H", len(shares)) + shares,
    }
    hello = client_hello([(kind, replaced.get(kind, body)) for kind, body in extensions()])
    stream = b""
    with socket.create_connection(server.address, timeout=TIMEOUT) as plain:
        plain.sendall(records(hello))
        while HANDSHAKE not in [kind for kind, _ in parse(stream)]:
            stream += plain.recv(65536)
    got = answer(stream)
    assert got.random == prediction.random()
    assert (got.group, len(got.share)) == (X25519MLKEM768, 1088 + 32)
    assert got.share[1088:] == prediction.share("x25519")


def test_a_real_servers_requests_take_fresh_kernel_bytes_in(
    engine_certificate: Certificate, prediction: Prediction
) -> None:
    """The same seed gives other output: whoever knows the state does not know what comes."""
    context = client(engine_certificate, "TLSv1.3", "x25519")
    with serving(engine_certificate, kernel_bytes=True) as server:
        first = answer(converse(server.address, context)[0])
    with serving(engine_certificate, kernel_bytes=True) as server:
        second = answer(converse(server.address, context)[0])
    assert len({prediction.random(), first.random, second.random}) == 3
    assert first.share != second.share


def test_nists_vectors_come_out_of_the_built_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.known_answers", str(known_seed_engine())],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    assert (done.stdout.split(), done.stderr) == (["240", "of", "240"], "")


def test_the_shipped_engine_has_no_known_seed() -> None:
    settings = tomllib.loads((TOP / "pyproject.toml").read_text())
    assert settings["tool"]["maturin"]["features"] == ["python"]
    assert not hasattr(_engine, "drbg_seed_known")
    assert not hasattr(_engine, "CtrDrbg")
    assert _engine.__file__ is not None
    shipped = Path(_engine.__file__).read_bytes()
    assert b"drbg_generate" in shipped
    assert b"drbg_seed_known" not in shipped
    assert b"drbg_seed_known" in known_seed_engine().read_bytes()
