"""What a reader says of its puts, and how its lookups are counted."""

from __future__ import annotations

import math

from coordinator.protocol import (
    Answer,
    SessionsRequest,
    decode_sessions,
    encode_answers,
    encode_mark,
)
from shard.breaker import Breaker
from shard.lookup_counts import merged
from shard.resumption import FLUSH_AFTER, Resumption

SCOPE = b"s" * 32
FINGERPRINT = b"f" * 32
TIMEOUT = 0.02


def session_id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def make() -> Resumption[str]:
    return Resumption("w-0.1", TIMEOUT, {SCOPE: FINGERPRINT}, {SCOPE: "a.example"})


def sent(resumption: Resumption[str], now: float) -> list[SessionsRequest]:
    return [decode_sessions(frame) for frame in resumption.messages(now)]


def issue(resumption: Resumption[str], count: int, now: float) -> None:
    for number in range(count):
        resumption.issued(SCOPE, "localhost", [(session_id(number), b"value")], now)


def test_a_message_says_how_old_its_puts_are_and_under_which_certificate() -> None:
    resumption = make()
    issue(resumption, 1, 10.0)
    resumption.issued(b"x" * 32, None, [(session_id(2), b"v")], 10.004, "alice")
    (message,) = sent(resumption, 10.0101)
    assert message.age == 0.01
    assert message.certificates == {SCOPE: FINGERPRINT}
    assert [put.client for put in message.puts] == [None, "alice"]
    issue(resumption, 1, 20.0)
    assert sent(resumption, 20.0075)[0].age == 0.007


def test_hello_asks_for_the_mark() -> None:
    assert decode_sessions(make().hello()) == SessionsRequest("w-0.1", (), (), mark=0)


def test_what_was_issued_before_a_mark_leaves_at_once_under_the_old_one() -> None:
    resumption = make()
    resumption.received(encode_mark(7), 9.0)
    assert [(m.mark, m.puts) for m in sent(resumption, 9.0)] == [(7, ())]
    issue(resumption, 2, 10.0)
    assert resumption.received(encode_mark(8), 10.001) == []
    assert resumption.due <= 10.001
    issue(resumption, 1, 10.001)
    first, second = sent(resumption, 10.001)
    assert (first.mark, len(first.puts)) == (7, 2)
    assert (second.mark, second.puts) == (8, ())
    (third,) = sent(resumption, 10.001 + FLUSH_AFTER)
    assert (third.mark, len(third.puts)) == (8, 1)
    assert resumption.due == math.inf


def test_a_mark_that_is_known_already_is_no_news() -> None:
    resumption = make()
    resumption.received(encode_mark(7), 9.0)
    resumption.messages(9.0)
    resumption.received(encode_mark(7), 9.1)
    assert resumption.due == math.inf
    assert resumption.messages(9.1) == []


def test_what_is_held_back_keeps_the_mark_of_its_issue() -> None:
    resumption = make()
    for number in range(3):
        assert resumption.wanted("lost", True, SCOPE, [session_id(number)], 10.0)
    resumption.messages(10.0)
    resumption.expired(now := 10.0 + TIMEOUT)
    assert resumption.breaker is Breaker.OPEN
    issue(resumption, 5, now)
    resumption.received(encode_mark(8), now + 1)
    first, second = sent(resumption, now + 1)
    assert (first.mark, len(first.puts), first.age) == (0, 5, 1.0)
    assert second.mark == 8


def test_an_id_that_cannot_be_ours_is_foreign_and_asks_nobody() -> None:
    resumption = make()
    assert resumption.wanted("c", True, SCOPE, [], 10.0) == 0
    assert resumption.counts["a.example"].misses == {"foreign": 1}
    assert resumption.messages(10.0) == []


def test_lookups_are_counted_by_the_name_of_their_certificate() -> None:
    other = b"o" * 32
    resumption: Resumption[str] = Resumption("w", TIMEOUT, {}, {SCOPE: "a.example", other: "b"})
    tokens = [
        resumption.wanted("c", True, scope, [session_id(1)], 10.0)
        for scope in (SCOPE, other, other, b"unknown".ljust(32))
    ]
    resumption.messages(10.0)
    outcomes = [
        Answer(tokens[0], session_id(1), b"v", None),
        Answer(tokens[1], None, None, "used"),
        Answer(tokens[2], None, None, "scope"),
    ]
    resumption.received(encode_answers(outcomes), 10.001)
    resumption.expired(11.0)
    assert merged([resumption.counts, resumption.counts]) == {
        "hits": 2,
        "misses": {"used": 2, "scope": 2, "deadline": 2},
        "server_names": {
            "a.example": {"hits": 2, "misses": {}},
            "b": {"hits": 0, "misses": {"used": 2, "scope": 2}},
            "-": {"hits": 0, "misses": {"deadline": 2}},
        },
    }
