"""What tests that talk to a server share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.certificates import Certificate, issue
from tests.server import PATIENT, Server, running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One certificate for localhost and its authority."""
    return issue(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def hello(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Four workers that serve ``hello``. Shared: a test that harms a server starts its own."""
    with running(
        tmp_path_factory.mktemp("hello"), certificate=certificate, workers=4, arguments=PATIENT
    ) as server:
        yield server


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Two workers that serve ``echo``. Shared."""
    with running(
        tmp_path_factory.mktemp("echo"),
        certificate=certificate,
        workers=2,
        arguments=["--app", "echo"],
    ) as server:
        yield server
