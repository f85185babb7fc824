"""Bytes that no decent client sends, and what a server does with them.

ClientHellos are built by hand (RFC 8446 §4.1.2), so that any field can be wrong.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ALERTS",
    "Extension",
    "Reaction",
    "client_hello",
    "extensions",
    "handshake",
    "pre_shared_key",
    "psk_body",
    "records",
    "send",
]

HANDSHAKE: Final = 22
ALERT: Final = 21
CLIENT_HELLO: Final = 1
KEY_SHARE: Final = 51
PRE_SHARED_KEY: Final = 41
X25519: Final = 0x001D
SECP256R1: Final = 0x0017

ALERTS: Final = {
    0: "close_notify",
    10: "unexpected_message",
    22: "record_overflow",
    40: "handshake_failure",
    47: "illegal_parameter",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    80: "internal_error",
    109: "missing_extension",
}
"""RFC 8446 §6, those that can be met here."""

Extension = tuple[int, bytes]


def _vector(body: bytes, length_bytes: int) -> bytes:
    return len(body).to_bytes(length_bytes, "big") + body


def handshake(kind: int, body: bytes) -> bytes:
    """A handshake message."""
    return bytes([kind]) + _vector(body, 3)


def records(message: bytes, size: int = 16384, kind: int = HANDSHAKE) -> bytes:
    """As TLS records of at most `size` bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)] or [b""]
    return b"".join(struct.pack(">BHH", kind, 0x0301, len(piece)) + piece for piece in pieces)


def extensions(
    *, group: int = X25519, share: bytes | None = None, last: Sequence[Extension] = ()
) -> list[Extension]:
    """What a TLS 1.3 client sends, with one key share; `last` comes after all others, where a
    pre_shared_key has to be (§4.2.11).
    """
    if share is None:
        share = os.urandom(32)
    return [
        (0, _vector(b"\0" + _vector(b"localhost", 2), 2)),
        (43, b"\x02\x03\x04"),
        (10, _vector(struct.pack(">H", group), 2)),
        (13, _vector(b"\x04\x03\x08\x04\x04\x01", 2)),
        (45, b"\x01\x01"),
        (KEY_SHARE, _vector(struct.pack(">H", group) + _vector(share, 2), 2)),
        *last,
    ]


def client_hello(
    extra: Iterable[Extension] | None = None, *, session_id: bytes = b"", padding: int = 0
) -> bytes:
    """A ClientHello message.

    :param extra: all its extensions; default: :func:`extensions`.
    :param padding: bytes of a padding extension (RFC 7685), to make it long.
    """
    chosen = list(extensions() if extra is None else extra)
    while padding > 0:
        piece = min(padding, 60_000)
        chosen.insert(0, (21 if padding == piece else 0xFA00 + padding % 251, bytes(piece)))
        padding -= piece
    block = b"".join(struct.pack(">H", kind) + _vector(body, 2) for kind, body in chosen)
    body = b"\x03\x03" + os.urandom(32) + _vector(session_id, 1)
    body += _vector(b"\x13\x02\x13\x01", 2) + b"\x01\x00"
    return handshake(CLIENT_HELLO, body + struct.pack(">H", len(block) & 0xFFFF) + block)


def psk_body(*identities: bytes) -> bytes:
    """The body of a pre_shared_key extension with a binder of 32 bytes for each identity."""
    offered = b"".join(_vector(identity, 2) + bytes(4) for identity in identities)
    binders = b"".join(_vector(os.urandom(32), 1) for _ in identities)
    return _vector(offered, 2) + _vector(binders, 2)


def pre_shared_key(body: bytes) -> bytes:
    """A ClientHello that ends with a pre_shared_key extension of this body."""
    return client_hello(extensions(last=[(PRE_SHARED_KEY, body)]))


@dataclass(frozen=True, slots=True)
class Reaction:
    """What the server did.

    :ivar alert: the name of the alert it sent.
    :ivar went_on: it sent a handshake message (ServerHello or HelloRetryRequest).
    :ivar closed: it closed, or reset, before the client did.
    """

    alert: str | None
    went_on: bool
    closed: bool


def send(
    address: tuple[str, int],
    pieces: Iterable[bytes],
    *,
    patience: float,
    until_handshake: bool = True,
) -> Reaction:
    """Connect, send piece by piece, read what comes until the server closes, or has sent a
    handshake message if that is enough, or `patience` seconds have passed.
    """
    received = b""
    closed = False
    deadline = time.monotonic() + patience
    with socket.create_connection(address, timeout=patience) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                plain.sendall(piece)
            while not (until_handshake and HANDSHAKE in [kind for kind, _ in parse(received)]):
                plain.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = plain.recv(65536)
                if not chunk:
                    closed = True
                    break
                received += chunk
        except TimeoutError:
            closed = False
        except ConnectionError:
            closed = True
    seen = parse(received)
    alerts = [body[1] for kind, body in seen if kind == ALERT and len(body) == 2]
    return Reaction(
        alert=ALERTS.get(alerts[0], str(alerts[0])) if alerts else None,
        went_on=any(kind == HANDSHAKE for kind, _ in seen),
        closed=closed,
    )


def parse(stream: bytes) -> list[tuple[int, bytes]]:
    """The whole records of a stream: content type and fragment."""
    found = []
    while len(stream) >= 5:
        length = int.from_bytes(stream[3:5], "big")
        if len(stream) < 5 + length:
            break
        found.append((stream[0], stream[5 : 5 + length]))
        stream = stream[5 + length :]
    return found
