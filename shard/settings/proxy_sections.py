"""The sections of the TCP proxy. Values only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from shard.settings.backend import parse_backends
from shard.settings.key import Key, Section
from shard.settings.values import Count, Duration, check_server_name

__all__ = ["ProxySection", "RouteSection"]


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
    balance: Annotated[
        Literal["round_robin", "least_connections"],
        Key(
            "--balance",
            "Which of several backends is next.",
            '"round_robin" or "least_connections"',
            "MODE",
        ),
    ] = "round_robin"
    send_proxy: Annotated[
        Literal["off", "v1", "v2"],
        Key(
            "--send-proxy",
            "Tell backends of the client in a PROXY header.",
            '"off", "v1" or "v2"',
            "VERSION",
        ),
    ] = "off"
    health_interval: Annotated[
        Duration,
        Field(ge=0, le=3600),
        Key(
            "--health-interval",
            "How often each worker checks that backends take connections; 0: never.",
            'a duration from 0 to 1 h, such as 5 or "5s"',
            "SECONDS",
        ),
    ] = 5.0
    rise: Annotated[
        Count,
        Field(ge=1, le=100),
        Key(
            "--rise", "Good checks in a row until a backend is up.", "a whole number from 1 to 100"
        ),
    ] = 2
    fall: Annotated[
        Count,
        Field(ge=1, le=100),
        Key("--fall", "Failures in a row until a backend is down.", "a whole number from 1 to 100"),
    ] = 3
    resolve_interval: Annotated[
        Duration,
        Field(ge=1, le=86400),
        Key(
            "--resolve-interval",
            "How often the names of backends are looked up.",
            'a duration from 1 s to 24 h, such as 30 or "30s"',
            "SECONDS",
        ),
    ] = 30.0


def _joined(value: object) -> object:
    # As it is written in `server.app`.
    return ",".join(value) if isinstance(value, list) and _are_words(value) else value


def _are_words(value: list[object]) -> bool:
    return all(isinstance(item, str) for item in value)


def _checked_backends(value: str) -> str:
    parse_backends(value)
    return value


class RouteSection(Section):
    """One ``[[route]]``: backends for clients that ask for a name. In a file only."""

    server_name: Annotated[str, AfterValidator(check_server_name)]
    backend: Annotated[str, BeforeValidator(_joined), AfterValidator(_checked_backends)]
