"""A client's certificate as a dictionary: what the standard library makes of the same one."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from shard.peer_certificate import peer_certificate, subject

KEY = ec.generate_private_key(ec.SECP256R1())

SUBJECT = [
    (NameOID.COUNTRY_NAME, "DE"),
    (NameOID.STATE_OR_PROVINCE_NAME, "Bayern"),
    (NameOID.LOCALITY_NAME, "München"),
    (NameOID.ORGANIZATION_NAME, "Ōrg"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "unit"),
    (NameOID.COMMON_NAME, "client"),
    (NameOID.SURNAME, "s"),
    (NameOID.GIVEN_NAME, "g"),
    (NameOID.TITLE, "t"),
    (NameOID.SERIAL_NUMBER, "17"),
    (NameOID.EMAIL_ADDRESS, "a@example.org"),
    (NameOID.DOMAIN_COMPONENT, "example"),
    (NameOID.USER_ID, "uid"),
    (NameOID.PSEUDONYM, "p"),
    (NameOID.DN_QUALIFIER, "q"),
    (NameOID.STREET_ADDRESS, "street"),
    (NameOID.POSTAL_CODE, "12345"),
    (NameOID.BUSINESS_CATEGORY, "b"),
    (NameOID.JURISDICTION_COUNTRY_NAME, "DE"),
    (NameOID.ORGANIZATION_IDENTIFIER, "id"),
    (NameOID.INITIALS, "i"),
    (x509.ObjectIdentifier("1.2.3.4.5"), "of our own"),
]


def name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(*part) for part in parts])


def made(
    serial: int, subject: x509.Name, *extensions: x509.ExtensionType, day: int = 5
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(name((NameOID.COMMON_NAME, "issuer")))
        .public_key(KEY.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2024, 2, day, 9, 4, 3, tzinfo=UTC))
        .not_valid_after(datetime(2055, 11, 28, 23, 59, 59, tzinfo=UTC))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, SHA256())


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


FULL = made(
    0xABCDE,
    name(*SUBJECT),
    x509.SubjectAlternativeName(
        [
            x509.DNSName("example.org"),
            x509.DNSName("*.example.org"),
            x509.RFC822Name("a@example.org"),
            uri("spiffe://example.org/a"),
            x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
            x509.IPAddress(ipaddress.ip_address("2001:db8::ab")),
            x509.DirectoryName(name((NameOID.COMMON_NAME, "x"), (NameOID.COUNTRY_NAME, "DE"))),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
        ]
    ),
    x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri("http://o.example/")),
            x509.AccessDescription(
                AuthorityInformationAccessOID.CA_ISSUERS, uri("http://i.example/")
            ),
        ]
    ),
    x509.CRLDistributionPoints(
        [
            x509.DistributionPoint([uri("http://c.example/1")], None, None, None),
            x509.DistributionPoint([uri("http://c.example/2")], None, None, None),
        ]
    ),
)
MULTIVALUED = x509.Name(
    [
        x509.RelativeDistinguishedName(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, "a"),
                x509.NameAttribute(NameOID.USER_ID, "b"),
            ]
        )
    ]
)


@pytest.mark.parametrize(
    "certificate",
    [FULL, made(1, MULTIVALUED, day=15), made(2**127, name())],
    ids=["everything", "several values in one", "no subject"],
)
def test_it_is_what_the_standard_library_makes_of_it(
    tmp_path: Path, certificate: x509.Certificate
) -> None:
    file = tmp_path / "certificate.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    # What `SSLSocket.getpeercert()` calls, as the library's own tests do.
    expected = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
    assert peer_certificate(certificate.public_bytes(Encoding.DER)) == expected


def test_what_cannot_be_read_raises_nothing() -> None:
    assert peer_certificate(b"no certificate") == {}
    assert subject(b"no certificate") is None


def test_the_subject_is_one_line() -> None:
    named = made(1, name((NameOID.COUNTRY_NAME, "DE"), (NameOID.COMMON_NAME, "a,b")))
    assert subject(named.public_bytes(Encoding.DER)) == "CN=a\\,b,C=DE"
