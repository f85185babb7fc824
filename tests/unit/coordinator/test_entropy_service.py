"""The entropy service of a whole coordinator: what its threads do without being asked."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.client import ControlClient
from coordinator.coordinator import Coordinator
from coordinator.errors import CommandRefusedError
from coordinator.noise import SystemRandomSource
from tests.unit.coordinator.conftest import StartCoordinator
from tests.waiting import eventually


def source(coordinator: Coordinator, name: str) -> dict[str, Any]:
    """As the status has it."""
    shown = coordinator.status().result(5)["coordinator"]["entropy"]["sources"]
    found: dict[str, Any] = next(one for one in shown if one["name"] == name)
    return found


def test_getrandom_itself_is_tested_again_without_a_request(
    start: StartCoordinator, control: ControlClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(SystemRandomSource, "read", lambda _: bytes(64))
        coordinator = start(entropy_retest=0.1)
        assert source(coordinator, "getrandom")["state"] == "quarantined"
        with pytest.raises(CommandRefusedError) as refused:
            control.request("seed", {"id": "w", "purpose": "x"}, 5)
        assert refused.value.code == "insufficient_entropy"
        eventually(
            lambda: source(coordinator, "getrandom")["failures"] >= 2,
            within=5,
            what="it fails its retest",
        )
    eventually(
        lambda: source(coordinator, "getrandom")["state"] == "healthy",
        within=5,
        what="it passes its retest",
    )
    assert len(control.request("seed", {"id": "w", "purpose": "x"}, 5)["seed"]) == 48


def test_jitter_alone_is_enough_after_a_moment(
    start: StartCoordinator, control: ControlClient
) -> None:
    coordinator = start(entropy_sources=("jitter",))
    eventually(
        lambda: source(coordinator, "jitter")["credited_bits"] >= 448, within=10, what="enough"
    )
    assert len(control.request("seed", {"id": "w", "purpose": "x"}, 5)["seed"]) == 48
    (line,) = control.request("entropy", {}, 5)["entropy"]["ledger"]
    assert list(line["sources"]) == ["jitter"]


def test_a_command_that_fails_is_quarantined_and_the_broker_does_not_wait(
    start: StartCoordinator, control: ControlClient
) -> None:
    names = ("getrandom", "command:/bin/false", "command:/bin/sleep 60")
    coordinator = start(entropy_sources=names)
    eventually(
        lambda: source(coordinator, "command:/bin/false")["reason"] == "exit status 1",
        within=5,
        what="it is quarantined",
    )
    assert source(coordinator, "command:/bin/sleep")["state"] == "starting"
    assert len(control.request("seed", {"id": "w", "purpose": "x"}, 1)["seed"]) == 48
