"""``gnutls-cli`` as the client: with ``--resume`` it comes back at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.interop.dialog import answer
from tests.peers import peer
from tests.server import Server

RETURNS = 200
SIGN = "*** This is a resumed session"


def command(server: Server, version: str, *flags: str) -> list[str]:
    """The command line."""
    return [
        *(peer("gnutls-cli"), "--x509cafile", str(server.certificate.authority)),
        *("--sni-hostname", "localhost", "--verify-hostname", "localhost"),
        *("--priority", f"NORMAL:-VERS-ALL:+VERS-{version.replace('v', '')}", *flags),
        *("--port", str(server.port), server.host),
    ]


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_an_immediate_return_never_misses_its_session(hello: Server, version: str) -> None:
    """None of 200 returns comes too early for its session."""
    with ThreadPoolExecutor(4) as pool:
        texts = list(
            pool.map(lambda _: answer(command(hello, version, "--resume")), range(RETURNS))
        )
    misses = [text for text in texts if SIGN not in text]
    assert not misses, f"{len(misses)} of {RETURNS} missed; the first:\n{misses[0]}"


@pytest.mark.parametrize("group", ["X25519", "SECP256R1", "SECP384R1"])
def test_key_exchange_groups(hello: Server, group: str) -> None:
    priority = f"NORMAL:-VERS-ALL:+VERS-TLS1.3:-GROUP-ALL:+GROUP-{group}"
    text = answer(command(hello, "TLSv1.3", "--priority", priority, "--single-key-share"))
    assert f"(ECDHE-{group})" in text
