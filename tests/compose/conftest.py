"""Containers: images are built once, one deployment is shared, and every test leaves it as it found
it (any number of workers, a coordinator that answers).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.compose.deployment import Deployment, deployed
from tests.compose.engine import missing
from tests.compose.images import Images, build


@pytest.fixture(scope="session")
def images() -> Images:
    """Built, or a skip that says what to install; under CI nothing is skipped."""
    lack = missing()
    if lack is None and os.geteuid() != 0:
        lack = "cutting a container's network and making the base image need root"
    if lack is not None:
        if os.environ.get("CI"):
            pytest.fail(lack)
        pytest.skip(lack)
    return build()


@pytest.fixture(scope="session")
def shared(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """For :func:`deployment` alone."""
    with deployed(images, tmp_path_factory.mktemp("compose"), workers=1) as deployment:
        yield deployment


@pytest.fixture
def deployment(shared: Deployment, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """The shared deployment with three workers, or as many as the parameter says."""
    workers: int = getattr(request, "param", 3)
    shared.scale(workers)
    shared.wait_ready(workers)
    failed = request.session.testsfailed
    yield shared
    if request.session.testsfailed > failed:
        sys.stdout.write(shared.logs())
