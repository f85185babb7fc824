"""Staples: whose they are, and when one is better left away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from coordinator.errors import SettingsError
from shard.development_certificate import Issued, authority, issue
from shard.identity import Identity, load_identity
from shard.ocsp import load_staple

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD, REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED


def identity(folder: Path, leaf: Issued, *issuers: Issued) -> Identity:
    (folder / "cert.pem").write_bytes(b"".join(one.cert_pem for one in (leaf, *issuers)))
    (folder / "key.pem").write_bytes(leaf.key_pem)
    return load_identity(folder / "cert.pem", folder / "key.pem", "certificate.0")


def response(
    leaf: Issued, issuer: Issued, status: ocsp.OCSPCertStatus = GOOD, due: datetime = NOW + 7 * DAY
) -> bytes:
    revoked = NOW - DAY if status is REVOKED else None
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            leaf.certificate, issuer.certificate, SHA1(), status, NOW - DAY, due, revoked, None
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
    )
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.DER)


def loaded(folder: Path, content: bytes, made: Identity) -> tuple[bytes | None, list[str]]:
    (folder / "staple.der").write_bytes(content)
    return load_staple(folder / "staple.der", made, "certificate.0.ocsp", NOW)


@pytest.mark.parametrize("with_issuer", [True, False])
def test_a_response_for_the_certificate_is_stapled(tmp_path: Path, with_issuer: bool) -> None:
    root = authority()
    leaf = issue(root)
    made = identity(tmp_path, leaf, *([root] if with_issuer else []))
    content = response(leaf, root)
    assert loaded(tmp_path, content, made) == (content, [])


def test_a_response_that_harms_is_left_away_with_a_warning(tmp_path: Path) -> None:
    root = authority()
    leaf = issue(root)
    made = identity(tmp_path, leaf, root)
    for content, word in (
        (response(leaf, root, REVOKED), "revoked"),
        (response(leaf, root, due=NOW - timedelta(hours=1)), "out of date"),
    ):
        staple, warnings = loaded(tmp_path, content, made)
        assert staple is None
        assert word in warnings[0]
    soon = response(leaf, root, due=NOW + timedelta(hours=5))
    staple, warnings = loaded(tmp_path, soon, made)
    assert staple == soon
    assert "to be renewed by" in warnings[0]


def test_what_is_no_response_or_another_certificates_is_refused(tmp_path: Path) -> None:
    root, other = authority(), authority()
    leaf = issue(root)
    made = identity(tmp_path, leaf, root)
    unsuccessful = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    for content, word in (
        (b"nothing", "DER"),
        (unsuccessful.public_bytes(Encoding.DER), "TRY_LATER"),
        (response(issue(root), root), "another certificate"),
        (response(leaf, other), "another certificate"),
    ):
        with pytest.raises(SettingsError) as caught:
            loaded(tmp_path, content, made)
        assert word in str(caught.value)
        assert "certificate.0.ocsp" in str(caught.value)
