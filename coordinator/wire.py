"""What all messages have in common: bounds, error codes, and one msgpack array. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from coordinator.errors import MessageError

__all__ = [
    "CONTROL_TYPES",
    "ERROR_ABSENT",
    "ERROR_ENTROPY",
    "ERROR_EXPIRED",
    "ERROR_FORBIDDEN",
    "ERROR_REFUSED",
    "ERROR_SHAPE",
    "ERROR_SIZE",
    "ERROR_TYPE",
    "ERROR_UNREGISTERED",
    "ERROR_VERSION",
    "FINGERPRINT_BYTES",
    "FIRST_OUTPUT_BYTES",
    "ID_BYTES",
    "MAX_FIRST_OUTPUTS",
    "MAX_IDS",
    "MAX_LEDGER_LINES",
    "MAX_LOOKUPS",
    "MAX_MARK",
    "MAX_MESSAGE_BYTES",
    "MAX_NAME_CHARS",
    "MAX_NOISE_BYTES",
    "MAX_PUTS",
    "MAX_TOKEN",
    "MAX_VALUE_BYTES",
    "SCOPE_BYTES",
    "SEED_BYTES",
    "VERSION",
    "fixed",
    "name",
    "number",
    "pack",
    "unpack",
]

VERSION: Final = 1

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_PUTS: Final = 4096
MAX_LOOKUPS: Final = 4096
MAX_IDS: Final = 2
"""TLS 1.3 identities asked for in one lookup."""
ID_BYTES: Final = 32
SCOPE_BYTES: Final = 32
MAX_VALUE_BYTES: Final = 64 * 1024
"""A session with a client's certificate chain; larger ones are not stored."""
MAX_TOKEN: Final = 2**63 - 1
MAX_MARK: Final = MAX_TOKEN
FINGERPRINT_BYTES: Final = 32
"""SHA-256 of a certificate in DER."""
MAX_NAME_CHARS: Final = 255
SEED_BYTES: Final = 48
"""Seed length of an AES-256 CTR_DRBG without derivation function (SP 800-90A Rev. 1, table 3)."""
FIRST_OUTPUT_BYTES: Final = 32
"""The mark of a DRBG's first output after a seed: a SHA-256 hash."""
MAX_FIRST_OUTPUTS: Final = 8
"""Marks in a heartbeat."""
MAX_LEDGER_LINES: Final = 1024
"""Seeds that the coordinator can tell of."""
MAX_NOISE_BYTES: Final = 64
"""What a worker sends back with a request for a seed."""

ERROR_VERSION: Final = "version"
ERROR_TYPE: Final = "type"
ERROR_SHAPE: Final = "shape"
ERROR_SIZE: Final = "size"
ERROR_UNREGISTERED: Final = "unregistered"
ERROR_FORBIDDEN: Final = "forbidden"
ERROR_REFUSED: Final = "refused"
ERROR_ABSENT: Final = "absent"
"""Nobody who could do it is registered, or not yet."""
ERROR_EXPIRED: Final = "expired"
ERROR_ENTROPY: Final = "insufficient_entropy"

CONTROL_TYPES: Final = frozenset(
    {
        "register",
        "heartbeat",
        "goodbye",
        "seed",
        "status",
        "entropy",
        "scale",
        "drain",
        "reload",
        "rotate",
        "purge",
        "ping",
    }
)


def pack(fields: list[Any]) -> bytes:
    """A message.

    :raises MessageError: it is too large.
    """
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    if len(packed) > MAX_MESSAGE_BYTES:
        raise MessageError(ERROR_SIZE, f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    return packed


def unpack(frame: bytes) -> list[Any]:
    """A message's fields, of which the version is checked and the type is a string.

    :raises MessageError: whatever is wrong with it.
    """
    if len(frame) > MAX_MESSAGE_BYTES:
        raise MessageError(ERROR_SIZE, f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    try:
        fields = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except (ValueError, RecursionError) as error:
        # msgpack's own errors and UnicodeDecodeError are ValueErrors; the text may quote bytes
        # of the message, so it goes no further.
        raise MessageError(ERROR_SHAPE, "not one msgpack value") from error
    if not isinstance(fields, list) or len(fields) < 2:
        raise MessageError(ERROR_SHAPE, "expected an array [version, type, …]")
    if fields[0] != VERSION or isinstance(fields[0], bool):
        raise MessageError(ERROR_VERSION, f"this coordinator speaks version {VERSION}")
    if not isinstance(fields[1], str):
        raise MessageError(ERROR_TYPE, "the type must be a string")
    return fields


def fixed(value: Any, length: int, what: str) -> bytes:
    """Bytes of this length."""
    if not isinstance(value, bytes) or len(value) != length:
        raise MessageError(ERROR_SHAPE, f"a {what} is {length} bytes")
    return value


def number(value: Any, what: str) -> int:
    """A number that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_TOKEN:
        raise MessageError(ERROR_SHAPE, f"a {what} is an integer from 0 to 2^63 - 1")
    return value


def name(value: Any, what: str) -> str:
    """A short string that is not empty."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_CHARS:
        raise MessageError(ERROR_SHAPE, f"a {what} is a string of 1 to {MAX_NAME_CHARS} characters")
    return value
