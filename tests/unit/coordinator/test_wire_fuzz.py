"""Whatever comes in a message: an error at worst, and nothing has changed then."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.errors import MessageError
from coordinator.lookups import SessionDesk
from coordinator.parking import ParkingTable
from coordinator.protocol import (
    CONTROL_TYPES,
    VERSION,
    Lookup,
    LookupOp,
    Put,
    Refusal,
    decode_answers,
    decode_control,
    decode_from_coordinator,
    decode_sessions,
    encode_ack,
    encode_answers,
    encode_error,
    encode_mark,
    encode_order,
    encode_reply,
    encode_request,
    encode_sessions,
)
from coordinator.sessions import SessionCache
from coordinator.strikes import StrikeRegister
from tests.unit.coordinator.test_control import SUPERVISOR_BODY, WORKER_BODY, Script

SCOPE, ID = b"s" * 32, b"i" * 32
PUT = Put(SCOPE, ID, b"secret", "a.example", "alice")
LOOKUP = Lookup(7, LookupOp.TAKE, SCOPE, (ID, b"j" * 32))
STATS = {
    "connections": 1,
    "handshakes": {"full": 1, "resumed": 2, "failed": 0},
    "lookups": {"hits": 1, "misses": {"used": 1}, "server_names": {"a": {"hits": 1}}},
    "drbg": {"requests": 1, "last_reseed_age": 1.5},
}
BODIES: dict[str, dict[str, Any]] = {
    "register": WORKER_BODY,
    "heartbeat": {"id": "a-0.1", "state": "ready", "stats": STATS},
    "goodbye": {"id": "a-0.1"},
    "seed": {"id": "a-0.1", "purpose": "reseed"},
    "scale": {"workers": 2, "timeout": 1.0},
    "drain": {"worker": "a-0.1"},
    "rotate": {"drbg": True},
    "purge": {"scope": SCOPE, "server_name": "a", "older_than": 1.5},
}
SESSIONS = [
    encode_sessions("w", [PUT, PUT], [LOOKUP], age=0.004, mark=3, certificates={SCOPE: ID}),
    encode_sessions("w", [], [], mark=0),
    encode_sessions("w", [PUT], []),
]
CONTROL = [
    *(encode_request(type_, 5, BODIES.get(type_, {})) for type_ in sorted(CONTROL_TYPES)),
    encode_request("register", 6, SUPERVISOR_BODY),
    encode_ack(1, {"ok": True}),
]
FROM_COORDINATOR = [
    encode_answers([]),
    encode_error(None, "shape", "no"),
    encode_mark(9),
    encode_order(1, {"do": "reseed"}),
    encode_reply(5, {"boot": "b"}),
]

ATOMS = [
    None,
    True,
    -1,
    2**63,
    2**64 - 1,
    -(2**63),
    float("nan"),
    float("inf"),
    1e308,
    b"",
    SCOPE,
    "",
    "\x00\n\x1b[31m",
    "x" * 300,
    b"x" * 70_000,
    [],
    {},
    {"a": {}},
    [[[[[[]]]]]],
    msgpack.ExtType(5, b"x"),
    msgpack.Timestamp(0, 0),
]


def mutated(frame: bytes, rng: random.Random) -> bytes:
    """The same message with something in it changed: as values, as bytes, or both."""
    if rng.random() < 0.6:
        value = msgpack.unpackb(frame)
        for _ in range(rng.randint(1, 3)):
            value = exchanged(value, rng)
        frame = msgpack.packb(value)
    if rng.random() < 0.5:
        changed = bytearray(frame)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(changed) + 1)
            match rng.randrange(4):
                case 0:
                    changed[at : at + 1] = rng.randbytes(1)
                case 1:
                    del changed[at : at + rng.randint(1, 8)]
                case 2:
                    changed[at:at] = rng.choice([b"\x91" * 600, b"\xdf\xff\xff\xff\xff", b"\xc1"])
                case 3:
                    changed[at:at] = changed[max(at - 8, 0) : at]
        frame = bytes(changed)
    return frame


def exchanged(value: Any, rng: random.Random) -> Any:
    """One place in a value, however deep, with something else in it."""
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], exchanged(value[at], rng), *value[at + 1 :]]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.2:
            return {**value, rng.choice(["x", "", b"y", "age", "all"]): rng.choice(ATOMS)}
        return {**value, key: exchanged(value[key], rng)}
    return rng.choice(ATOMS)


def frames(valid: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Several messages, most of them damaged."""
    damaged = st.builds(mutated, st.sampled_from(valid), st.randoms(use_true_random=False))
    return st.lists(damaged | st.sampled_from(valid), min_size=1, max_size=25)


@settings(max_examples=120, deadline=None)
@given(frames(SESSIONS))
def test_the_sessions_endpoint(some: list[bytes]) -> None:
    cache = SessionCache(ttl=10.0, max_bytes=5000, max_entries=5, first_mark=3)
    desk = SessionDesk(
        cache, ParkingTable(park=0.01, limit=5), StrikeRegister(capacity=10, now=0.0, wall=0.0)
    )
    for number, frame in enumerate(some):
        before = (list(cache), cache.bytes_charged, cache.stored, len(desk.parking))
        try:
            request = decode_sessions(frame)
        except MessageError:
            assert before == (list(cache), cache.bytes_charged, cache.stored, len(desk.parking))
            continue
        desk.handle(b"reader", request, number * 0.001)
        desk.tick(number * 0.001)
        assert len(cache) <= 5
        assert cache.bytes_charged <= 5000
        for answers in desk.take_answers().values():
            decode_answers(encode_answers(answers))


def state(script: Script) -> object:
    """All that a message to the control endpoint may change."""
    desk = script.desk
    members = [(m.id, m.registration, m.state, m.worker, m.supervisor) for m in desk.registry]
    return members, len(desk.orders), desk.purges.due, len(script.cache), len(desk.purges.latest)


@settings(max_examples=120, deadline=None)
@given(frames(CONTROL))
def test_the_control_endpoint(some: list[bytes]) -> None:
    script = Script()
    script.reply(b"worker", "register", WORKER_BODY)
    script.reply(b"sup", "register", SUPERVISOR_BODY)
    script.cache.put(SCOPE, ID, b"secret", "b", "w", 0.0)
    for frame in some:
        before = state(script)
        answers = script.send(b"worker", frame)
        if len(answers) == 1 and isinstance(answers[0][1], Refusal):
            assert state(script) == before
        msgpack.packb(script.status())
        for answer in script.desk.advance_purges(script.now, 0.0):
            decode_from_coordinator(answer[1])


@pytest.mark.parametrize("decode", [decode_answers, decode_from_coordinator, decode_control])
@settings(max_examples=100, deadline=None)
@given(some=frames(FROM_COORDINATOR))
def test_what_a_peer_reads(decode: Callable[[bytes], object], some: list[bytes]) -> None:
    for frame in some:
        try:
            decode(frame)
        except MessageError:
            continue


@pytest.mark.parametrize("depth", [100, 511, 512, 1025, 100_000])
@pytest.mark.parametrize("kind", [b"\x91", b"\x81\xa1k"])
def test_nesting_is_refused_at_any_depth(depth: int, kind: bytes) -> None:
    deep = kind * depth + b"\xc0"
    about = b"\x96" + msgpack.packb(VERSION) + b"\xa8sessions\xa1w\x90\x90" + deep
    request = b"\x94" + msgpack.packb(VERSION) + b"\xa9heartbeat\x05\x81\xa5stats" + deep
    for decode in (decode_sessions, decode_control, decode_answers):
        with pytest.raises(MessageError):
            decode(deep)
    script = Script()
    script.reply(b"worker", "register", WORKER_BODY)
    before = state(script)
    ((_, answer),) = script.send(b"worker", request)
    assert isinstance(answer, Refusal)
    assert state(script) == before
    if kind == b"\x91":
        with pytest.raises(MessageError):
            decode_sessions(about)
