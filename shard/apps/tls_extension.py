"""A connection's TLS facts as ASGI applications get them.

``scope["extensions"]["tls"]`` is as the ASGI TLS extension (version 0.2) says;
``scope["extensions"]["shardtls"]`` has what it has no name for: ``resumed`` and ``worker``.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, Final

from shard.connection import TlsInfo

__all__ = ["extensions"]

_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_CIPHER_SUITES: Final = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": 0xC02B,
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 0xC02C,
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": 0xC02F,
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": 0xC030,
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA8,
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA9,
}
"""IANA's numbers of the suites that the engine has."""


def extensions(tls: TlsInfo, peer_certificates: Sequence[bytes]) -> dict[str, dict[str, Any]]:
    """Both, for one connection.

    :param peer_certificates: the client's, DER, leaf first.
    """
    return {
        "tls": {
            # The extension lets a server leave it out that does not know which one was shown.
            "server_cert": None,
            "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in peer_certificates],
            "client_cert_name": _subject(peer_certificates[0]) if peer_certificates else None,
            # A certificate that cannot be verified ends the handshake.
            "client_cert_error": None,
            "tls_version": _VERSIONS.get(tls.version),
            "cipher_suite": _CIPHER_SUITES.get(tls.cipher),
        },
        "shardtls": {"resumed": tls.resumed, "worker": tls.worker},
    }


def _subject(certificate: bytes) -> str:
    """RFC 4514, as the extension wants it."""
    from cryptography.x509 import load_der_x509_certificate

    return load_der_x509_certificate(certificate).subject.rfc4514_string()
