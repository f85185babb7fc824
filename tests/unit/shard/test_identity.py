"""Identities: what is read from certificate and key, what is refused, and the session scope."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from coordinator.errors import SettingsError
from shard.development_certificate import LIFETIME, authority, issue, self_signed
from shard.identity import expiry_warnings, load_identity, readable_by_others, scope
from shard.self_signed import self_signed_identity

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def written(folder: Path, cert: bytes, key: bytes) -> tuple[Path, Path]:
    """The two files."""
    (folder / "cert.pem").write_bytes(cert)
    (folder / "key.pem").write_bytes(key)
    return folder / "cert.pem", folder / "key.pem"


def refused(cert: Path, key: Path) -> dict[str, str]:
    """What is wrong with them, by path."""
    with pytest.raises(SettingsError) as caught:
        load_identity(cert, key, "certificate.0")
    return {problem.path: problem.message for problem in caught.value.problems}


def pem(key: Any, password: bytes | None = None) -> bytes:
    """A private key in PEM."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    data: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return data


def test_chain_names_and_key(tmp_path: Path) -> None:
    root = authority()
    leaf = issue(root, ("Example.ORG", "*.example.org", "192.0.2.1"))
    identity = load_identity(*written(tmp_path, leaf.cert_pem + root.cert_pem, leaf.key_pem), "x")
    assert identity.names == ("example.org", "*.example.org")
    assert identity.addresses == ("192.0.2.1",)
    assert [x509.load_der_x509_certificate(der) for der in identity.chain] == [
        leaf.certificate,
        root.certificate,
    ]
    assert load_der_private_key(identity.key, None) == leaf.key or identity.key
    assert repr(identity.key) not in repr(identity)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-384", "RSA", "Ed25519"],
)
def test_kinds_of_keys(tmp_path: Path, key: Any) -> None:
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(1))
    ).sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else _sha256())
    paths = written(tmp_path, certificate.public_bytes(Encoding.PEM), pem(key))
    assert load_identity(*paths, "x").names == ()


def _sha256() -> Any:
    from cryptography.hazmat.primitives.hashes import SHA256

    return SHA256()


def test_files_that_are_not_there_are_both_told(tmp_path: Path) -> None:
    found = refused(tmp_path / "c", tmp_path / "k")
    assert set(found) == {"certificate.0.cert", "certificate.0.key"}
    assert "cannot be read" in found["certificate.0.key"]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path, tmp_path)["certificate.0.cert"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_what_is_no_certificate(tmp_path: Path, content: bytes) -> None:
    made = self_signed()
    found = refused(*written(tmp_path, content, made.key_pem))
    assert "no readable certificate chain" in found["certificate.0.cert"]


def test_a_file_without_end(tmp_path: Path) -> None:
    made = self_signed()
    found = refused(*written(tmp_path, b"x" * (2 << 20), made.key_pem))
    assert "over 1048576 bytes" in found["certificate.0.cert"]


def test_a_key_that_cannot_be_read_is_not_quoted(tmp_path: Path) -> None:
    made = self_signed()
    broken = made.key_pem.replace(b"PRIVATE KEY", b"PRIVATE KEJ")
    found = refused(*written(tmp_path, made.cert_pem, broken))
    assert "no readable PEM private key" in found["certificate.0.key"]
    assert made.key_pem.splitlines()[1].decode() not in str(found)


def test_an_encrypted_key_has_a_remedy(tmp_path: Path) -> None:
    made = self_signed()
    found = refused(*written(tmp_path, made.cert_pem, pem(made.key, b"password")))
    assert "--key-password-file" in found["certificate.0.key"]


def test_a_password_file_decrypts_the_key(tmp_path: Path) -> None:
    made = self_signed()
    cert, key = written(tmp_path, made.cert_pem, pem(made.key, b"password"))
    password = tmp_path / "password"
    password.write_bytes(b"password\r\nwhat follows is not read\n")
    assert (
        load_identity(cert, key, "x", password).key
        == load_identity(*written(tmp_path, made.cert_pem, made.key_pem), "x").key
    )
    with pytest.raises(SettingsError, match="name no password file"):
        load_identity(cert, key, "x", password)
    key.write_bytes(pem(made.key, b"another"))
    with pytest.raises(SettingsError) as caught:
        load_identity(cert, key, "x", password)
    assert "decrypts" in str(caught.value)
    assert "not read" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"x\.password_file"):
        load_identity(cert, key, "x", tmp_path / "missing")


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        (rsa.generate_private_key(65537, 1024), "1024 bits"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (dsa.generate_private_key(2048), "do not use"),
    ],
    ids=["short RSA", "odd curve", "DSA"],
)
def test_keys_that_no_server_should_use(tmp_path: Path, key: Any, complaint: str) -> None:
    found = refused(*written(tmp_path, self_signed().cert_pem, pem(key)))
    assert complaint in found["certificate.0.key"]


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    found = refused(*written(tmp_path, self_signed().cert_pem, self_signed().key_pem))
    assert "does not match" in found["certificate.0.key"]


def test_a_chain_that_starts_with_the_issuer(tmp_path: Path) -> None:
    root = authority()
    leaf = issue(root)
    found = refused(*written(tmp_path, root.cert_pem + leaf.cert_pem, leaf.key_pem))
    assert "leaf first" in found["certificate.0.cert"]
    assert "certificate 2 of the file" in found["certificate.0.key"]


def test_a_chain_with_a_stranger_in_it(tmp_path: Path) -> None:
    leaf = issue(authority())
    found = refused(*written(tmp_path, leaf.cert_pem + authority().cert_pem, leaf.key_pem))
    assert "certificate 2" in found["certificate.0.cert"]


def test_a_chain_with_an_intermediate(tmp_path: Path) -> None:
    middle = trustme.CA().create_child_ca()
    leaf = middle.issue_cert("example.org")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    paths = written(tmp_path, chain, leaf.private_key_pem.bytes())
    assert len(load_identity(*paths, "x").chain) == 2


def test_dates_are_warnings(tmp_path: Path) -> None:
    made = self_signed(now=NOW)
    identity = load_identity(*written(tmp_path, made.cert_pem, made.key_pem), "x")
    assert expiry_warnings(identity, NOW) == []
    for at, word in (
        (NOW - timedelta(days=1), "not valid before"),
        (NOW + LIFETIME - timedelta(days=9), "expires in 9 d"),
        (NOW + LIFETIME, "expired on"),
    ):
        (warning,) = expiry_warnings(identity, at)
        assert word in warning
        assert "cert.pem" in warning


def test_a_certificate_without_names_is_a_warning(tmp_path: Path) -> None:
    made = issue(authority(NOW), ("192.0.2.1",), NOW)
    identity = load_identity(*written(tmp_path, made.cert_pem, made.key_pem), "x")
    (warning,) = expiry_warnings(identity, NOW)
    assert "SNI" in warning


def test_keys_open_to_others(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    assert not readable_by_others(file)
    file.chmod(0o640)
    assert not readable_by_others(file)
    file.chmod(0o644)
    assert readable_by_others(file)
    assert not readable_by_others(tmp_path / "missing")


SCOPE: dict[str, Any] = {
    "ports": [8443],
    "names": ["a.example", "b.example"],
    "client_authorities": [b"ca"],
    "verify": "off",
    "alpn": ["h2", "http/1.1"],
    "min_version": "TLSv1.2",
    "generation": 0,
}


def test_a_scope_is_the_same_for_the_same_service() -> None:
    again = {
        **SCOPE,
        "ports": (8443, 8443),
        "names": ["B.example", "a.example", "a.example"],
        "client_authorities": [b"ca", b"ca"],
    }
    assert scope(**again) == scope(**SCOPE)
    assert len(scope(**SCOPE)) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"ports": [8444]},
        {"ports": [8443, 8444]},
        {"names": ["a.example"]},
        {"names": ["a.exampl", "eb.example"]},
        {"client_authorities": []},
        {"client_authorities": [b"other"]},
        {"verify": "required"},
        {"alpn": ["http/1.1", "h2"]},
        {"alpn": ["h2h", "ttp/1.1"]},
        {"min_version": "TLSv1.3"},
        {"generation": 1},
    ],
    ids=str,
)
def test_anything_else_is_another_scope(change: dict[str, Any]) -> None:
    assert scope(**{**SCOPE, **change}) != scope(**SCOPE)


def test_the_development_authority_signs_what_clients_accept() -> None:
    root = authority(NOW)
    leaf = issue(root, now=NOW)
    verifier = (
        x509.verification.PolicyBuilder()
        .store(x509.verification.Store([root.certificate]))
        .time(NOW + timedelta(days=1))
    )
    verifier.build_server_verifier(x509.DNSName("localhost")).verify(leaf.certificate, [])
    loopback = x509.IPAddress(ipaddress.ip_address("::1"))
    verifier.build_server_verifier(loopback).verify(leaf.certificate, [])


def test_the_self_signed_certificate_is_kept_while_it_is_valid(tmp_path: Path) -> None:
    first = self_signed_identity(tmp_path, NOW)
    assert first.names == ("localhost",)
    assert first.addresses == ("127.0.0.1", "::1")
    assert self_signed_identity(tmp_path, NOW + timedelta(days=300)) == first
    renewed = self_signed_identity(tmp_path, NOW + LIFETIME)
    assert renewed.chain != first.chain
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 2


def test_half_a_self_signed_certificate_is_made_anew(tmp_path: Path) -> None:
    first = self_signed_identity(tmp_path, NOW)
    (tmp_path / "self-signed.key").write_text("broken")
    assert self_signed_identity(tmp_path, NOW).key != first.key
