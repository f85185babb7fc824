from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator import protocol
from coordinator.errors import MessageError
from coordinator.protocol import (
    ID_BYTES,
    MAX_LOOKUPS,
    MAX_MESSAGE_BYTES,
    MAX_PUTS,
    MAX_TOKEN,
    MAX_VALUE_BYTES,
    SCOPE_BYTES,
    VERSION,
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
    decode_answers,
    decode_control,
    decode_from_coordinator,
    decode_sessions,
    encode_ack,
    encode_answers,
    encode_error,
    encode_mark,
    encode_order,
    encode_recall,
    encode_reply,
    encode_request,
    encode_sessions,
)

DECODERS: list[Callable[[bytes], object]] = [
    decode_sessions,
    decode_answers,
    decode_control,
    decode_from_coordinator,
]
SCOPE = b"s" * SCOPE_BYTES
ID = b"i" * ID_BYTES

scopes = st.binary(min_size=SCOPE_BYTES, max_size=SCOPE_BYTES)
ids = st.binary(min_size=ID_BYTES, max_size=ID_BYTES)
tokens = st.integers(0, MAX_TOKEN)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=255)
puts = st.builds(Put, scopes, ids, st.binary(max_size=300), st.none() | names, st.none() | names)
lookups = st.builds(
    Lookup,
    tokens,
    st.sampled_from([LookupOp.GET, LookupOp.TAKE]),
    scopes,
    st.lists(ids, min_size=1, max_size=2).map(tuple),
    st.just(0),
    st.just(0),
) | st.builds(
    Lookup,
    tokens,
    st.just(LookupOp.STRIKE),
    scopes,
    st.tuples(ids),
    tokens,
    tokens,
)
answers = st.builds(Answer, tokens, ids, st.binary(max_size=300), st.none()) | st.builds(
    Answer, tokens, st.none(), st.none(), st.text(st.characters(codec="utf-8"))
)
bodies = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.binary(max_size=20),
    max_size=4,
)


@given(names, st.lists(puts, max_size=5), st.lists(lookups, max_size=5))
def test_a_sessions_message_survives(
    worker: str, some_puts: list[Put], some_lookups: list[Lookup]
) -> None:
    frame = encode_sessions(worker, some_puts, some_lookups)
    assert decode_sessions(frame) == SessionsRequest(worker, tuple(some_puts), tuple(some_lookups))


@given(st.integers(0, 10**9), st.none() | tokens, st.dictionaries(scopes, ids, max_size=3))
def test_what_is_said_of_puts_survives(
    age: int, mark: int | None, certificates: dict[bytes, bytes]
) -> None:
    put = Put(SCOPE, ID, b"v", None)
    seconds = age / 1000 + 0.0001
    frame = encode_sessions("w", [put], [], age=seconds, mark=mark, certificates=certificates)
    request = decode_sessions(frame)
    assert request == SessionsRequest("w", (put,), (), request.age, mark, certificates)
    assert seconds - 0.0011 <= request.age <= seconds


def test_a_worker_of_the_version_before_is_understood() -> None:
    frame = msgpack.packb([VERSION, "sessions", "w", [[SCOPE, ID, b"v", "a"]], []])
    assert decode_sessions(frame) == SessionsRequest("w", (Put(SCOPE, ID, b"v", "a"),), ())


def test_a_newer_worker_may_say_more() -> None:
    assert decode_sessions(sessions(about={"weather": "fine", "mark": 5})).mark == 5


@given(tokens)
def test_a_mark_survives(mark: int) -> None:
    assert decode_answers(encode_mark(mark)) == Mark(mark)


@given(st.lists(answers, max_size=5))
def test_answers_survive(some: list[Answer]) -> None:
    assert decode_answers(encode_answers(some)) == tuple(some)


def test_recall_round_trip() -> None:
    assert decode_answers(encode_recall()) == Recall()
    with pytest.raises(MessageError):
        decode_answers(msgpack.packb([VERSION, "recall", 1]))


@given(tokens, bodies)
def test_control_messages_survive(number: int, body: dict[str, Any]) -> None:
    assert decode_control(encode_request("ping", number, body)) == Request("ping", number, body)
    assert decode_control(encode_ack(number, body)) == Ack(number, body)
    assert decode_from_coordinator(encode_reply(number, body)) == Reply(number, body)
    assert decode_from_coordinator(encode_order(number, body)) == Order(number, body)


@pytest.mark.parametrize("request_number", [None, 0, MAX_TOKEN])
def test_an_error_is_read_on_both_endpoints(request_number: int | None) -> None:
    frame = encode_error(request_number, "refused", "why")
    assert decode_from_coordinator(frame) == Refusal(request_number, "refused", "why")
    assert decode_answers(frame) == Refusal(request_number, "refused", "why")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(
        [VERSION, "sessions", "answers", "mark", "age", "error", "ack", "reply", "order", SCOPE]
    ),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("decode", DECODERS)
@given(frame=st.binary(max_size=200))
@example(frame=b"\xd6\xff\x00\x00\x00\x01")
@example(frame=b"\xc7\x05\xff\x00\x00\x00\x00\x00")
@example(frame=b"\xdd\xff\xff\xff\xff")
@example(frame=b"\xc6\xff\xff\xff\xff")
@example(frame=b"\x91" * 100_000)
@example(frame=b"\x82\xa1a\x01\xa1a\x01")
@example(frame=b"\x94\x01\xa4ping\x01\x81\x90\x01")
@example(frame=b"\x94\x01\xa4ping\x01\x81\xa1\xff\x01")
def test_random_bytes_are_refused_and_nothing_worse(
    decode: Callable[[bytes], object], frame: bytes
) -> None:
    with pytest.raises(MessageError):
        decode(frame)


@pytest.mark.parametrize("decode", DECODERS)
@given(
    fields=st.lists(anything, max_size=6),
    kind=st.sampled_from([None, "sessions", "answers", "ping", "ack", "reply"]),
)
def test_wrong_values_in_a_right_envelope_are_refused_and_nothing_worse(
    decode: Callable[[bytes], object], fields: list[Any], kind: str | None
) -> None:
    message = fields if kind is None else [VERSION, kind, *fields]
    # Whatever else it raises is the failure.
    with contextlib.suppress(MessageError):
        decode(msgpack.packb(message))


def sessions(
    *, worker: Any = "w", some_puts: Any = (), some_lookups: Any = (), about: Any = None
) -> bytes:
    fields = [VERSION, "sessions", worker, some_puts, some_lookups]
    packed: bytes = msgpack.packb(fields if about is None else [*fields, about])
    return packed


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (sessions(worker=""), "shape"),
        (sessions(worker="w" * 256), "shape"),
        (sessions(worker=b"w"), "shape"),
        (sessions(some_puts=[[SCOPE, ID, b"v"]]), "shape"),
        (sessions(some_puts=[[SCOPE[1:], ID, b"v", None]]), "shape"),
        (sessions(some_puts=[[SCOPE, ID + b"x", b"v", None]]), "shape"),
        (sessions(some_puts=[[SCOPE, ID, "v", None]]), "shape"),
        (sessions(some_puts=[[SCOPE, ID, b"v", ""]]), "shape"),
        (sessions(some_puts=[[SCOPE, ID, b"v", b"name"]]), "shape"),
        (sessions(some_puts=[[SCOPE, ID, bytes(MAX_VALUE_BYTES + 1), None]]), "size"),
        (sessions(some_puts=[0] * (MAX_PUTS + 1)), "size"),
        (sessions(some_lookups=[0] * (MAX_LOOKUPS + 1)), "size"),
        (sessions(some_lookups=[[1, 0, SCOPE, []]]), "shape"),
        (sessions(some_lookups=[[1, 0, SCOPE, [ID] * 3]]), "shape"),
        (sessions(some_lookups=[[1, 2, SCOPE, [ID]]]), "shape"),
        (sessions(some_lookups=[[1, 3, SCOPE, [ID]]]), "shape"),
        (sessions(some_lookups=[[1, 2, SCOPE, [ID], 1]]), "shape"),
        (sessions(some_lookups=[[1, 2, SCOPE, [ID, ID], 1, 2]]), "shape"),
        (sessions(some_lookups=[[1, 2, SCOPE, [ID], -1, 2]]), "shape"),
        (sessions(some_lookups=[[1, 2, SCOPE, [ID], 1, 2.0]]), "shape"),
        (sessions(some_lookups=[[1, 1, SCOPE, [ID], 1, 2]]), "shape"),
        (sessions(some_lookups=[[1, True, SCOPE, [ID]]]), "shape"),
        (sessions(some_lookups=[[-1, 0, SCOPE, [ID]]]), "shape"),
        (sessions(some_lookups=[[MAX_TOKEN + 1, 0, SCOPE, [ID]]]), "shape"),
        (sessions(some_lookups=[[1.0, 0, SCOPE, [ID]]]), "shape"),
        (sessions(some_puts=[[SCOPE, ID, b"v", None, ""]]), "shape"),
        (sessions(some_puts=[[SCOPE, ID, b"v", None, None, None]]), "shape"),
        (sessions(about=[]), "shape"),
        (sessions(about={"age": -1}), "shape"),
        (sessions(about={"age": 1.5}), "shape"),
        (sessions(about={"age": 2**63}), "shape"),
        (sessions(about={"mark": None}), "shape"),
        (sessions(about={"mark": -1}), "shape"),
        (sessions(about={"certificates": []}), "shape"),
        (sessions(about={"certificates": {"name": ID}}), "shape"),
        (sessions(about={"certificates": {SCOPE: ID + b"x"}}), "shape"),
        (
            sessions(about={"certificates": {n.to_bytes(32, "big"): ID for n in range(4097)}}),
            "size",
        ),
        (msgpack.packb([VERSION + 1, "sessions", "w", [], []]), "version"),
        (msgpack.packb([True, "sessions", "w", [], []]), "version"),
        (msgpack.packb([VERSION, "session", "w", [], []]), "type"),
        (msgpack.packb([VERSION, "sessions", "w", [], [], {}, []]), "shape"),
        (b"\xc4" + bytes(MAX_MESSAGE_BYTES), "size"),
    ],
)
def test_each_rule_of_the_sessions_endpoint(frame: bytes, code: str) -> None:
    with pytest.raises(MessageError) as refused:
        decode_sessions(frame)
    assert refused.value.code == code


def test_what_would_be_too_large_is_not_sent() -> None:
    with pytest.raises(MessageError) as refused:
        encode_sessions("w", [Put(SCOPE, ID, bytes(MAX_VALUE_BYTES), None)] * 65, [])
    assert refused.value.code == "size"


def test_the_largest_allowed_is_read() -> None:
    put = Put(SCOPE, ID, bytes(MAX_VALUE_BYTES), "n" * 255)
    lookup = Lookup(MAX_TOKEN, LookupOp.GET, SCOPE, (ID, ID))
    request = decode_sessions(encode_sessions("w" * 255, [put], [lookup] * MAX_LOOKUPS))
    assert request.puts == (put,)
    assert len(request.lookups) == MAX_LOOKUPS


def test_no_repr_and_no_error_shows_a_session() -> None:
    secret = b"the-master-secret"
    assert "master" not in repr(Put(SCOPE, ID, secret, None))
    assert "master" not in repr(Answer(1, ID, secret, None))
    assert "master" not in repr(SessionsRequest("w", (Put(SCOPE, ID, secret, None),), ()))
    with pytest.raises(MessageError) as refused:
        decode_sessions(sessions(some_puts=[[secret, ID, secret, None]]))
    assert "master" not in str(refused.value)


def test_the_public_names_are_these() -> None:
    assert all(hasattr(protocol, name) for name in protocol.__all__)
