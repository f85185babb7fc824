"""The kinds of value that a setting can have, and how people write them. Pure.

A number of seconds may be written as ``30``, ``"0.5"``, ``"20ms"``, ``"12h"``; a number of bytes as
``65536``, ``"64KiB"``, ``"64MiB"``. A list may be one string with commas, as that is all that an
environment variable can hold. Every parser raises :class:`ValueError` with a sentence for the user.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, PlainSerializer

from coordinator.settings import EntropySource
from shard.settings.backend import is_host_name, parse_backends

__all__ = [
    "Address",
    "Count",
    "Duration",
    "FilePath",
    "Size",
    "SocketAddress",
    "Switch",
    "Words",
    "check_alpn",
    "check_application",
    "check_distinct",
    "check_endpoint",
    "check_entropy_sources",
    "check_network",
    "check_resumption",
    "check_root_path",
    "check_server_name",
    "parse_duration",
    "parse_size",
]

_NUMBER: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_SECONDS: Final = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BYTES: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_SWITCH: Final = {"1": True, "true": True, "yes": True, "on": True} | {
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket is bound: an IP address and a port (0: the kernel chooses one)."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read ``127.0.0.1:8443``, ``[::1]:8443`` or ``localhost:8443``.

        :raises ValueError: it is something else.
        """
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise ValueError("not a string")
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isdecimal() or int(port) > MAX_PORT:
            raise ValueError("no port from 0 to 65535 after the last colon")
        bracketed = host.startswith("[") and host.endswith("]")
        bare = host[1:-1] if bracketed else host
        if host == "localhost":
            return cls("127.0.0.1", int(port))
        try:
            parsed = ipaddress.ip_address(bare)
        except ValueError:
            raise ValueError(f"{bare!r} is not an IP address") from None
        if bracketed != (parsed.version == 6):
            raise ValueError("an IPv6 address, and only that, is written in square brackets")
        return cls(str(parsed), int(port))

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


def parse_duration(value: Any) -> float:
    """Seconds, from a number or from text with a unit (ms, s, m, h, d).

    :raises ValueError: it is something else.
    """
    return _scaled(value, _SECONDS, "a duration's unit is one of ms, s, m, h, d")


def parse_size(value: Any) -> int:
    """Bytes, from a whole number or from text with a unit (KB, KiB, MB, MiB, GB, GiB).

    :raises ValueError: it is something else.
    """
    scaled = _scaled(value, _BYTES, "a size's unit is one of KB, KiB, MB, MiB, GB, GiB")
    if scaled != int(scaled):
        raise ValueError("not a whole number of bytes")
    return int(scaled)


def _scaled(value: Any, units: dict[str, Any], remedy: str) -> float:
    if isinstance(value, bool):
        raise ValueError("not a number")
    if isinstance(value, int | float):
        return float(value)
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a number with an optional unit")
    number, unit = match.groups()
    if unit.lower() not in units:
        raise ValueError(remedy)
    return float(number) * float(units[unit.lower()])


def _count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value):
        return int(value)
    raise ValueError("not a whole number")


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _SWITCH:
        return _SWITCH[value.strip().lower()]
    raise ValueError("neither true nor false")


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return tuple(value) if isinstance(value, list) else value


def _path(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a path")
    return Path(value).expanduser()


def check_endpoint(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if not separator or scheme not in ("ipc", "tcp") or not rest:
        raise ValueError("not an endpoint")
    if scheme == "ipc" and not rest.startswith("/"):
        raise ValueError("the path of an ipc:// endpoint must be absolute")
    if scheme == "tcp":
        host, colon, port = rest.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) <= 65535:
            raise ValueError("a tcp:// endpoint needs a host and a port from 1 to 65535")
    return value


def check_application(value: str) -> str:
    kind, colon, rest = value.partition(":")
    if kind == "proxy":
        parse_backends(rest)
        return value
    if value in ("hello", "echo"):
        return value
    if kind in ("asgi", "wsgi"):
        kind, colon, rest = rest.partition(":")
    if colon and all(part.isidentifier() for part in f"{kind}.{rest}".split(".")):
        return value
    raise ValueError("no such application")


def check_root_path(value: str) -> str:
    # Joined with a request's path, which begins with a slash.
    if value and (not value.startswith("/") or value.endswith("/") or not value.isascii()):
        raise ValueError("not a path")
    return value


def check_server_name(value: str) -> str:
    """A host name in lower case; its first label may be a star, alone."""
    name = value.strip().lower().rstrip(".")
    if not is_host_name(name.removeprefix("*.")):
        raise ValueError("not a host name")
    return name


def check_network(value: str) -> str:
    """An address or a network, as it is always written."""
    network = ipaddress.ip_network(value.strip())
    return str(network)


def check_resumption(value: str) -> str:
    if value not in ("cache", "tickets", "off"):
        raise ValueError("no such mode")
    return value


def check_alpn(value: tuple[str, ...]) -> tuple[str, ...]:
    # RFC 7301 §3.1: a name is 1 to 255 bytes.
    if not all(1 <= len(name.encode()) <= 255 for name in value):
        raise ValueError("a name is 1 to 255 bytes")
    return check_distinct(value)


def check_entropy_sources(value: tuple[str, ...]) -> tuple[str, ...]:
    check_distinct(tuple(EntropySource.parse(text).name for text in value))
    return value


def check_distinct(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(value)) != len(value):
        raise ValueError("something is named twice")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
Count = Annotated[int, BeforeValidator(_count)]
Switch = Annotated[bool, BeforeValidator(_switch)]
FilePath = Annotated[Path, BeforeValidator(_path), PlainSerializer(str)]
SocketAddress = Annotated[Address, BeforeValidator(Address.parse), PlainSerializer(str)]
Words = BeforeValidator(_words)
"""For a tuple of strings."""
