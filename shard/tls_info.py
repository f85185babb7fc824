"""What a handshake agreed on, as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["TlsInfo", "cipher_bits"]

_CIPHER_BITS: Final = (("AES_256", 256), ("CHACHA20", 256), ("AES_128", 128))


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The facts of a connection's handshake.

    :ivar version: ``TLSv1.3`` or ``TLSv1.2``.
    :ivar cipher: IANA name.
    :ivar group: key exchange group; None for a TLS 1.2 resumption, which exchanges no keys.
    :ivar resumption: where the session came from: ``"cache"`` (the coordinator's), ``"ticket"``
        (the client's own, sealed), or None for a full handshake.
    :ivar server_name: the name the client asked for (SNI).
    :ivar worker: the id of the worker that terminates the connection.
    """

    version: str
    cipher: str
    group: str | None
    resumed: bool
    resumption: str | None
    server_name: str | None
    alpn: str | None
    worker: str

    def selected_alpn_protocol(self) -> str | None:
        """:attr:`alpn`, by the name that ``ssl.SSLObject`` has for it."""
        return self.alpn


def cipher_bits(name: str) -> int:
    """Secret bits of a cipher suite, by its IANA name; 0 for one that is not known."""
    return next((bits for part, bits in _CIPHER_BITS if part in name), 0)
