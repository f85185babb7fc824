"""The name of a backend as people write it: ``HOST:PORT``, ``[::1]:80``, ``unix:/path``. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Self

__all__ = ["BackendName", "is_host_name", "parse_backends"]

_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_MAX_NAME: Final = 253
_MAX_PORT: Final = 65535
_MAX_PATH: Final = 107


@dataclass(frozen=True, slots=True)
class BackendName:
    """Where a backend listens.

    :ivar host: an IP address or a DNS name; empty for a Unix socket.
    :ivar path: of a Unix socket; empty otherwise.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read one.

        :raises ValueError: it is something else.
        """
        if isinstance(text, cls):
            return text
        if not isinstance(text, str):
            raise ValueError("not a string")
        text = text.strip()
        if text.startswith("unix:"):
            return cls(path=_checked_path(text.removeprefix("unix:")))
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
            raise ValueError(f"{text!r} has no port from 1 to 65535 after the last colon")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            parsed = ipaddress.ip_address(bare)
        except ValueError:
            if bare != host or not is_host_name(host):
                raise ValueError(f"{host!r} is neither an IP address nor a host name") from None
            return cls(host=host.lower(), port=int(port))
        if (bare != host) != (parsed.version == 6):
            raise ValueError("an IPv6 address, and only that, is written in square brackets")
        return cls(host=str(parsed), port=int(port))

    @property
    def is_address(self) -> bool:
        """Whether there is nothing to be looked up."""
        if self.path:
            return True
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_backends(text: str) -> tuple[BackendName, ...]:
    """Several, with commas between them.

    :raises ValueError: there is none, one is wrong, or one is named twice.
    """
    names = tuple(BackendName.parse(part) for part in text.split(",") if part.strip())
    if not names:
        raise ValueError("no backend is named")
    if len(set(names)) != len(names):
        raise ValueError("a backend is named twice")
    return names


def _checked_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or str(PurePosixPath(path)) == "/":
        raise ValueError("the path of a Unix socket must be absolute")
    if len(path.encode()) > _MAX_PATH:
        raise ValueError(f"the path of a Unix socket has at most {_MAX_PATH} bytes")
    return path


def is_host_name(host: str) -> bool:
    """Whether it could be a DNS name."""
    labels = host.rstrip(".").split(".")
    return len(host) <= _MAX_NAME and all(_LABEL.fullmatch(label) for label in labels)
