"""Fixtures for tests of the engine alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shard import _engine
from tests.certificates import Certificate, issue
from tests.engine.echo_loop import EchoLoop, virtual_host


@pytest.fixture(scope="session")
def engine_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One certificate for localhost."""
    return issue(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def echo(engine_certificate: Certificate) -> Iterator[EchoLoop]:
    """An echo server with sessions kept."""
    with EchoLoop(_engine.TlsContext([virtual_host(engine_certificate)])) as loop:
        yield loop
