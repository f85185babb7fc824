"""Every reason of the engine becomes its exception."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.errors import ShardError
from shard import errors
from shard.errors import ConnectionClosedError, closed_error


def test_an_orderly_end_is_no_error() -> None:
    assert closed_error("done", None, "") is None


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("truncated", errors.TruncatedError),
        ("reset", errors.ConnectionResetByPeerError),
        ("alert_received", errors.AlertReceivedError),
        ("alert_sent", errors.AlertSentError),
        ("no_randomness", errors.NoRandomnessError),
        ("aborted", errors.ConnectionAbortedHereError),
        ("internal", errors.EngineError),
        ("of another version", errors.EngineError),
    ],
)
def test_reasons(reason: str, kind: type[ConnectionClosedError]) -> None:
    error = closed_error(reason, "bad_record_mac", "what happened")
    assert type(error) is kind
    assert (error.alert, error.detail) == ("bad_record_mac", "what happened")


def test_one_tree_and_a_reason_each() -> None:
    kinds: list[type[ConnectionClosedError]] = []
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and kind is not ShardError:
            assert issubclass(kind, ConnectionClosedError)
            kinds.append(kind)
    reasons = [kind.reason for kind in kinds]
    assert len(set(reasons)) == len(reasons)


def test_every_reason_of_the_engines_interface_is_known() -> None:
    stub = Path(errors.__file__).with_name("_engine.pyi").read_text()
    closed = stub[stub.index("class Closed:") :]
    documented = re.findall(r"``(\w+)``", closed[: closed.index("alert: str | None")])
    for reason in documented:
        error = closed_error(reason, None, "")
        assert error is None if reason == "done" else error is not None
        assert error is None or error.reason == reason
