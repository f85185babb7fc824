"""A whole coordinator in this process, and what asks it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from coordinator.client import ControlClient, dealer
from coordinator.coordinator import Coordinator
from coordinator.settings import CoordinatorSettings

StartCoordinator = Callable[..., Coordinator]


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """A directory whose name is short enough for a socket in it."""
    path = Path(tempfile.mkdtemp(prefix="shardtls-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def settings(runtime_dir: Path) -> CoordinatorSettings:
    return CoordinatorSettings(
        sessions_endpoint=f"ipc://{runtime_dir}/sessions",
        control_endpoint=f"ipc://{runtime_dir}/control",
        admin_port=0,
        version="9.8.7",
        entropy_sources=("getrandom",),
    )


@pytest.fixture
def start(settings: CoordinatorSettings) -> Iterator[StartCoordinator]:
    """Starts coordinators, with some settings changed, and stops them afterwards."""
    running: list[Coordinator] = []

    def start_one(**changes: Any) -> Coordinator:
        coordinator = Coordinator(replace(settings, **changes), on_end=lambda: None)
        running.append(coordinator)
        return coordinator

    yield start_one
    for coordinator in running:
        coordinator.stop()


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def control(
    settings: CoordinatorSettings, context: zmq.Context[zmq.Socket[bytes]]
) -> Iterator[ControlClient]:
    with ControlClient(settings.control_endpoint, context=context) as client:
        yield client


@pytest.fixture
def reader(
    settings: CoordinatorSettings, context: zmq.Context[zmq.Socket[bytes]]
) -> zmq.Socket[bytes]:
    """What a worker's reader thread has: a DEALER on the sessions endpoint."""
    return dealer(context, settings.sessions_endpoint)
