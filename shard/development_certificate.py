"""Certificates for development: one that signs itself, and an authority of one's own with a leaf.

Values only; where they are kept is another module's matter. Nothing here is for production: the
authority's key lies in a file, and nobody revokes anything.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["LOOPBACK", "Issued", "authority", "issue", "self_signed"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
LIFETIME: Final = timedelta(days=365)
AUTHORITY_LIFETIME: Final = timedelta(days=3650)
_SLACK: Final = timedelta(hours=1)
"""A clock on another machine may be behind ours."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key (ECDSA P-256)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def cert_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key in PEM, PKCS #8, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def self_signed(names: tuple[str, ...] = LOOPBACK, now: datetime | None = None) -> Issued:
    """A leaf that signs itself, for `names` (DNS names and IP addresses)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("shardtls development")
    return Issued(_build(key, subject, subject, key, now, names=names), key)


def authority(now: datetime | None = None) -> Issued:
    """An authority that may sign leaves but no further authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("shardtls development authority")
    return Issued(_build(key, subject, subject, key, now, names=()), key)


def issue(issuer: Issued, names: tuple[str, ...] = LOOPBACK, now: datetime | None = None) -> Issued:
    """A leaf for `names` (DNS names and IP addresses), signed by `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _build(
        key, _subject("shardtls development"), issuer.certificate.subject, issuer.key, now, names
    )
    return Issued(certificate, key)


def _build(
    key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime | None,
    names: tuple[str, ...],
) -> x509.Certificate:
    now = now or datetime.now(UTC)
    is_authority = not names
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + (AUTHORITY_LIFETIME if is_authority else LIFETIME))
        .add_extension(
            x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None),
            critical=True,
        )
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if not is_authority:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
        ).add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signer, SHA256())


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
