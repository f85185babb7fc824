"""The wire between workers, supervisors, administrators and the coordinator.

Pure: bytes in, values out. It opens no socket and reads no clock.

Every message is one ZeroMQ frame that holds one msgpack array: ``[VERSION, type, …]``.

*sessions* endpoint (hot: many operations a message, many answers a reply, a put has no reply)::

    worker → [1, "sessions", worker, [[scope, id, value, server_name], …],
                                     [[token, op, scope, [id, …]], …]]
                                     (a strike: [token, 2, scope, [id], issued, expires])
    ←        [1, "answers", [[token, id | nil, value | nil, reason | nil], …]]
    ←        [1, "error", nil, code, detail]

*control* endpoint::

    any    → [1, type, request, body]          a request; `request` is chosen by the sender
    ←        [1, "reply", request, body]
    ←        [1, "error", request, code, detail]
    ←        [1, "order", order, body]          to a registered supervisor or worker
    any    → [1, "ack", order, body]            its answer

Every decoder here checks version, type, shape and size, and raises :class:`MessageError` with a
code from ``ERROR_*``; nothing of a refused message has any effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack

from coordinator.errors import MessageError
from coordinator.messages import (
    Ack,
    Answer,
    Lookup,
    LookupOp,
    Order,
    Put,
    Refusal,
    Reply,
    Request,
    SessionsRequest,
)

__all__ = [
    "CONTROL_TYPES",
    "ERROR_EXPIRED",
    "ERROR_FORBIDDEN",
    "ERROR_REFUSED",
    "ERROR_SHAPE",
    "ERROR_SIZE",
    "ERROR_TYPE",
    "ERROR_UNREGISTERED",
    "ERROR_VERSION",
    "ID_BYTES",
    "MAX_IDS",
    "MAX_LOOKUPS",
    "MAX_MESSAGE_BYTES",
    "MAX_PUTS",
    "MAX_TOKEN",
    "MAX_VALUE_BYTES",
    "SCOPE_BYTES",
    "SEED_BYTES",
    "VERSION",
    "Ack",
    "Answer",
    "Lookup",
    "LookupOp",
    "Order",
    "Put",
    "Refusal",
    "Reply",
    "Request",
    "SessionsRequest",
    "decode_answers",
    "decode_control",
    "decode_from_coordinator",
    "decode_sessions",
    "encode_ack",
    "encode_answers",
    "encode_error",
    "encode_order",
    "encode_reply",
    "encode_request",
    "encode_sessions",
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
MAX_NAME_CHARS: Final = 255
SEED_BYTES: Final = 48
"""Seed length of an AES-256 CTR_DRBG without derivation function (SP 800-90A Rev. 1, table 3)."""

ERROR_VERSION: Final = "version"
ERROR_TYPE: Final = "type"
ERROR_SHAPE: Final = "shape"
ERROR_SIZE: Final = "size"
ERROR_UNREGISTERED: Final = "unregistered"
ERROR_FORBIDDEN: Final = "forbidden"
ERROR_REFUSED: Final = "refused"
ERROR_EXPIRED: Final = "expired"

CONTROL_TYPES: Final = frozenset(
    {
        "register",
        "heartbeat",
        "goodbye",
        "seed",
        "status",
        "scale",
        "drain",
        "reload",
        "rotate",
        "purge",
        "ping",
    }
)


def encode_sessions(worker: str, puts: Sequence[Put], lookups: Sequence[Lookup]) -> bytes:
    """One message for the *sessions* endpoint."""
    return _pack(
        [
            VERSION,
            "sessions",
            worker,
            puts,
            [_lookup_fields(ask) for ask in lookups],
        ]
    )


def _lookup_fields(ask: Lookup) -> tuple[Any, ...]:
    fields = (ask.token, int(ask.op), ask.scope, ask.ids)
    return (*fields, ask.issued_ms, ask.expires_ms) if ask.op is LookupOp.STRIKE else fields


def decode_sessions(frame: bytes) -> SessionsRequest:
    """Check and decode a message to the *sessions* endpoint.

    :raises MessageError: whatever is wrong with it.
    """
    fields = _envelope(frame, "sessions", 5)
    worker, puts, lookups = fields[2:]
    if not isinstance(puts, list) or not isinstance(lookups, list):
        raise MessageError(ERROR_SHAPE, "puts and lookups must be arrays")
    if len(puts) > MAX_PUTS or len(lookups) > MAX_LOOKUPS:
        raise MessageError(ERROR_SIZE, f"at most {MAX_PUTS} puts and {MAX_LOOKUPS} lookups")
    return SessionsRequest(
        worker=_name(worker, "worker"),
        puts=tuple([_put(item) for item in puts]),
        lookups=tuple([_lookup(item) for item in lookups]),
    )


def encode_answers(answers: Sequence[Answer]) -> bytes:
    """One reply of the *sessions* endpoint."""
    return _pack([VERSION, "answers", [(a.token, a.id, a.value, a.reason) for a in answers]])


def decode_answers(frame: bytes) -> tuple[Answer, ...] | Refusal:
    """Check and decode what the *sessions* endpoint sent.

    :raises MessageError: whatever is wrong with it.
    """
    fields = _unpack(frame)
    if fields[1] == "error":
        return _refusal(fields)
    if fields[1] != "answers" or len(fields) != 3 or not isinstance(fields[2], list):
        raise MessageError(ERROR_SHAPE, "expected answers")
    return tuple([_answer(item) for item in fields[2]])


def encode_request(type_: str, request: int, body: Mapping[str, Any]) -> bytes:
    """A request to the *control* endpoint."""
    return _pack([VERSION, type_, request, dict(body)])


def encode_ack(order: int, body: Mapping[str, Any]) -> bytes:
    """The answer to an order."""
    return _pack([VERSION, "ack", order, dict(body)])


def decode_control(frame: bytes) -> Request | Ack:
    """Check and decode a message to the *control* endpoint.

    :raises MessageError: whatever is wrong with it.
    """
    fields = _unpack(frame)
    kind = fields[1]
    if kind != "ack" and kind not in CONTROL_TYPES:
        raise MessageError(ERROR_TYPE, "unknown message type")
    if len(fields) != 4 or not isinstance(fields[3], dict):
        raise MessageError(ERROR_SHAPE, "expected [version, type, number, map]")
    number = _number(fields[2], "request")
    return Ack(number, fields[3]) if kind == "ack" else Request(kind, number, fields[3])


def encode_reply(request: int, body: Mapping[str, Any]) -> bytes:
    """The coordinator's answer to a request."""
    return _pack([VERSION, "reply", request, dict(body)])


def encode_order(order: int, body: Mapping[str, Any]) -> bytes:
    """An order to a registered peer."""
    return _pack([VERSION, "order", order, dict(body)])


def encode_error(request: int | None, code: str, detail: str) -> bytes:
    """The refusal of a message, on either endpoint."""
    return _pack([VERSION, "error", request, code, detail])


def decode_from_coordinator(frame: bytes) -> Reply | Refusal | Order:
    """Check and decode what the *control* endpoint sent.

    :raises MessageError: whatever is wrong with it.
    """
    fields = _unpack(frame)
    kind = fields[1]
    if kind == "error":
        return _refusal(fields)
    if kind not in ("reply", "order") or len(fields) != 4 or not isinstance(fields[3], dict):
        raise MessageError(ERROR_SHAPE, "expected a reply, an error or an order")
    number = _number(fields[2], "number")
    return Reply(number, fields[3]) if kind == "reply" else Order(number, fields[3])


def _pack(fields: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    if len(packed) > MAX_MESSAGE_BYTES:
        raise MessageError(ERROR_SIZE, f"a message is at most {MAX_MESSAGE_BYTES} bytes")
    return packed


def _unpack(frame: bytes) -> list[Any]:
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


def _envelope(frame: bytes, kind: str, length: int) -> list[Any]:
    fields = _unpack(frame)
    if fields[1] != kind:
        raise MessageError(ERROR_TYPE, "unknown message type")
    if len(fields) != length:
        raise MessageError(ERROR_SHAPE, f"{kind} has {length} fields")
    return fields


def _put(item: Any) -> Put:
    # The hot path of a message: one look at each field of a put that is as it should be.
    if type(item) is not list or len(item) != 4:
        raise MessageError(ERROR_SHAPE, "a put is [scope, id, value, server name]")
    scope, id_, value, server_name = item
    if type(value) is not bytes:
        raise MessageError(ERROR_SHAPE, "a session's value is bytes")
    if len(value) > MAX_VALUE_BYTES:
        raise MessageError(ERROR_SIZE, f"a session is at most {MAX_VALUE_BYTES} bytes")
    if type(scope) is not bytes or len(scope) != SCOPE_BYTES:
        raise MessageError(ERROR_SHAPE, f"a scope is {SCOPE_BYTES} bytes")
    if type(id_) is not bytes or len(id_) != ID_BYTES:
        raise MessageError(ERROR_SHAPE, f"an id is {ID_BYTES} bytes")
    if server_name is not None:
        _name(server_name, "server name")
    return Put(scope, id_, value, server_name)


def _lookup(item: Any) -> Lookup:
    if not isinstance(item, list) or len(item) not in (4, 6):
        raise MessageError(
            ERROR_SHAPE, "a lookup is [token, op, scope, ids], a strike has times too"
        )
    token, op, scope, ids, *times = item
    if not isinstance(ids, list) or not 1 <= len(ids) <= MAX_IDS:
        raise MessageError(ERROR_SHAPE, f"a lookup names 1 to {MAX_IDS} ids")
    if op not in (0, 1, 2) or isinstance(op, bool):
        raise MessageError(ERROR_SHAPE, "a lookup's op is 0 (get), 1 (take) or 2 (strike)")
    if (op == LookupOp.STRIKE) != bool(times) or (times and len(ids) != 1):
        raise MessageError(
            ERROR_SHAPE, "a strike names 1 id, its issue and its expiry; others none"
        )
    return Lookup(
        _number(token, "token"),
        LookupOp(op),
        _fixed(scope, SCOPE_BYTES, "scope"),
        tuple([_fixed(id_, ID_BYTES, "id") for id_ in ids]),
        *[_number(moment, "time") for moment in times],
    )


def _answer(item: Any) -> Answer:
    if not isinstance(item, list) or len(item) != 4:
        raise MessageError(ERROR_SHAPE, "an answer is [token, id, value, reason]")
    token, id_, value, reason = item
    found = isinstance(id_, bytes) and isinstance(value, bytes) and reason is None
    missed = id_ is None and value is None and isinstance(reason, str)
    if not found and not missed:
        raise MessageError(ERROR_SHAPE, "an answer is a session or a reason")
    return Answer(_number(token, "token"), id_, value, reason)


def _refusal(fields: list[Any]) -> Refusal:
    if len(fields) != 5 or not all(isinstance(field, str) for field in fields[3:]):
        raise MessageError(ERROR_SHAPE, "an error is [version, error, request, code, detail]")
    request = None if fields[2] is None else _number(fields[2], "request")
    return Refusal(request, fields[3], fields[4])


def _fixed(value: Any, length: int, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise MessageError(ERROR_SHAPE, f"a {what} is {length} bytes")
    return value


def _number(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_TOKEN:
        raise MessageError(ERROR_SHAPE, f"a {what} is an integer from 0 to 2^63 - 1")
    return value


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME_CHARS:
        raise MessageError(ERROR_SHAPE, f"a {what} is a string of 1 to {MAX_NAME_CHARS} characters")
    return value
