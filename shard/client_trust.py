"""Which client certificates are good: authorities and revocation lists, as files and as values.

An authority's own validity is checked here and nowhere else, as RFC 5280 §6.1.1 takes a trust
anchor as given: one that has expired is warned about at each start and reload, and trusted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.errors import SettingsError, SettingsProblem
from shard.identity import load_certificates, read
from shard.settings.worker_sections import TlsSection

__all__ = ["ClientTrust", "load_client_trust"]

MAX_CRL_BYTES: Final = 8 * 1024 * 1024
"""Of all lists together: they travel to each worker."""
_CRL_NOTICE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClientTrust:
    """What is asked of clients. Immutable.

    :ivar mode: ``off``, ``optional`` or ``required``.
    :ivar authorities: DER; never empty unless the mode is ``off``.
    :ivar crls: DER. None: revocation is not checked.
    :ivar depth: intermediate certificates of a client's path, at most.
    """

    mode: str = "off"
    authorities: tuple[bytes, ...] = field(default=(), repr=False)
    crls: tuple[bytes, ...] = field(default=(), repr=False)
    depth: int = 0


def load_client_trust(
    tls: TlsSection, now: datetime | None = None
) -> tuple[ClientTrust, list[str]]:
    """Read and check the files that the settings name.

    :returns: the trust, and what an operator should know of it.
    :raises SettingsError: everything that is wrong with them.
    """
    now = now or datetime.now(UTC)
    if tls.client_auth == "off":
        unused = [name for name in ("client_ca", "crl") if getattr(tls, name)]
        return ClientTrust(), [
            f"tls.{name}: not used, as tls.client_auth is off" for name in unused
        ]
    problems: list[SettingsProblem] = []
    authorities: list[x509.Certificate] = []
    if tls.client_ca is None:
        remedy = "name a file with the authorities of your clients (--client-ca)"
        problems.append(
            SettingsProblem("tls.client_ca", f"tls.client_auth is {tls.client_auth}: {remedy}")
        )
    else:
        authorities = load_certificates(tls.client_ca, "tls.client_ca", problems)
        problems += _not_authorities(authorities, tls.client_ca)
    crls: list[x509.CertificateRevocationList] = []
    room = MAX_CRL_BYTES
    for file in tls.crl:
        content = read(file, "tls.crl", problems, limit=room)
        if content is not None:
            room -= len(content)
            found = _parse(content, file, problems)
            crls += found
            problems += [
                SettingsProblem(
                    "tls.crl",
                    f"{file}: the list of {_name(crl.issuer)} is not signed by that authority: "
                    "take it from its issuer again",
                )
                for crl in found
                if not _is_genuine(crl, authorities)
            ]
    if problems:
        raise SettingsError(problems)
    trust = ClientTrust(
        mode=tls.client_auth,
        authorities=tuple(item.public_bytes(Encoding.DER) for item in authorities),
        crls=tuple(crl.public_bytes(Encoding.DER) for crl in crls),
        depth=tls.client_depth,
    )
    return trust, [*_expired(authorities, now), *_crl_warnings(authorities, crls, now)]


def _not_authorities(found: Sequence[x509.Certificate], path: Path) -> list[SettingsProblem]:
    return [
        SettingsProblem(
            "tls.client_ca",
            f"{path}: certificate {number} ({_name(item.subject)}) is no authority: "
            "take it out of the file",
        )
        for number, item in enumerate(found, start=1)
        if not _is_authority(item)
    ]


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return constraints.value.ca


def _parse(
    content: bytes, path: Path, problems: list[SettingsProblem]
) -> list[x509.CertificateRevocationList]:
    """One list in DER, or any number in PEM."""
    end = b"-----END X509 CRL-----"
    try:
        if end not in content:
            return [x509.load_der_x509_crl(content)]
        blocks = content.split(end)[:-1]
        return [x509.load_pem_x509_crl(block + end + b"\n") for block in blocks]
    except ValueError as error:
        problems.append(
            SettingsProblem(
                "tls.crl",
                f"{path} holds no readable revocation list ({error}): it must be PEM or DER",
            )
        )
        return []


def _is_genuine(
    crl: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]
) -> bool:
    """Signed by the authority that it names, as far as that is known here: an intermediate's list
    is checked when its certificate is seen.
    """
    issuers = [item for item in authorities if item.subject == crl.issuer]
    return not issuers or any(_is_signed_by(crl, issuer) for issuer in issuers)


def _is_signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def _expired(authorities: Sequence[x509.Certificate], now: datetime) -> list[str]:
    return [
        f"tls.client_ca: {_name(item.subject)} expired on {item.not_valid_after_utc:%Y-%m-%d} and "
        "is trusted all the same: take it out of the file"
        for item in authorities
        if item.not_valid_after_utc <= now
    ]


def _crl_warnings(
    authorities: Sequence[x509.Certificate],
    crls: Sequence[x509.CertificateRevocationList],
    now: datetime,
) -> list[str]:
    found = []
    for crl in crls:
        due = crl.next_update_utc
        if due is None:
            continue
        when = f"{due:%Y-%m-%d %H:%M} UTC"
        if due <= now:
            found.append(
                f"tls.crl: the list of {_name(crl.issuer)} was due for renewal on {when}: "
                "until then every client of that authority is refused"
            )
        elif due - now < _CRL_NOTICE:
            found.append(f"tls.crl: the list of {_name(crl.issuer)} is to be renewed by {when}")
    listed = {crl.issuer for crl in crls}
    if crls:
        found += [
            f"tls.crl: there is no list of {_name(item.subject)}: every client of that authority "
            "is refused"
            for item in authorities
            if item.subject not in listed
        ]
    return found


def _name(name: x509.Name) -> str:
    return name.rfc4514_string()
