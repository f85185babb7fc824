"""The certificate of ``--self-signed``, kept in the runtime directory.

It is used again while it is valid, so that the exception which a browser made for it survives a
restart of the server.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from coordinator.errors import SettingsError, StartError
from shard.development_certificate import self_signed
from shard.identity import Identity, load_identity
from shard.runtime_dir import write_private

__all__ = ["self_signed_identity"]

RENEW_BEFORE: Final = timedelta(days=1)


def self_signed_identity(runtime_dir: Path, now: datetime | None = None) -> Identity:
    """The one that is there, or a new one for localhost, 127.0.0.1 and ::1.

    :param runtime_dir: a directory of ours alone.
    :raises StartError: it cannot be written.
    """
    now = now or datetime.now(UTC)
    cert, key = runtime_dir / "self-signed.pem", runtime_dir / "self-signed.key"
    try:
        found = load_identity(cert, key, "tls.self_signed")
    except SettingsError:
        pass  # there is none, or half of one
    else:
        if found.not_before <= now < found.not_after - RENEW_BEFORE:
            return found
    made = self_signed(now=now)
    try:
        write_private(key, made.key_pem, replace=True)
        write_private(cert, made.cert_pem, replace=True)
    except OSError as error:
        raise StartError(
            f"cannot write to the runtime directory {runtime_dir} ({error.strerror})"
        ) from None
    return load_identity(cert, key, "tls.self_signed")
