"""Certificates and their keys, as files and as values.

PolarSSL's rule for ``x509_crt`` and ``pk_context`` holds for an :class:`Identity`: it is immutable
after parsing, may be shared by every thread, and is replaced as a whole on reload.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from coordinator.errors import SettingsError, SettingsProblem

__all__ = [
    "Identity",
    "expiry_warnings",
    "load_certificates",
    "load_identity",
    "read",
    "readable_by_others",
    "scope",
]

MIN_RSA_BITS: Final = 2048
EXPIRY_NOTICE: Final = timedelta(days=30)
MAX_FILE_BYTES: Final = 1024 * 1024
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain with the leaf's private key.

    :ivar names: DNS names of the leaf's subjectAltName, lower case; a client's SNI chooses by them.
    :ivar addresses: its IP addresses, which no client can name in SNI (RFC 6066 §3).
    :ivar chain: DER, leaf first (RFC 8446 §4.4.2).
    :ivar key: DER, PKCS #8. Kept out of the repr.
    :ivar source: where it came from, for people.
    :ivar ocsp: an OCSP response to staple, DER.
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    chain: tuple[bytes, ...] = field(repr=False)
    key: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    source: str
    ocsp: bytes | None = field(default=None, repr=False)


def load_identity(cert: Path, key: Path, label: str, password_file: Path | None = None) -> Identity:
    """Read and check a PEM chain and its PEM key.

    :param label: path of the setting that names them, such as ``certificate.0``.
    :param password_file: its first line decrypts the key.
    :raises SettingsError: everything that is wrong with the two files.
    """
    problems: list[SettingsProblem] = []
    chain = load_certificates(cert, f"{label}.cert", problems)
    private = _load_key(key, label, password_file, problems)
    if chain:
        problems += _chain_problems(chain, cert, f"{label}.cert")
    if chain and private is not None:
        problems += _match_problems(chain, private, cert, key, label)
    if problems or private is None:
        raise SettingsError(problems)
    leaf = chain[0]
    names, addresses = _names(leaf)
    return Identity(
        names=names,
        addresses=addresses,
        chain=tuple(item.public_bytes(Encoding.DER) for item in chain),
        key=private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        source=str(cert),
    )


def expiry_warnings(identity: Identity, now: datetime | None = None) -> list[str]:
    """What an operator should know of a certificate that works, or would but for the date."""
    now = now or datetime.now(UTC)
    found = []
    if now < identity.not_before:
        found.append(
            f"{identity.source}: not valid before {identity.not_before:%Y-%m-%d %H:%M} UTC"
        )
    if now >= identity.not_after:
        found.append(
            f"{identity.source}: expired on {identity.not_after:%Y-%m-%d %H:%M} UTC; renew it"
        )
    elif identity.not_after - now < EXPIRY_NOTICE:
        days = (identity.not_after - now).days
        found.append(
            f"{identity.source}: expires in {days} days, on {identity.not_after:%Y-%m-%d %H:%M} UTC"
        )
    if not identity.names:
        found.append(f"{identity.source}: names no DNS host, so no client's SNI chooses it")
    return found


def scope(
    *,
    ports: Iterable[int],
    names: Iterable[str],
    client_authorities: Iterable[bytes] = (),
    verify: str = "off",
    alpn: Sequence[str],
    min_version: str,
    generation: int = 0,
) -> bytes:
    """The 32 bytes under which a host's sessions are stored.

    A session is resumed within its scope only: never under other names, another listener, another
    trust setting or another generation (the lesson of CVE-2025-23419 and CVE-2025-68121). Workers
    on other hosts that serve the same thing compute the same scope.

    :param ports: of the listening sockets; their addresses differ from host to host.
    :param names: every name of the certificate.
    :param client_authorities: DER of the authorities that client certificates are checked against.
    """
    digest = hashlib.sha256(b"shardtls scope 1")
    for part in (
        [str(port).encode() for port in sorted(set(ports))],
        [name.encode() for name in sorted({name.lower() for name in names})],
        sorted({hashlib.sha256(item).digest() for item in client_authorities}),
        [verify.encode()],
        [name.encode() for name in alpn],
        [min_version.encode()],
        [str(generation).encode()],
    ):
        # Every length is part of what is hashed, so that no two inputs run together alike.
        digest.update(len(part).to_bytes(4, "big"))
        for item in part:
            digest.update(len(item).to_bytes(4, "big") + item)
    return digest.digest()


def read(
    path: Path, label: str, problems: list[SettingsProblem], limit: int = MAX_FILE_BYTES
) -> bytes | None:
    """A file's content, or a problem more.

    :param limit: bytes, at most.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        problems.append(
            SettingsProblem(
                label,
                f"{path} cannot be read ({error.strerror}): "
                "name an existing file that this user may read",
            )
        )
        return None
    if len(content) > limit:
        problems.append(SettingsProblem(label, f"{path} is over {limit} bytes: name another file"))
        return None
    return content


def load_certificates(
    path: Path, label: str, problems: list[SettingsProblem]
) -> list[x509.Certificate]:
    """The certificates of a PEM file in its order; none, and a problem more, if it has none."""
    content = read(path, label, problems)
    if content is None:
        return []
    try:
        chain = x509.load_pem_x509_certificates(content)
        for item in chain:
            _names(item)
    except ValueError as error:
        problems.append(
            SettingsProblem(
                label, f"{path} holds no readable certificate chain ({error}): it must be PEM"
            )
        )
        return []
    return chain


def _load_key(
    path: Path, label: str, password_file: Path | None, problems: list[SettingsProblem]
) -> PrivateKeyTypes | None:
    content = read(path, f"{label}.key", problems)
    password = None
    if password_file is not None:
        text = read(password_file, f"{label}.password_file", problems)
        if text is None:
            return None
        password = text.partition(b"\n")[0].rstrip(b"\r")
    if content is None:
        return None
    label = f"{label}.key"
    try:
        key = load_pem_private_key(content, password=password)
    except TypeError:
        if password is None:
            complaint = "is encrypted: name the file with its password (--key-password-file)"
        else:
            complaint = "is not encrypted: name no password file"
        problems.append(SettingsProblem(label, f"{path} {complaint}"))
        return None
    except (ValueError, UnsupportedAlgorithm):
        # The error's text could quote the file; it stays here.
        what = "readable PEM private key"
        if password is not None:
            what = f"private key that {password_file} decrypts"
        problems.append(SettingsProblem(label, f"{path} holds no {what}"))
        return None
    unfit = _unfit(key)
    if unfit:
        problems.append(SettingsProblem(label, f"{path} {unfit}"))
        return None
    return key


def _unfit(key: PrivateKeyTypes) -> str | None:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            return f"is RSA with {key.key_size} bits: make one with {MIN_RSA_BITS} or more"
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in _CURVES:
            return f"is on the curve {key.curve.name}: use P-256, P-384 or P-521"
        return None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    return "is of a kind that TLS servers do not use: use ECDSA, RSA or Ed25519"


def _chain_problems(chain: list[x509.Certificate], path: Path, label: str) -> list[SettingsProblem]:
    """RFC 8446 §4.4.2: each certificate SHOULD directly certify the one before it."""
    for number, (child, issuer) in enumerate(pairwise(chain), start=1):
        try:
            child.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return [
                SettingsProblem(
                    label,
                    f"{path}: certificate {number + 1} ({issuer.subject.rfc4514_string()}) did not "
                    f"issue certificate {number} ({child.subject.rfc4514_string()}): order the "
                    "file leaf first, then each issuer",
                )
            ]
    return []


def _match_problems(
    chain: list[x509.Certificate], key: PrivateKeyTypes, cert_path: Path, key_path: Path, label: str
) -> list[SettingsProblem]:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    holders = [
        number
        for number, item in enumerate(chain, start=1)
        if item.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == public
    ]
    if 1 in holders:
        return []
    remedy = (
        f"it belongs to certificate {holders[0]} of the file: put that one first"
        if holders
        else "give the key that the certificate was made for"
    )
    return [SettingsProblem(f"{label}.key", f"{key_path} does not match {cert_path}: {remedy}")]


def _names(leaf: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    dns = dict.fromkeys(name.lower() for name in names.get_values_for_type(x509.DNSName))
    addresses = dict.fromkeys(str(item) for item in names.get_values_for_type(x509.IPAddress))
    return tuple(dns), tuple(addresses)


def readable_by_others(path: Path) -> bool:
    """Whether a secret file can be read by more than its owner and group."""
    try:
        return bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False
