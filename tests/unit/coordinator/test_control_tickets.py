"""The control desk and workers that seal tickets."""

from __future__ import annotations

import pytest

from coordinator.protocol import encode_request
from tests.unit.coordinator.test_control import (
    CLI,
    SUP,
    SUPERVISOR_BODY,
    WORKER,
    WORKER_BODY,
    Script,
    decoded,
)


@pytest.fixture
def script() -> Script:
    return Script()


def test_a_worker_that_seals_tickets_is_told_the_keys_and_rotates_them(script: Script) -> None:
    about = {"ticket_keys": {"holds": False, "watermarks": []}}
    told = script.reply(WORKER, "register", WORKER_BODY | about)["ticket_keys"]
    assert told["active"] is not None
    stats = {"ticket_keys": {"serial": told["serial"], "sealed": 5}}
    beat = {"id": "a-0.1", "state": "ready", "stats": stats}
    script.reply(WORKER, "heartbeat", beat)
    shown = script.desk.status(script.now, 0.0)["coordinator"]["ticket_keys"]
    assert (shown["keys"][0]["sealed"], shown["workers"]) == (5, 1)
    outgoing = script.send(CLI, encode_request("rotate", 9, {}))
    ((to, order),) = outgoing
    assert (to, order.body["do"]) == (WORKER, "ticket_keys")
    for _ in range(2):
        stats["ticket_keys"] = {"serial": order.body["ticket_keys"]["serial"], "sealed": 0}
        script.send(WORKER, encode_request("heartbeat", 2, beat))
        for to, message in decoded(script.desk.tick(script.now)):
            if to == WORKER:
                order = message
            else:
                assert message.body["epoch"] == order.body["ticket_keys"]["active"].hex()[:8]
                return
    raise AssertionError("no answer")


def test_a_supervisor_is_told_no_keys(script: Script) -> None:
    about = {"ticket_keys": {"holds": False, "watermarks": []}}
    assert "ticket_keys" not in script.reply(SUP, "register", SUPERVISOR_BODY | about)
