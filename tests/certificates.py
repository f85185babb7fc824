"""Certificates for tests: an authority of their own, valid for loopback names."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

__all__ = ["Certificate", "issue"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM: leaf alone, its key, and the authority that signed it."""

    cert: Path
    key: Path
    authority: Path

    def trust(self) -> ssl.SSLContext:
        """A client's context that trusts the authority alone."""
        return ssl.create_default_context(cafile=str(self.authority))


def issue(
    folder: Path, *names: str, key_type: trustme.KeyType = trustme.KeyType.ECDSA
) -> Certificate:
    """Make an authority and a leaf for `names` (default: localhost and the loopback addresses).

    :param key_type: the leaf's; of ECDSA it is a P-256 key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = Certificate(folder / "cert.pem", folder / "key.pem", folder / "authority.pem")
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = authority.issue_cert(*(names or ("localhost", "127.0.0.1", "::1")), key_type=key_type)
    authority.cert_pem.write_to_path(str(made.authority))
    leaf.cert_chain_pems[0].write_to_path(str(made.cert))
    leaf.private_key_pem.write_to_path(str(made.key))
    made.key.chmod(0o600)
    return made
