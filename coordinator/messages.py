"""The messages of the wire as values. :mod:`coordinator.protocol` encodes and decodes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = [
    "Ack",
    "Answer",
    "Lookup",
    "LookupOp",
    "Mark",
    "Order",
    "Put",
    "Recall",
    "Refusal",
    "Reply",
    "Request",
    "SessionsRequest",
]


class LookupOp(IntEnum):
    """What a lookup does with the session it finds."""

    GET = 0
    """Leave it: a TLS 1.2 session id may be used again (RFC 5246 §7.3)."""
    TAKE = 1
    """Remove it in the same step: a TLS 1.3 ticket is used once (RFC 8446 §8.1, appendix C.4)."""
    STRIKE = 2
    """There is none: remember that a sealed ticket was used (RFC 8446 §8.1)."""


class Put(NamedTuple):
    """A session to store. `value` holds its secrets, so the repr leaves it out."""

    scope: bytes
    id: bytes
    value: bytes
    server_name: str | None
    client: str | None = None
    """The client's identity, from its certificate."""

    def __repr__(self) -> str:
        return f"Put(server_name={self.server_name!r}, value=<{len(self.value)} bytes>)"


class Lookup(NamedTuple):
    """A question for at most two sessions of one scope; the first found is the answer.

    :ivar token: the asker's own name for the question, never used again by it.
    :ivar issued_ms: of a strike alone, Unix time in milliseconds, as is `expires_ms`.
    """

    token: int
    op: LookupOp
    scope: bytes
    ids: tuple[bytes, ...]
    issued_ms: int = 0
    expires_ms: int = 0


class SessionsRequest(NamedTuple):
    """A decoded message to the *sessions* endpoint.

    :ivar age: seconds since the oldest of the puts was issued.
    :ivar mark: of the purges, as the worker knew it when it issued them; 0: of none; None: it
        does not take part.
    :ivar certificates: scope → SHA-256 of the certificate under which the puts were made.
    """

    worker: str
    puts: tuple[Put, ...]
    lookups: tuple[Lookup, ...]
    age: float = 0.0
    mark: int | None = None
    certificates: Mapping[bytes, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a :class:`Lookup`: a session, or the reason why there is none."""

    token: int
    id: bytes | None
    value: bytes | None
    reason: str | None

    def __repr__(self) -> str:
        return f"Answer(token={self.token}, found={self.value is not None}, reason={self.reason!r})"


@dataclass(frozen=True, slots=True)
class Recall:
    """The coordinator wants the puts that a reader collects: it is asked for one that it lacks."""


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded request to the *control* endpoint. `type` is one of
    :data:`coordinator.protocol.CONTROL_TYPES`.
    """

    type: str
    request: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ack:
    """A supervisor's or worker's answer to an order."""

    order: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """The coordinator's answer to a request."""

    request: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The coordinator's refusal of a request (`request` is None if it could not be read)."""

    request: int | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a supervisor or worker is told to do: ``body["do"]`` names it."""

    order: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a reader shall give as its mark from now on: see :mod:`coordinator.purges`."""

    mark: int
