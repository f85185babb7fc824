"""``sessions.resumption = "off"``: nothing resumes, nothing is issued, nobody is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.interop.dialog import answer
from tests.interop.test_openssl import REQUEST, RESUMED, s_client
from tests.peers import peer
from tests.server import Server, running
from tests.tickets import VERSIONS


@pytest.fixture(scope="module")
def off(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """Two workers without resumption."""
    with running(
        tmp_path_factory.mktemp("off"), certificate=certificate, arguments=["--resumption", "off"]
    ) as started:
        yield started


@pytest.mark.parametrize("version", VERSIONS)
def test_off_means_that_nothing_resumes(
    off: Server, certificate: Certificate, version: str
) -> None:
    context = client_context(certificate, version)
    first = visit(off.address, context)
    assert first.session is None or not first.session.has_ticket
    again = [visit(off.address, context, first.session) for _ in range(4)]
    assert not any(one.resumed or one.facts["resumed"] for one in again)
    if version == "TLSv1.2":
        assert RESUMED.findall(answer(s_client(off, "-tls1_2", "-reconnect"))) == []
        shown = answer(s_client(off, "-tls1_2", "-ign_eof"), told=REQUEST)
        assert re.search(r"Session-ID: *$", shown, re.MULTILINE)
        assert "TLS session ticket" not in shown
    else:
        shown = answer(s_client(off, "-tls1_3", "-ign_eof"), told=REQUEST)
        assert "New Session Ticket" not in shown
    command = [
        *(peer("gnutls-cli"), "--x509cafile", str(certificate.authority), "--resume"),
        *("--priority", f"NORMAL:-VERS-ALL:+VERS-{version.replace('v', '')}"),
        *("--verify-hostname", "localhost", "--port", str(off.port), off.host),
    ]
    assert "*** This is a resumed session" not in answer(command)
    assert off.status()["coordinator"]["messages"]["sessions"] == 0
    refused = off.command("rotate")
    assert refused.returncode == 1
    assert "no ticket keys to rotate" in refused.stderr
