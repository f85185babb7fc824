"""Fleets for scripts of what happens, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from shard.fleet import COORDINATOR, Fleet
from shard.fleet_actions import Action, Spawn

__all__ = ["DRAIN", "fleet", "of", "serving", "spawned"]

A = TypeVar("A")

DRAIN = 10.0


def of(kind: type[A], actions: Iterable[Action]) -> list[A]:
    """Those of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def spawned(actions: Iterable[Action]) -> list[str]:
    """Names of the processes to start."""
    return [action.name for action in of(Spawn, actions)]


def fleet(wanted: int = 2, *, has_coordinator: bool = True) -> Fleet:
    """A new one."""
    return Fleet("g", wanted, DRAIN, has_coordinator)


def serving(wanted: int = 2, *, has_coordinator: bool = True) -> Fleet:
    """One with all its workers ready at time 0."""
    started = fleet(wanted, has_coordinator=has_coordinator)
    actions = started.start(0)
    if has_coordinator:
        actions = started.ready(COORDINATOR, 0)
    for name in spawned(actions):
        started.ready(name, 0)
    assert started.state == "ready"
    return started
