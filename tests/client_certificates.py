"""Authorities of clients for tests: client certificates and revocation lists, ECDSA P-256."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

__all__ = ["ClientAuthority", "ClientCertificate"]

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A client's certificate and key.

    :ivar file: key, certificate and intermediates in one PEM file, as `load_cert_chain` takes it.
    """

    file: Path
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class ClientAuthority:
    """An authority, and the intermediates between it and a root (nearest first)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = field(default=())

    @classmethod
    def root(cls, name: str, valid_for: timedelta = 30 * DAY) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_certificate(name, key, None, valid_for, is_authority=True), key)

    def intermediate(self, name: str) -> ClientAuthority:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, key, self, 30 * DAY, is_authority=True)
        return ClientAuthority(made, key, (made, *self.above))

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def client(
        self, folder: Path, name: str, valid_for: timedelta = 10 * DAY, issued: timedelta = DAY
    ) -> ClientCertificate:
        """:param issued: how long ago; longer than `valid_for` makes one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(name, key, self, valid_for, issued)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem += b"".join(item.public_bytes(Encoding.PEM) for item in (made, *self.above))
        file = folder / f"{name}.pem"
        file.write_bytes(pem)
        return ClientCertificate(file, made)

    def crl(
        self, *revoked: ClientCertificate, valid_for: timedelta = DAY
    ) -> x509.CertificateRevocationList:
        """A list that was issued two days ago or when it had so long to live."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - 2 * DAY)
            .next_update(now + valid_for)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for client in revoked:
            entry = x509.RevokedCertificateBuilder().revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(
                entry.serial_number(client.certificate.serial_number).build()
            )
        return builder.sign(self.key, SHA256())


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: ClientAuthority | None,
    valid_for: timedelta,
    issued: timedelta = DAY,
    *,
    is_authority: bool = False,
) -> x509.Certificate:
    begin = datetime.now(UTC) - issued
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + valid_for)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    return builder.sign(issuer.key if issuer else key, SHA256())
