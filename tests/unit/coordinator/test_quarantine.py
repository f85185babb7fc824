"""Randomness at the control desk: what workers send, and what becomes of one that repeats."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.protocol import Order, Refusal, Reply
from coordinator.quarantine import REPLACE_AGAIN_SECONDS
from coordinator.status import not_ready_reason
from tests.unit.coordinator.test_control import (
    CLI,
    SUP,
    SUPERVISOR_BODY,
    WORKER,
    WORKER_BODY,
    Script,
    decoded,
)

MARK, OTHER = bytes(32), bytes([1]) * 32
FIRST, SECOND = "a-0.1", "a-1.1"
SECOND_ROUTE = b"second"


@pytest.fixture
def pair() -> Script:
    """A supervisor and two ready workers of it."""
    script = Script()
    script.reply(SUP, "register", SUPERVISOR_BODY)
    script.reply(WORKER, "register", WORKER_BODY)
    script.reply(SECOND_ROUTE, "register", {**WORKER_BODY, "id": SECOND, "slot": 1})
    return script


def beat(script: Script, id_: str, *marks: object) -> list[tuple[bytes, Any]]:
    """A heartbeat of a worker."""
    body = {"id": id_, "state": "ready", "stats": {}, "first_outputs": list(marks)}
    return script.ask(WORKER if id_ == FIRST else SECOND_ROUTE, "heartbeat", body)


def orders(answers: list[tuple[bytes, Any]]) -> list[tuple[bytes, dict[str, Any]]]:
    """The orders among them."""
    return [(to, answer.body) for to, answer in answers if isinstance(answer, Order)]


def test_different_first_outputs_are_as_it_should_be(pair: Script) -> None:
    ((_, answer),) = beat(pair, FIRST, MARK)
    assert isinstance(answer, Reply)
    assert len(beat(pair, SECOND, OTHER)) == 1
    assert pair.status()["coordinator"]["entropy"]["canary_repeats"] == 0


def test_a_repeated_first_output_quarantines_both(pair: Script) -> None:
    beat(pair, FIRST, MARK)
    answers = beat(pair, SECOND, OTHER, MARK)
    assert orders(answers) == [
        (WORKER, {"do": "reseed"}),
        (SUP, {"do": "drain", "worker": FIRST}),
        (SECOND_ROUTE, {"do": "reseed"}),
        (SUP, {"do": "drain", "worker": SECOND}),
    ]
    status = pair.status()
    assert [worker["state"] for worker in status["workers"]] == ["quarantined"] * 2
    assert [w["quarantine"] for w in status["workers"]] == ["a first output came twice"] * 2
    assert status["server"]["workers"]["quarantined"] == 2
    assert status["coordinator"]["entropy"]["canary_repeats"] == 1
    assert not_ready_reason(status) == "no worker is ready: 2 quarantined"


def test_a_worker_that_repeats_itself_is_alone_in_quarantine(pair: Script) -> None:
    beat(pair, SECOND)
    answers = beat(pair, FIRST, MARK, MARK)
    assert [to for to, _ in orders(answers)] == [WORKER, SUP]
    states = [worker["state"] for worker in pair.status()["workers"]]
    assert states == ["quarantined", "ready"]


def test_quarantine_outlasts_heartbeats_and_a_new_registration(pair: Script) -> None:
    beat(pair, FIRST, MARK, MARK)
    beat(pair, FIRST)
    pair.reply(WORKER, "register", WORKER_BODY)
    assert pair.status()["workers"][0]["state"] == "quarantined"
    pair.reply(WORKER, "goodbye", {"id": FIRST})
    assert [worker["id"] for worker in pair.status()["workers"]] == [SECOND]


def test_a_supervisor_that_did_not_replace_it_is_told_again(pair: Script) -> None:
    beat(pair, FIRST, MARK, MARK)
    pair.now = REPLACE_AGAIN_SECONDS - 0.1
    for route, body in ((SUP, {**SUPERVISOR_BODY}), (WORKER, WORKER_BODY)):
        pair.ask(route, "heartbeat", {"id": body["id"], "state": "ready", "stats": {}})
    assert orders(decoded(pair.desk.tick(pair.now))) == []
    pair.now = REPLACE_AGAIN_SECONDS
    again = orders(decoded(pair.desk.tick(pair.now)))
    assert again == [(SUP, {"do": "drain", "worker": FIRST})]
    assert orders(decoded(pair.desk.tick(pair.now))) == []


def test_one_that_drains_is_replaced_already(pair: Script) -> None:
    beat(pair, FIRST, MARK, MARK)
    pair.ask(WORKER, "heartbeat", {"id": FIRST, "state": "draining", "stats": {}})
    pair.now = REPLACE_AGAIN_SECONDS
    pair.ask(SUP, "heartbeat", {"id": "a", "state": "ready", "stats": {}})
    assert orders(decoded(pair.desk.tick(pair.now))) == []


@pytest.mark.parametrize("marks", ["x", [bytes(31)], ["x" * 32], [bytes(32)] * 9])
def test_marks_of_another_shape_refuse_the_heartbeat(pair: Script, marks: object) -> None:
    body = {"id": FIRST, "state": "ready", "stats": {}, "first_outputs": marks}
    assert pair.refusal(WORKER, "heartbeat", body).code == "shape"
    assert pair.status()["workers"][0]["state"] == "starting"


def test_a_repeated_seed_is_refused_and_quarantines_its_holders(pair: Script) -> None:
    pair.reply(WORKER, "seed", {"id": FIRST, "purpose": "reseed"})
    # What a broken pool would do: every mark has been given before.
    pair.entropy._issued = Repeating(FIRST)  # type: ignore[assignment]
    answers = pair.ask(SECOND_ROUTE, "seed", {"id": SECOND, "purpose": "reseed"})
    (_, refusal), *rest = answers
    assert isinstance(refusal, Refusal)
    assert refusal.code == "insufficient_entropy"
    assert [to for to, _ in orders(rest)] == [WORKER, SUP, SECOND_ROUTE, SUP]
    assert pair.status()["coordinator"]["entropy"]["sources"][0]["state"] == "quarantined"


class Repeating(dict[bytes, str]):
    """Has every seed."""

    def __init__(self, holder: str) -> None:
        super().__init__()
        self._holder = holder

    def get(self, key: bytes, default: object = None) -> Any:
        return self._holder


@pytest.mark.parametrize("noise", [b"", bytes(65), "text", 7])
def test_what_is_sent_back_is_checked(pair: Script, noise: object) -> None:
    body = {"id": FIRST, "purpose": "reseed", "noise": noise}
    assert pair.refusal(WORKER, "seed", body).code == "shape"
    assert pair.status()["coordinator"]["entropy"]["seeds"] == 0


def test_what_is_sent_back_is_mixed_in_and_not_credited() -> None:
    script = Script(back=True)
    before = script.entropy._pool
    body = {"id": FIRST, "purpose": "reseed", "noise": bytes(32)}
    script.desk._seeds.mix(bytes(32), 0.0)
    assert script.entropy._pool != before
    script.reply(WORKER, "seed", body)
    (line,) = script.reply(CLI, "entropy", {})["entropy"]["ledger"]
    assert line["sources"]["workers"] == 0.0


def test_the_ledger_is_shown_as_far_as_asked_for(pair: Script) -> None:
    for _ in range(3):
        pair.reply(WORKER, "seed", {"id": FIRST, "purpose": "reseed"})
    shown = pair.reply(CLI, "entropy", {"limit": 2})["entropy"]
    assert [line["number"] for line in shown["ledger"]] == [2, 3]
    assert shown["ledger_length"] == 3
    assert len(pair.reply(CLI, "entropy", {})["entropy"]["ledger"]) == 3
    assert pair.refusal(CLI, "entropy", {"limit": -1}).code == "shape"
    assert pair.refusal(CLI, "entropy", {"limit": 1025}).code == "shape"
