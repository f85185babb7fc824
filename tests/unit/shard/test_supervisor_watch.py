"""Whom the supervisor asks for a sign of life."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shard.liveness import Liveness
from shard.supervisor import Supervisor


def test_a_worker_reaped_in_this_turn_is_not_asked() -> None:
    asked: list[str] = []
    names = ["a-0.1", "a-1.1"]
    children = {
        name: SimpleNamespace(tell=lambda _, name=name: asked.append(name)) for name in names
    }
    supervisor: Any = SimpleNamespace(
        _liveness=Liveness(2.0),
        _children=children,
        _fleet=SimpleNamespace(ready_workers=lambda: list(children)),
    )
    Supervisor._watch(supervisor, 10.0)
    assert asked == names
    asked.clear()
    del children["a-0.1"]
    Supervisor._watch(supervisor, 11.0)
    assert asked == ["a-1.1"]
