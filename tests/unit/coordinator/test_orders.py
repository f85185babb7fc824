from __future__ import annotations

from coordinator.orders import OrderBook, Outcome

OK = {"ok": True}


def test_one_acknowledgement_becomes_the_reply() -> None:
    orders = OrderBook()
    number = orders.issue(b"cli", 7, ["sup"], 10.0, 0.0)
    outcome = orders.acknowledge(number, "sup", {"ok": True, "workers": 3})
    assert outcome == Outcome(b"cli", 7, None, "", {"ok": True, "workers": 3})
    assert len(orders) == 0


def test_a_refusal_becomes_an_error_with_its_detail() -> None:
    orders = OrderBook()
    number = orders.issue(b"cli", 7, ["sup"], 10.0, 0.0)
    outcome = orders.acknowledge(number, "sup", {"ok": False, "detail": "bad certificate"})
    assert outcome == Outcome(b"cli", 7, "refused", "bad certificate", {})


def test_an_acknowledgement_without_ok_is_a_refusal() -> None:
    orders = OrderBook()
    number = orders.issue(b"cli", 7, ["sup"], 10.0, 0.0)
    outcome = orders.acknowledge(number, "sup", {"ok": 1})
    assert outcome is not None
    assert outcome.error == "refused"


def test_the_reply_waits_for_all() -> None:
    orders = OrderBook()
    number = orders.issue(b"cli", 7, ["a", "b"], 10.0, 0.0)
    assert orders.acknowledge(number, "a", OK) is None
    outcome = orders.acknowledge(number, "b", OK)
    assert outcome is not None
    assert outcome.body == {"ok": True, "acks": {"a": OK, "b": OK}}


def test_one_refusal_of_several_refuses_and_names_who() -> None:
    orders = OrderBook()
    number = orders.issue(b"cli", 7, ["a", "b"], 10.0, 0.0)
    orders.acknowledge(number, "a", {"ok": False, "detail": "no"})
    outcome = orders.acknowledge(number, "b", OK)
    assert outcome == Outcome(b"cli", 7, "refused", "a: no; 1 of 2 did it", {})


def test_nobody_answers_for_another_or_twice() -> None:
    orders = OrderBook()
    number = orders.issue(b"cli", 7, ["a", "b"], 10.0, 0.0)
    assert orders.acknowledge(number, "c", OK) is None
    assert orders.acknowledge(number, "a", OK) is None
    assert orders.acknowledge(number, "a", OK) is None
    assert orders.acknowledge(number + 1, "b", OK) is None
    outcome = orders.acknowledge(number, "b", OK)
    assert outcome is not None
    assert outcome.body == {"ok": True, "acks": {"a": OK, "b": OK}}


def test_an_order_expires_and_names_who_was_silent() -> None:
    orders = OrderBook()
    orders.issue(b"cli", 7, ["a", "b"], 10.0, 0.0)
    assert orders.next_deadline() == 10.0
    assert orders.expire(9.9) == []
    (outcome,) = orders.expire(10.0)
    assert outcome.error == "expired"
    assert outcome.detail == "no acknowledgement within 10 s from a, b; 0 of 2 did it"
    assert orders.next_deadline() is None


def test_a_late_acknowledgement_finds_nobody() -> None:
    orders = OrderBook()
    number = orders.issue(b"cli", 7, ["a"], 1.0, 0.0)
    orders.expire(2.0)
    assert orders.acknowledge(number, "a", OK) is None


def test_one_that_leaves_has_refused() -> None:
    orders = OrderBook()
    orders.issue(b"cli", 7, ["a"], 10.0, 0.0)
    other = orders.issue(b"cli", 8, ["a", "b"], 10.0, 0.0)
    (outcome,) = orders.gone("a")
    assert (outcome.request, outcome.error) == (7, "refused")
    assert "left" in outcome.detail
    last = orders.acknowledge(other, "b", OK)
    assert last is not None
    assert last.error == "refused"


def test_numbers_are_never_used_again() -> None:
    orders = OrderBook()
    numbers = set()
    for _ in range(5):
        number = orders.issue(b"cli", 7, ["a"], 10.0, 0.0)
        orders.acknowledge(number, "a", OK)
        numbers.add(number)
    assert len(numbers) == 5
