"""Free TCP ports, chosen at random so that test runs side by side do not meet."""

from __future__ import annotations

import random
import socket
from typing import Final

__all__ = ["free_port"]

_RANGE: Final = range(20_000, 32_000)
"""Below Linux' ephemeral ports, so that no outgoing connection takes the port meanwhile."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on at `host`.

    :raises OSError: none of a hundred tries was free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last: OSError | None = None
    for port in random.sample(_RANGE, 100):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                last = error
                continue
            return port
    raise OSError(f"no free port at {host}") from last
