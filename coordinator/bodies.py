"""Bodies of *control* requests, read and checked. Pure.

Every reader raises :class:`MessageError` with code ``shape`` for what does not fit; unknown keys
are ignored, so that a newer peer is understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from coordinator.errors import MessageError
from coordinator.protocol import ERROR_SHAPE

__all__ = [
    "byte_strings",
    "count",
    "optional_bytes",
    "optional_fixed",
    "optional_map",
    "optional_text",
    "seconds",
    "text",
]

MAX_TEXT_CHARS: Final = 255


def text(body: Mapping[str, Any], key: str) -> str:
    """A required string of 1 to 255 printable characters."""
    value = body.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT_CHARS:
        raise MessageError(ERROR_SHAPE, f"{key} is a string of 1 to {MAX_TEXT_CHARS} characters")
    if not value.isprintable():
        raise MessageError(ERROR_SHAPE, f"{key} has characters that cannot be printed")
    return value


def optional_text(body: Mapping[str, Any], key: str) -> str | None:
    """An optional string, as :func:`text`."""
    return None if body.get(key) is None else text(body, key)


def optional_fixed(body: Mapping[str, Any], key: str, length: int) -> bytes | None:
    """An optional string of `length` bytes."""
    value = body.get(key)
    if value is not None and (not isinstance(value, bytes) or len(value) != length):
        raise MessageError(ERROR_SHAPE, f"{key} is {length} bytes")
    return value


def count(body: Mapping[str, Any], key: str, most: int) -> int:
    """A required integer from 0 to `most`."""
    value = body.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise MessageError(ERROR_SHAPE, f"{key} is an integer from 0 to {most}")
    return value


def seconds(body: Mapping[str, Any], key: str, default: float, most: float) -> float:
    """An optional number of seconds, over 0 and at most `most`."""
    value = body.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
        raise MessageError(ERROR_SHAPE, f"{key} is a number of seconds, at most {most:g}")
    return float(value)


def optional_map(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An optional map; empty if it is not there."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MessageError(ERROR_SHAPE, f"{key} is a map")
    return value


def optional_bytes(body: Mapping[str, Any], key: str, most: int) -> bytes:
    """An optional string of 1 to `most` bytes; empty if it is not there."""
    value = body.get(key)
    if value is None:
        return b""
    if not isinstance(value, bytes) or not 1 <= len(value) <= most:
        raise MessageError(ERROR_SHAPE, f"{key} is 1 to {most} bytes")
    return value


def byte_strings(body: Mapping[str, Any], key: str, length: int, most: int) -> tuple[bytes, ...]:
    """An optional array of at most `most` strings of `length` bytes each."""
    values = body.get(key, [])
    if not isinstance(values, list) or len(values) > most:
        raise MessageError(ERROR_SHAPE, f"{key} is an array of at most {most}")
    if not all(isinstance(value, bytes) and len(value) == length for value in values):
        raise MessageError(ERROR_SHAPE, f"{key} is an array of strings of {length} bytes")
    return tuple(values)
