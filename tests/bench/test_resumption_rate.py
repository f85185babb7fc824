"""The promise about resumption with the default deadlines, on a machine with nothing else to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.certificates import Certificate
from tests.integration.test_resumption import AT_LEAST, resumed, returning_visits
from tests.interop.dialog import answer
from tests.interop.test_gnutls import RETURNS, SIGN, command
from tests.server import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("rate"), certificate=certificate, workers=4) as started:
        yield started


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_visits_resume(server: Server, version: str) -> None:
    assert resumed(returning_visits(server, version, 1000)) >= AT_LEAST


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_no_immediate_return_misses(server: Server, version: str) -> None:
    texts = [answer(command(server, version, "--resume")) for _ in range(RETURNS)]
    assert sum(SIGN not in text for text in texts) == 0
