"""The section of the TCP proxy. Values only."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from shard.settings.key import Key, Section
from shard.settings.values import Count, Duration

__all__ = ["ProxySection"]


class ProxySection(Section):
    """``[proxy]``: how ``proxy:`` reaches its backends."""

    connect_timeout: Annotated[
        Duration,
        Field(ge=0.05, le=300),
        Key(
            "--connect-timeout",
            "How long a connection to a backend may take to be made.",
            'a duration from 50 ms to 5 min, such as 5 or "5s"',
            "SECONDS",
        ),
    ] = 5.0
    retries: Annotated[
        Count,
        Field(ge=0, le=20),
        Key(
            "--retries",
            "Further attempts to connect, to other backends first.",
            "a whole number from 0 to 20",
        ),
    ] = 2
