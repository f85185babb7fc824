"""How a supervisor starts the processes of its plan."""

from __future__ import annotations

from shard.children import Child, Programs
from shard.fleet_actions import Spawn
from shard.listeners import Listeners
from shard.plan import Plan
from shard.runtime_dir import RuntimeDir

__all__ = ["spawn"]


def spawn(
    action: Spawn,
    plan: Plan,
    programs: Programs,
    *,
    group: str,
    listeners: Listeners,
    runtime: RuntimeDir,
) -> Child:
    """Start a process, which inherits what it needs and is told its settings.

    :param plan: of the process's generation.
    :param group: the supervisor's id.
    :raises StartError: it cannot be started.
    """
    # The lock: whoever finds it free knows that no process of this server is left.
    inherited = [runtime.fileno()]
    if action.slot is None:
        frame = plan.coordinator_settings().to_frame()
        return Child.spawn(action.name, programs.coordinator, frame, inherited)
    descriptors = listeners.filenos(plan.bind)
    settings = plan.worker_settings(
        worker=action.name,
        slot=action.slot,
        group=group,
        listeners=descriptors,
        bound=listeners.bound(plan.bind),
    )
    frame = settings.to_frame()
    return Child.spawn(action.name, programs.worker, frame, [*inherited, *descriptors])
