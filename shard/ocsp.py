"""OCSP responses to staple (RFC 6066 §8): a file in DER for each, which others keep fresh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import Hash
from cryptography.x509 import ocsp

from coordinator.errors import SettingsError, SettingsProblem
from shard.identity import Identity, read

__all__ = ["load_staple"]

NOTICE: Final = timedelta(days=1)


def load_staple(
    path: Path, identity: Identity, label: str, now: datetime | None = None
) -> tuple[bytes | None, list[str]]:
    """Read a response and check that it is the certificate's. Its signature is left to clients.

    :returns: the response, or None if clients would be worse off with it than without, and what an
        operator should know.
    :raises SettingsError: the file is no response, or one for another certificate.
    """
    now = now or datetime.now(UTC)
    problems: list[SettingsProblem] = []
    content = read(path, label, problems)
    if content is None:
        raise SettingsError(problems)
    try:
        response = ocsp.load_der_ocsp_response(content)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise ValueError(f"its status is {response.response_status.name}")
        answers = list(response.responses)
        matching = [answer for answer in answers if _is_for(answer, identity)]
    except ValueError as error:
        message = f"{path} holds no usable OCSP response ({error}): it must be one in DER"
        raise SettingsError([SettingsProblem(label, message)]) from None
    if not matching:
        message = f"{path} is for another certificate than {identity.source}: get its own"
        raise SettingsError([SettingsProblem(label, message)])
    return _judged(content, matching[0], path, now)


def _judged(
    content: bytes, answer: ocsp.OCSPSingleResponse, path: Path, now: datetime
) -> tuple[bytes | None, list[str]]:
    due = answer.next_update_utc
    if answer.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        status = answer.certificate_status.name.lower()
        return None, [f"{path}: the certificate is {status}: not stapled; replace the certificate"]
    if due is not None and due <= now:
        return None, [f"{path}: out of date since {due:%Y-%m-%d %H:%M} UTC: not stapled; renew it"]
    if due is not None and due - now < NOTICE:
        return content, [f"{path}: to be renewed by {due:%Y-%m-%d %H:%M} UTC"]
    return content, []


def _is_for(answer: ocsp.OCSPSingleResponse, identity: Identity) -> bool:
    """RFC 6960 §4.1.1: a certificate is named by its serial number and hashes of its issuer."""
    leaf, *issuers = (x509.load_der_x509_certificate(der) for der in identity.chain)
    if answer.serial_number != leaf.serial_number:
        return False
    if not issuers:
        digest = Hash(answer.hash_algorithm)
        digest.update(leaf.issuer.public_bytes())
        return answer.issuer_name_hash == digest.finalize()
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuers[0], answer.hash_algorithm)
    expected = asked.build()
    return (answer.issuer_name_hash, answer.issuer_key_hash) == (
        expected.issuer_name_hash,
        expected.issuer_key_hash,
    )
