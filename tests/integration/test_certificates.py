"""Several certificates: chosen by name and by what the client can verify, stapled, and renewed."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import ocsp

from tests.certificates import Certificate
from tests.client import TlsStream
from tests.server import Server, running
from tests.traffic import Traffic
from tests.waiting import eventually

AUTHORITY = trustme.CA(key_type=trustme.KeyType.ECDSA)
PASSWORD = b"correct horse"


def issued(folder: Path, *names: str, rsa: bool = False) -> Certificate:
    """A chain of leaf and issuer, and its key."""
    folder.mkdir(parents=True)
    made = Certificate(folder / "cert.pem", folder / "key.pem", folder / "authority.pem")
    kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
    leaf = AUTHORITY.issue_cert(*names, key_type=kind)
    made.authority.write_bytes(AUTHORITY.cert_pem.bytes())
    made.cert.write_bytes(leaf.cert_chain_pems[0].bytes() + AUTHORITY.cert_pem.bytes())
    made.key.write_bytes(leaf.private_key_pem.bytes())
    made.key.chmod(0o600)
    return made


def staple(certificate: Certificate, file: Path) -> None:
    """Write a good response for the certificate."""
    leaf, issuer = x509.load_pem_x509_certificates(certificate.cert.read_bytes())
    key = load_pem_private_key(AUTHORITY.private_key_pem.bytes(), None)
    now = datetime.now(UTC)
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            leaf, issuer, SHA1(), ocsp.OCSPCertStatus.GOOD, now, now + timedelta(9), None, None
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
    )
    file.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.DER))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default, a wildcard with an encrypted key, one name below it, and its RSA twin."""
    folder = tmp_path_factory.mktemp("certificates")
    default = issued(folder / "default", "localhost")
    wild = issued(folder / "wild", "*.example.org")
    exact = issued(folder / "exact", "a.example.org")
    twin = issued(folder / "twin", "a.example.org", rsa=True)
    key = load_pem_private_key(wild.key.read_bytes(), None)
    encryption = BestAvailableEncryption(PASSWORD)
    wild.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    (folder / "password").write_bytes(PASSWORD + b"\n")
    (folder / "password").chmod(0o600)
    staple(exact, folder / "exact.ocsp")
    tables = [(default, ""), (wild, 'password_file = "password"'), (exact, 'ocsp = "exact.ocsp"')]
    config = "".join(
        f'[[certificate]]\ncert = "{one.cert}"\nkey = "{one.key}"\n{more}\n'
        for one, more in [*tables, (twin, "")]
    )
    with running(folder, certificate=default, flags=False, workers=1, config=config) as made:
        yield made


def shown(server: Server, name: str) -> tuple[str, ...]:
    """The names of the certificate that a client gets who asks for `name`."""
    context = server.certificate.trust()
    context.check_hostname = False
    with TlsStream(server.address, context, server_name=name) as stream:
        certificate = stream.tls.getpeercert()
    assert certificate
    return tuple(str(pair[1]) for pair in certificate["subjectAltName"])


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("a.example.org", "a.example.org"),
        ("A.Example.ORG", "a.example.org"),
        ("b.example.org", "*.example.org"),
        ("a.b.example.org", "localhost"),
        ("example.org", "localhost"),
        ("elsewhere.test", "localhost"),
        ("127.0.0.1", "localhost"),
    ],
)
def test_the_name_chooses_exact_then_wildcard_then_default(
    server: Server, asked: str, name: str
) -> None:
    assert shown(server, asked) == (name,)


def openssl(server: Server, *arguments: str) -> str:
    """What `openssl s_client` says of a connection."""
    command = ["openssl", "s_client", "-connect", f"{server.host}:{server.port}"]
    done = subprocess.run(
        [*command, "-servername", "a.example.org", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
    )
    return done.stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_the_clients_signature_algorithms_choose_between_ecdsa_and_rsa(
    server: Server, version: str
) -> None:
    assert "type: ECDSA" in openssl(server, version)
    assert "type: RSA-PSS" in openssl(server, version, "-sigalgs", "RSA-PSS+SHA256")


def test_a_response_is_stapled(server: Server) -> None:
    assert "OCSP Response Status: successful" in openssl(server, "-status")


def test_expiries_are_told(server: Server) -> None:
    name = 'shardtls_worker_certificate_expiry_timestamp_seconds{name="a.example.org"'
    eventually(lambda: name in server.admin("/metrics")[1], within=5, what="the expiry is told")


def test_a_renewal_by_symlinks_reaches_every_worker_and_fails_no_request(tmp_path: Path) -> None:
    """As certbot lays its files out: live/*.pem are links to archive/*N.pem."""
    archive = [issued(tmp_path / str(number), "localhost", "127.0.0.1") for number in range(2)]
    live = Certificate(tmp_path / "fullchain.pem", tmp_path / "privkey.pem", archive[0].authority)
    live.cert.symlink_to(archive[0].cert)
    live.key.symlink_to(archive[0].key)

    def serial(server: Server) -> bytes:
        with TlsStream(server.address, live.trust()) as stream:
            return stream.tls.getpeercert(binary_form=True) or b""

    def of(certificate: Certificate) -> bytes:
        return ssl.PEM_cert_to_DER_cert(certificate.cert.read_text().partition("-----END")[0] + END)

    with (
        running(tmp_path / "server", certificate=live, workers=2) as server,
        Traffic(server, clients=2) as traffic,
    ):
        assert serial(server) == of(archive[0])
        for link, target in ((live.cert, archive[1].cert), (live.key, archive[1].key)):
            renewed = link.with_suffix(".new")
            renewed.symlink_to(target)
            renewed.replace(link)
        traffic.more(5)
        assert server.command("reload").returncode == 0
        assert {serial(server) for _ in range(6)} == {of(archive[1])}
        traffic.more(5)
    assert traffic.failures == []


END = "-----END CERTIFICATE-----\n"
