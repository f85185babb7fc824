"""A client's certificate in the shape of ``ssl.SSLSocket.getpeercert()``. Pure.

Imported when a handler asks for it first: few workers need it, and each starts sooner without.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

__all__ = ["peer_certificate", "subject"]

_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_OPENSSL_NAMES: Final = {
    NameOID.USER_ID: "userId",
    NameOID.ORGANIZATION_IDENTIFIER: "organizationIdentifier",
    NameOID.INITIALS: "initials",
}
"""Where OpenSSL's long name differs from that of the library."""


def peer_certificate(der: bytes) -> dict[str, Any]:
    """The certificate as a dictionary, as ``getpeercert()`` gives it.

    An extension that cannot be read is left out; a certificate that cannot be read at all is an
    empty dictionary.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        found: dict[str, Any] = {
            "subject": _names(certificate.subject),
            "issuer": _names(certificate.issuer),
            "version": certificate.version.value + 1,
            "serialNumber": _serial(certificate.serial_number),
            "notBefore": _time(certificate.not_valid_before_utc),
            "notAfter": _time(certificate.not_valid_after_utc),
        }
    except ValueError:
        return {}
    try:
        extensions = certificate.extensions
    except ValueError:
        return found
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            found["subjectAltName"] = tuple(_general_name(name) for name in value)
        elif isinstance(value, x509.AuthorityInformationAccess):
            methods = {
                "OCSP": AuthorityInformationAccessOID.OCSP,
                "caIssuers": AuthorityInformationAccessOID.CA_ISSUERS,
            }
            for key, method in methods.items():
                places = [one.access_location for one in value if one.access_method == method]
                _put(found, key, places)
        elif isinstance(value, x509.CRLDistributionPoints):
            points = [name for point in value for name in point.full_name or ()]
            _put(found, "crlDistributionPoints", points)
    return found


def subject(der: bytes) -> str | None:
    """The subject's distinguished name (RFC 4514); None if it cannot be read."""
    try:
        return x509.load_der_x509_certificate(der).subject.rfc4514_string()
    except ValueError:
        return None


def _put(found: dict[str, Any], key: str, names: Iterable[x509.GeneralName]) -> None:
    locations = tuple(
        name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)
    )
    if locations:
        found[key] = locations


def _names(name: x509.Name) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(
        tuple((_attribute(item.oid), str(item.value)) for item in part) for part in name.rdns
    )


def _attribute(oid: x509.ObjectIdentifier) -> str:
    name = _OPENSSL_NAMES.get(oid, oid._name)
    return oid.dotted_string if name == "Unknown OID" else name


def _serial(number: int) -> str:
    text = f"{abs(number):X}"
    return ("-" if number < 0 else "") + text.zfill(len(text) + len(text) % 2)


def _time(when: datetime) -> str:
    month = _MONTHS[3 * when.month - 3 : 3 * when.month]
    return f"{month} {when.day:2d} {when:%H:%M:%S} {when.year} GMT"


def _general_name(name: x509.GeneralName) -> tuple[str, Any]:
    match name:
        case x509.DNSName():
            return "DNS", name.value
        case x509.RFC822Name():
            return "email", name.value
        case x509.UniformResourceIdentifier():
            return "URI", name.value
        case x509.DirectoryName():
            return "DirName", _names(name.value)
        case x509.RegisteredID():
            return "Registered ID", name.value.dotted_string
        case x509.IPAddress():
            return "IP Address", _address(name.value)
        case _:
            return "othername", "<unsupported>"


def _address(value: object) -> str:
    if isinstance(value, ipaddress.IPv6Address):
        groups = value.exploded.split(":")
        return ":".join(f"{int(group, 16):X}" for group in groups)
    return str(value)
