"""The wire between workers, supervisors, administrators and the coordinator.

Pure: bytes in, values out. It opens no socket and reads no clock.

Every message is one ZeroMQ frame that holds one msgpack array: ``[VERSION, type, …]``.

*sessions* endpoint (hot: many operations a message, many answers a reply, a put has no reply)::

    worker → [1, "sessions", worker, [[scope, id, value, server_name, client], …],
                                     [[token, op, scope, [id, …]], …],
                                     {"age": ms, "mark": n, "certificates": {scope: sha256}}]
                                     (a strike: [token, 2, scope, [id], issued, expires])
    ←        [1, "answers", [[token, id | nil, value | nil, reason | nil], …]]
    ←        [1, "recall"]                  send the puts that you collect
    ←        [1, "mark", n]
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

from coordinator.errors import MessageError
from coordinator.messages import (
    Ack,
    Answer,
    Lookup,
    LookupOp,
    Mark,
    Order,
    Put,
    Recall,
    Refusal,
    Reply,
    Request,
    SessionsRequest,
)
from coordinator.wire import (
    CONTROL_TYPES,
    ERROR_ABSENT,
    ERROR_ENTROPY,
    ERROR_EXPIRED,
    ERROR_FORBIDDEN,
    ERROR_REFUSED,
    ERROR_SHAPE,
    ERROR_SIZE,
    ERROR_TYPE,
    ERROR_UNREGISTERED,
    ERROR_VERSION,
    FINGERPRINT_BYTES,
    FIRST_OUTPUT_BYTES,
    ID_BYTES,
    MAX_FIRST_OUTPUTS,
    MAX_IDS,
    MAX_LEDGER_LINES,
    MAX_LOOKUPS,
    MAX_MARK,
    MAX_MESSAGE_BYTES,
    MAX_NOISE_BYTES,
    MAX_PUTS,
    MAX_TOKEN,
    MAX_VALUE_BYTES,
    SCOPE_BYTES,
    SEED_BYTES,
    VERSION,
    fixed,
    name,
    number,
    pack,
    unpack,
)

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
    "MAX_NOISE_BYTES",
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
    "Mark",
    "Order",
    "Put",
    "Recall",
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
    "encode_mark",
    "encode_order",
    "encode_recall",
    "encode_reply",
    "encode_request",
    "encode_sessions",
]

_MAX_AGE_MS: Final = 2**40


def encode_sessions(
    worker: str,
    puts: Sequence[Put],
    lookups: Sequence[Lookup],
    *,
    age: float = 0.0,
    mark: int | None = None,
    certificates: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """One message for the *sessions* endpoint: a :class:`SessionsRequest`."""
    about: dict[str, Any] = {"age": int(age * 1000)} if puts else {}
    if mark is not None:
        about["mark"] = mark
    if certificates:
        about["certificates"] = certificates
    asked = [_lookup_fields(ask) for ask in lookups]
    return pack([VERSION, "sessions", worker, puts, asked, about])


def _lookup_fields(ask: Lookup) -> tuple[Any, ...]:
    fields = (ask.token, int(ask.op), ask.scope, ask.ids)
    return (*fields, ask.issued_ms, ask.expires_ms) if ask.op is LookupOp.STRIKE else fields


def decode_sessions(frame: bytes) -> SessionsRequest:
    """Check and decode a message to the *sessions* endpoint.

    :raises MessageError: whatever is wrong with it.
    """
    fields = unpack(frame)
    if fields[1] != "sessions":
        raise MessageError(ERROR_TYPE, "unknown message type")
    if not 5 <= len(fields) <= 6:
        raise MessageError(ERROR_SHAPE, "sessions has 5 or 6 fields")
    worker, puts, lookups = fields[2:5]
    if not isinstance(puts, list) or not isinstance(lookups, list):
        raise MessageError(ERROR_SHAPE, "puts and lookups must be arrays")
    if len(puts) > MAX_PUTS or len(lookups) > MAX_LOOKUPS:
        raise MessageError(ERROR_SIZE, f"at most {MAX_PUTS} puts and {MAX_LOOKUPS} lookups")
    about = _about(fields[5]) if len(fields) == 6 else ()
    return SessionsRequest(
        name(worker, "worker"),
        tuple([_put(item) for item in puts]),
        tuple([_lookup(item) for item in lookups]),
        *about,
    )


def encode_answers(answers: Sequence[Answer]) -> bytes:
    """One reply of the *sessions* endpoint."""
    return pack([VERSION, "answers", [(a.token, a.id, a.value, a.reason) for a in answers]])


def encode_mark(mark: int) -> bytes:
    """What a reader is told after a purge."""
    return pack([VERSION, "mark", mark])


def encode_recall() -> bytes:
    """The *sessions* endpoint's wish for the puts that a reader collects."""
    return pack([VERSION, "recall"])


def decode_answers(frame: bytes) -> tuple[Answer, ...] | Mark | Recall | Refusal:
    """Check and decode what the *sessions* endpoint sent.

    :raises MessageError: whatever is wrong with it.
    """
    fields = unpack(frame)
    if fields[1] == "error":
        return _refusal(fields)
    if fields[1] == "mark" and len(fields) == 3:
        return Mark(number(fields[2], "mark"))
    if fields[1] == "recall" and len(fields) == 2:
        return Recall()
    if fields[1] != "answers" or len(fields) != 3 or not isinstance(fields[2], list):
        raise MessageError(ERROR_SHAPE, "expected answers")
    return tuple([_answer(item) for item in fields[2]])


def encode_request(type_: str, request: int, body: Mapping[str, Any]) -> bytes:
    """A request to the *control* endpoint."""
    return pack([VERSION, type_, request, dict(body)])


def encode_ack(order: int, body: Mapping[str, Any]) -> bytes:
    """The answer to an order."""
    return pack([VERSION, "ack", order, dict(body)])


def decode_control(frame: bytes) -> Request | Ack:
    """Check and decode a message to the *control* endpoint.

    :raises MessageError: whatever is wrong with it.
    """
    fields = unpack(frame)
    kind = fields[1]
    if kind != "ack" and kind not in CONTROL_TYPES:
        raise MessageError(ERROR_TYPE, "unknown message type")
    if len(fields) != 4 or not isinstance(fields[3], dict):
        raise MessageError(ERROR_SHAPE, "expected [version, type, number, map]")
    numbered = number(fields[2], "request")
    return Ack(numbered, fields[3]) if kind == "ack" else Request(kind, numbered, fields[3])


def encode_reply(request: int, body: Mapping[str, Any]) -> bytes:
    """The coordinator's answer to a request."""
    return pack([VERSION, "reply", request, dict(body)])


def encode_order(order: int, body: Mapping[str, Any]) -> bytes:
    """An order to a registered peer."""
    return pack([VERSION, "order", order, dict(body)])


def encode_error(request: int | None, code: str, detail: str) -> bytes:
    """The refusal of a message, on either endpoint."""
    return pack([VERSION, "error", request, code, detail])


def decode_from_coordinator(frame: bytes) -> Reply | Refusal | Order:
    """Check and decode what the *control* endpoint sent.

    :raises MessageError: whatever is wrong with it.
    """
    fields = unpack(frame)
    kind = fields[1]
    if kind == "error":
        return _refusal(fields)
    if kind not in ("reply", "order") or len(fields) != 4 or not isinstance(fields[3], dict):
        raise MessageError(ERROR_SHAPE, "expected a reply, an error or an order")
    numbered = number(fields[2], "number")
    return Reply(numbered, fields[3]) if kind == "reply" else Order(numbered, fields[3])


def _put(item: Any) -> Put:
    # The hot path of a message: one look at each field of a put that is as it should be.
    if type(item) is not list or not 4 <= len(item) <= 5:
        raise MessageError(ERROR_SHAPE, "a put is [scope, id, value, server name, client]")
    client = item.pop() if len(item) == 5 else None
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
        name(server_name, "server name")
    if client is not None:
        name(client, "client")
    return Put(scope, id_, value, server_name, client)


def _about(fields: Any) -> tuple[float, int | None, Mapping[bytes, bytes]]:
    """What a message says of its puts. A newer worker may say more."""
    if not isinstance(fields, dict):
        raise MessageError(ERROR_SHAPE, "what is said of puts is a map")
    # No session gets as old as the bound, and a float is exact far beyond it.
    age = min(number(fields.get("age", 0), "age"), _MAX_AGE_MS) / 1000
    mark = number(fields["mark"], "mark") if "mark" in fields else None
    certificates = fields.get("certificates", {})
    if not isinstance(certificates, dict):
        raise MessageError(ERROR_SHAPE, "certificates is a map")
    if len(certificates) > MAX_PUTS:
        raise MessageError(ERROR_SIZE, f"at most {MAX_PUTS} certificates")
    for scope, fingerprint in certificates.items():
        fixed(scope, SCOPE_BYTES, "scope")
        fixed(fingerprint, FINGERPRINT_BYTES, "certificate's fingerprint")
    return age, mark, certificates


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
        number(token, "token"),
        LookupOp(op),
        fixed(scope, SCOPE_BYTES, "scope"),
        tuple([fixed(id_, ID_BYTES, "id") for id_ in ids]),
        *[number(moment, "time") for moment in times],
    )


def _answer(item: Any) -> Answer:
    if not isinstance(item, list) or len(item) != 4:
        raise MessageError(ERROR_SHAPE, "an answer is [token, id, value, reason]")
    token, id_, value, reason = item
    found = isinstance(id_, bytes) and isinstance(value, bytes) and reason is None
    missed = id_ is None and value is None and isinstance(reason, str)
    if not found and not missed:
        raise MessageError(ERROR_SHAPE, "an answer is a session or a reason")
    return Answer(number(token, "token"), id_, value, reason)


def _refusal(fields: list[Any]) -> Refusal:
    if len(fields) != 5 or not all(isinstance(field, str) for field in fields[3:]):
        raise MessageError(ERROR_SHAPE, "an error is [version, error, request, code, detail]")
    request = None if fields[2] is None else number(fields[2], "request")
    return Refusal(request, fields[3], fields[4])
