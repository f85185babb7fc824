"""Several addresses, IPv4 and IPv6, served by every worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.ports import free_port
from tests.server import PATIENT, running


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_ipv4_and_ipv6(tmp_path: Path, certificate: Certificate, version: str) -> None:
    port = free_port("::1")
    with running(
        tmp_path,
        certificate=certificate,
        workers=2,
        arguments=["--bind", f"[::1]:{port}", *PATIENT],
    ) as server:
        context = client_context(certificate, version)
        for address, peer in (
            (server.address, "127.0.0.1"),
            (("::1", port), "::1"),
        ):
            first = visit(address, context)
            assert peer in first.facts["peer"]
            second = visit(address, context, first.session)
            assert second.resumed
            seen = {visit(address, context).worker for _ in range(40)}
            assert len(seen) == 2


def test_a_taken_port_is_a_failed_start(tmp_path: Path, certificate: Certificate) -> None:
    with (
        running(tmp_path / "first", certificate=certificate, workers=1) as server,
        running(
            tmp_path / "second",
            certificate=certificate,
            workers=1,
            arguments=["--bind", f"127.0.0.1:{server.port}"],
            wait=False,
        ) as second,
    ):
        assert second.exit_code(within=20) == 3
        text = second.log.read_text()
        assert str(server.port) in text
        assert "Traceback" not in text
