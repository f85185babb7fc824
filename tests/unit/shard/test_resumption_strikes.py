"""Sealed tickets that may be used once: the coordinator is asked whether it is the first time."""

from __future__ import annotations

from coordinator.protocol import Answer, LookupOp, encode_answers
from shard.lookup_counts import merged
from tests.unit.shard.test_resumption import SCOPE, TIMEOUT, make, open_breaker, sent, session_id


def test_a_first_use_is_asked_about_like_a_lookup() -> None:
    resumption = make()
    token = resumption.offered("client", SCOPE, session_id(1), 1000, 2000, 10.0)
    ((ask,),) = [message.lookups for message in sent(resumption, 10.0)]
    assert (ask.op, ask.scope, ask.ids) == (LookupOp.STRIKE, SCOPE, (session_id(1),))
    assert (ask.issued_ms, ask.expires_ms) == (1000, 2000)
    frame = encode_answers([Answer(token, session_id(1), b"", None)])
    assert resumption.received(frame, 10.001) == [("client", (session_id(1), b""))]
    assert merged([resumption.counts])["hits"] == 1
    assert resumption.offered("late", SCOPE, session_id(2), 1000, 2000, 11.0) == token + 1
    assert resumption.expired(11.0 + TIMEOUT) == ["late"]


def test_an_open_breaker_asks_about_no_first_use() -> None:
    resumption = make()
    now = open_breaker(resumption, 10.0)
    assert resumption.offered("client", SCOPE, session_id(1), 1000, 2000, now) == 0
    assert merged([resumption.counts])["misses"]["breaker"] == 1
