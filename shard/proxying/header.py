"""The PROXY protocol's header (HAProxy's specification, versions 1 and 2), as it is sent: who the
client is whose connection is passed on, and what its TLS agreed on. Pure.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["ClientFacts", "header_v1", "header_v2"]

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_2_PROXY: Final = 0x21
_UNSPEC, _TCP4, _TCP6 = 0x00, 0x11, 0x21

# §2.2.7: types of TLVs, and flags of PP2_TYPE_SSL.
_ALPN: Final = 0x01
_AUTHORITY: Final = 0x02
_SSL: Final = 0x20
_SSL_VERSION: Final = 0x21
_SSL_CN: Final = 0x22
_SSL_CIPHER: Final = 0x23
_CLIENT_SSL: Final = 0x01
_CLIENT_CERT_CONN: Final = 0x02
_CLIENT_CERT_SESS: Final = 0x04

_MAX_VALUE: Final = 1024
"""Bytes of one TLV's value; what a client could name itself is cut there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """What is told of a client.

    :ivar source: its address and port.
    :ivar destination: the address and port that it reached.
    :ivar version: of TLS, such as ``TLSv1.3``.
    :ivar cipher: IANA name.
    :ivar server_name: SNI.
    :ivar certified: it showed a certificate, in this session, that was verified.
    :ivar common_name: its subject's; None if it has none.
    """

    source: tuple[str, int]
    destination: tuple[str, int]
    version: str
    cipher: str
    server_name: str | None = None
    alpn: str | None = None
    certified: bool = False
    resumed: bool = False
    common_name: str | None = None


def header_v1(facts: ClientFacts) -> bytes:
    """A line of text (§2.1). It says nothing of TLS."""
    source, destination = (ipaddress.ip_address(end[0]) for end in _ends(facts))
    if source.version != destination.version:
        return b"PROXY UNKNOWN\r\n"
    ports = f"{facts.source[1]} {facts.destination[1]}"
    return f"PROXY TCP{source.version} {source} {destination} {ports}\r\n".encode()


def header_v2(facts: ClientFacts) -> bytes:
    """Binary (§2.2), with TLVs for ALPN, SNI and TLS."""
    source, destination = (ipaddress.ip_address(end[0]) for end in _ends(facts))
    family, addresses = _UNSPEC, b""
    if source.version == destination.version:
        family = _TCP4 if source.version == 4 else _TCP6
        ports = struct.pack("!HH", facts.source[1], facts.destination[1])
        addresses = source.packed + destination.packed + ports
    rest = addresses
    if facts.alpn is not None:
        rest += _tlv(_ALPN, facts.alpn.encode())
    if facts.server_name is not None:
        rest += _tlv(_AUTHORITY, facts.server_name.encode())
    rest += _tlv(_SSL, _ssl(facts))
    return _SIGNATURE + struct.pack("!BBH", _VERSION_2_PROXY, family, len(rest)) + rest


def _ends(facts: ClientFacts) -> Sequence[tuple[str, int]]:
    return facts.source, facts.destination


def _ssl(facts: ClientFacts) -> bytes:
    flags = _CLIENT_SSL
    if facts.certified:
        flags |= _CLIENT_CERT_SESS if facts.resumed else _CLIENT_CERT_CONN | _CLIENT_CERT_SESS
    # §2.2.7: "verify will be zero if the client presented a certificate and it was successfully
    # verified, and non-zero otherwise".
    value = struct.pack("!BI", flags, 0 if facts.certified else 1)
    value += _tlv(_SSL_VERSION, facts.version.encode())
    if facts.common_name is not None:
        value += _tlv(_SSL_CN, facts.common_name.encode())
    return value + _tlv(_SSL_CIPHER, facts.cipher.encode())


def _tlv(kind: int, value: bytes) -> bytes:
    value = value[:_MAX_VALUE]
    return struct.pack("!BH", kind, len(value)) + value
