"""Scripts of events in and decisions out; time is a number."""

from __future__ import annotations

import math

import pytest

from coordinator.protocol import (
    MAX_MESSAGE_BYTES,
    MAX_VALUE_BYTES,
    Answer,
    LookupOp,
    SessionsRequest,
    decode_sessions,
    encode_answers,
    encode_error,
    encode_recall,
)
from shard.breaker import Breaker
from shard.put_queue import HELD_BYTES, HELD_ENTRIES
from shard.resumption import (
    FLUSH_AFTER,
    FLUSH_ENTRIES,
    FLUSH_EVERY,
    PROBE_INTERVAL,
    RECALLED_FLUSH_AFTER,
    Resumption,
)

SCOPE = b"s" * 32
FINGERPRINT = b"f" * 32
TIMEOUT = 0.02


def session_id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def make() -> Resumption[str]:
    return Resumption("w-0.1", TIMEOUT, {SCOPE: FINGERPRINT}, {SCOPE: "a.example"})


def misses(resumption: Resumption[str]) -> dict[str, int]:
    return resumption.counts["a.example"].misses if resumption.counts else {}


def hits(resumption: Resumption[str]) -> int:
    return sum(counts.hits for counts in resumption.counts.values())


def sent(resumption: Resumption[str], now: float) -> list[SessionsRequest]:
    return [decode_sessions(frame) for frame in resumption.messages(now)]


def issue(resumption: Resumption[str], count: int, now: float, size: int = 10) -> None:
    for number in range(count):
        resumption.issued(SCOPE, "localhost", [(session_id(number), bytes(size))], now)


def ask(resumption: Resumption[str], owner: str, now: float, number: int = 1) -> int:
    return resumption.wanted(owner, True, SCOPE, [session_id(number)], now)


def open_breaker(resumption: Resumption[str], now: float) -> float:
    """Let three lookups expire; the time after."""
    for number in range(3):
        assert ask(resumption, f"lost-{number}", now)
    resumption.messages(now)
    now += TIMEOUT
    assert len(resumption.expired(now)) == 3
    assert resumption.breaker is Breaker.OPEN
    return now


def test_nothing_is_due_at_first() -> None:
    resumption = make()
    assert resumption.due == math.inf
    assert resumption.messages(1e9) == []
    assert resumption.expired(1e9) == []


def test_puts_wait_for_company_and_leave_together() -> None:
    resumption = make()
    resumption.issued(SCOPE, "a", [(session_id(1), b"x"), (session_id(2), b"y")], 10.0)
    resumption.issued(SCOPE, None, [(session_id(3), b"z")], 10.002)
    assert resumption.due == 10.0 + FLUSH_AFTER
    assert sent(resumption, 10.003) == []
    (message,) = sent(resumption, 10.0 + FLUSH_AFTER)
    assert [(put.id, put.value, put.server_name) for put in message.puts] == [
        (session_id(1), b"x", "a"),
        (session_id(2), b"y", "a"),
        (session_id(3), b"z", None),
    ]
    assert message.worker == "w-0.1"
    assert message.lookups == ()
    assert resumption.due == math.inf


def test_recalled_puts_leave_at_once() -> None:
    resumption = make()
    issue(resumption, 2, 10.0)
    assert resumption.received(encode_recall(), 10.001) == []
    assert resumption.due == 10.001
    (message,) = sent(resumption, 10.001)
    assert len(message.puts) == 2
    issue(resumption, 1, 10.002)
    assert resumption.due == 10.001 + FLUSH_EVERY


def test_a_recall_that_finds_nothing_speeds_the_next_puts() -> None:
    resumption = make()
    resumption.received(encode_recall(), 10.0)
    assert resumption.due == math.inf
    issue(resumption, 1, 20.0)
    assert resumption.due == 20.0 + RECALLED_FLUSH_AFTER
    assert len(sent(resumption, 20.0 + RECALLED_FLUSH_AFTER)) == 1
    issue(resumption, 1, 30.0)
    assert resumption.due == 30.0 + FLUSH_AFTER


def test_under_load_messages_are_some_time_apart() -> None:
    resumption = make()
    issue(resumption, 1, 10.0)
    assert len(sent(resumption, 10.0 + FLUSH_AFTER)) == 1
    issue(resumption, 1, 10.006)
    assert resumption.due == 10.0 + FLUSH_AFTER + FLUSH_EVERY
    assert len(sent(resumption, resumption.due)) == 1
    issue(resumption, 1, 11.0)
    assert resumption.due == 11.0 + FLUSH_AFTER


def test_enough_puts_leave_at_once() -> None:
    resumption = make()
    issue(resumption, FLUSH_ENTRIES - 1, 10.0)
    assert resumption.due > 10.0
    issue(resumption, 1, 10.0)
    assert resumption.due == 10.0
    (message,) = sent(resumption, 10.0)
    assert len(message.puts) == FLUSH_ENTRIES


def test_large_puts_are_split_over_messages_within_the_bound() -> None:
    resumption = make()
    issue(resumption, 200, 10.0, MAX_VALUE_BYTES)
    frames = resumption.messages(11.0)
    assert len(frames) > 1
    assert all(len(frame) <= MAX_MESSAGE_BYTES for frame in frames)
    assert sum(len(decode_sessions(frame).puts) for frame in frames) == 200


def test_a_session_over_the_bound_is_dropped_and_counted() -> None:
    resumption = make()
    issue(resumption, 1, 10.0, MAX_VALUE_BYTES + 1)
    assert resumption.due == math.inf
    assert resumption.puts.dropped == 1


def test_a_lookup_leaves_at_once_and_takes_waiting_puts_along() -> None:
    resumption = make()
    issue(resumption, 2, 10.0)
    token = resumption.wanted("c", True, SCOPE, [session_id(7), session_id(8)], 10.001)
    assert resumption.due == 10.001
    (message,) = sent(resumption, 10.001)
    assert len(message.puts) == 2
    (lookup,) = message.lookups
    assert (lookup.token, lookup.op, lookup.scope) == (token, LookupOp.TAKE, SCOPE)
    assert lookup.ids == (session_id(7), session_id(8))
    assert resumption.due == 10.001 + TIMEOUT


def test_a_tls12_id_is_got_not_taken() -> None:
    resumption = make()
    resumption.wanted("c", False, SCOPE, [session_id(7)], 10.0)
    assert sent(resumption, 10.0)[0].lookups[0].op is LookupOp.GET


def test_an_answer_resumes_its_owner() -> None:
    resumption = make()
    first, second = ask(resumption, "a", 10.0, 1), ask(resumption, "b", 10.0, 2)
    resumption.messages(10.0)
    frame = encode_answers(
        [Answer(second, session_id(2), b"value", None), Answer(first, None, None, "used")]
    )
    assert resumption.received(frame, 10.001) == [("b", (session_id(2), b"value")), ("a", None)]
    assert hits(resumption) == 1
    assert misses(resumption) == {"used": 1}
    assert resumption.outstanding == 0
    assert resumption.due == math.inf


def test_an_answer_in_between_does_not_hold_a_lookup_back() -> None:
    """One round of the reader: a client offers a session, then another one's answer is taken."""
    resumption = make()
    first = ask(resumption, "first", now=1.0)
    sent(resumption, now=1.0)
    second = ask(resumption, "second", now=1.001, number=2)
    resumption.received(encode_answers([Answer(first, None, None, "unknown")]), now=1.001)
    assert resumption.due <= 1.001
    (message,) = sent(resumption, now=1.001)
    assert [lookup.token for lookup in message.lookups] == [second]
    assert resumption.due == pytest.approx(1.001 + TIMEOUT)


def test_an_answer_for_an_id_that_was_not_asked_for_is_a_miss() -> None:
    resumption = make()
    token = ask(resumption, "a", 10.0, 1)
    resumption.messages(10.0)
    frame = encode_answers([Answer(token, session_id(2), b"value", None)])
    assert resumption.received(frame, 10.0) == [("a", None)]
    assert hits(resumption) == 0
    assert misses(resumption) == {"malformed": 1}


def test_a_deadline_is_a_miss_and_a_late_answer_reaches_nobody() -> None:
    resumption = make()
    token = ask(resumption, "a", 10.0)
    resumption.messages(10.0)
    assert resumption.expired(10.0 + TIMEOUT - 0.001) == []
    assert resumption.expired(10.0 + TIMEOUT) == ["a"]
    assert misses(resumption) == {"deadline": 1}
    late = encode_answers([Answer(token, session_id(1), b"value", None)])
    assert resumption.received(late, 10.03) == []
    assert resumption.late == 1
    assert hits(resumption) == 0


def test_tokens_are_never_used_again() -> None:
    resumption = make()
    tokens = []
    for number in range(50):
        token = ask(resumption, "a", 10.0 + number)
        tokens.append(token)
        resumption.messages(10.0 + number)
        resumption.received(encode_answers([Answer(token, None, None, "unknown")]), 10.0 + number)
    assert len(set(tokens)) == 50


def test_a_closed_connection_is_forgotten_and_not_asked_for() -> None:
    resumption = make()
    token = ask(resumption, "a", 10.0)
    resumption.forget(token)
    assert resumption.messages(10.0) == []
    assert resumption.expired(11.0) == []
    assert misses(resumption) == {}


@pytest.mark.parametrize(
    "frame", [b"", b"\xff", b"\x93\x01\xa7answers\x01", encode_answers([])[:-1]]
)
def test_garbage_is_counted_and_changes_nothing(frame: bytes) -> None:
    resumption = make()
    ask(resumption, "a", 10.0)
    assert resumption.received(frame, 10.0) == []
    assert resumption.malformed == 1
    assert resumption.outstanding == 1


def test_a_refusal_is_counted() -> None:
    resumption = make()
    assert resumption.received(encode_error(None, "shape", "no"), 10.0) == []
    assert resumption.refused == 1


def test_reasons_are_bounded() -> None:
    resumption = make()
    for number in range(100):
        token = ask(resumption, "a", 10.0)
        frame = encode_answers([Answer(token, None, None, f"reason-{number}")])
        resumption.received(frame, 10.0)
    assert len(misses(resumption)) <= 33
    assert sum(misses(resumption).values()) == 100


def test_two_deadlines_and_an_answer_leave_the_breaker_closed() -> None:
    resumption = make()
    now = 10.0
    for _ in range(5):
        ask(resumption, "a", now)
        ask(resumption, "b", now)
        resumption.messages(now)
        now += TIMEOUT
        assert len(resumption.expired(now)) == 2
        token = ask(resumption, "c", now)
        resumption.messages(now)
        resumption.received(encode_answers([Answer(token, None, None, "unknown")]), now)
    assert resumption.breaker is Breaker.CLOSED
    assert resumption.opened == 0


def test_an_open_breaker_costs_nobody_a_deadline() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0)
    assert ask(resumption, "a", now + 0.001) == 0
    assert misses(resumption) == {"deadline": 3, "breaker": 1}
    assert resumption.messages(now + 0.001) == []
    assert resumption.opened == 1


def test_one_probe_each_interval_while_open() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0) + PROBE_INTERVAL
    assert ask(resumption, "probe", now)
    during = resumption.breaker
    assert ask(resumption, "other", now) == 0
    (message,) = sent(resumption, now)
    assert len(message.lookups) == 1
    assert resumption.expired(now + TIMEOUT) == ["probe"]
    assert (during, resumption.breaker) == (Breaker.HALF_OPEN, Breaker.OPEN)
    assert ask(resumption, "too early", now + TIMEOUT + PROBE_INTERVAL / 2) == 0
    assert ask(resumption, "next probe", now + TIMEOUT + PROBE_INTERVAL)


def test_an_answer_to_the_probe_closes_it() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0) + PROBE_INTERVAL
    token = ask(resumption, "probe", now)
    resumption.messages(now)
    frame = encode_answers([Answer(token, None, None, "unknown")])
    assert resumption.received(frame, now + 0.001) == [("probe", None)]
    assert resumption.breaker is Breaker.CLOSED
    assert ask(resumption, "a", now + 0.002)
    assert ask(resumption, "b", now + 0.002)


def test_a_probe_whose_client_left_does_not_keep_it_from_probing() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0) + PROBE_INTERVAL
    resumption.forget(ask(resumption, "probe", now))
    assert ask(resumption, "next", now + 0.001)


def test_the_control_endpoints_answer_allows_a_probe_at_once() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0)
    resumption.coordinator_answers(now + 0.01)
    assert ask(resumption, "probe", now + 0.01)
    assert ask(resumption, "other", now + 0.01) == 0


def test_puts_are_held_while_open_and_follow_the_answer() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0)
    issue(resumption, 5, now)
    assert resumption.messages(now + 1) == []
    resumption.coordinator_answers(now + 1)
    assert resumption.due == now + 1
    (message,) = sent(resumption, now + 1)
    assert len(message.puts) == 5


def test_puts_issued_during_the_probe_leave_once_it_is_answered() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0) + PROBE_INTERVAL
    token = ask(resumption, "probe", now)
    resumption.messages(now)
    issue(resumption, 2, now + 0.001)
    resumption.received(encode_answers([Answer(token, None, None, "unknown")]), now + 0.002)
    assert resumption.due <= now + 0.002
    (message,) = sent(resumption, now + 0.002)
    assert len(message.puts) == 2


def test_held_puts_are_bounded_by_number_and_the_newest_stay() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0)
    issue(resumption, HELD_ENTRIES + 10, now)
    assert resumption.puts.dropped == 10
    resumption.coordinator_answers(now)
    puts = [put for message in sent(resumption, now) for put in message.puts]
    assert len(puts) == HELD_ENTRIES
    assert puts[-1].id == session_id(HELD_ENTRIES + 9)


def test_held_puts_are_bounded_by_bytes() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0)
    issue(resumption, 200, now, MAX_VALUE_BYTES)
    resumption.coordinator_answers(now)
    puts = [put for message in sent(resumption, now) for put in message.puts]
    assert sum(len(put.value) for put in puts) <= HELD_BYTES
    assert resumption.puts.dropped == 200 - len(puts)
