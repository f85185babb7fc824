"""``openssl s_client`` as the client."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.interop.dialog import Dialog, answer
from tests.peers import peer
from tests.server import Server

FLAGS = {"TLSv1.3": "-tls1_3", "TLSv1.2": "-tls1_2"}
REQUEST = b"GET /json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
RESUMED = re.compile(r"^Reused, (TLSv1\.[23])", re.MULTILINE)
FULL = re.compile(r"^New, (TLSv1\.[23])", re.MULTILINE)


def s_client(server: Server, *flags: str) -> list[str]:
    """The command line."""
    return [
        *(peer("openssl"), "s_client", "-connect", f"{server.host}:{server.port}"),
        *("-servername", "localhost", "-verify_return_error", "-verify_hostname", "localhost"),
        *("-CAfile", str(server.certificate.authority), *flags),
    ]


def facts_of(text: str) -> dict[str, Any]:
    """The answer to the request, among all that s_client prints."""
    facts: dict[str, Any]
    facts, _ = json.JSONDecoder().raw_decode(text, text.index('{"'))
    return facts


@pytest.mark.parametrize("version", FLAGS)
def test_a_session_from_a_file_resumes_on_any_worker(
    hello: Server, version: str, tmp_path: Path
) -> None:
    session = str(tmp_path / "session.pem")
    first = answer(s_client(hello, FLAGS[version], "-ign_eof", "-sess_out", session), told=REQUEST)
    assert FULL.findall(first) == [version]
    workers = {facts_of(first)["worker"]}
    for _ in range(16):
        text = answer(
            s_client(hello, FLAGS[version], "-ign_eof", "-sess_in", session, "-sess_out", session),
            told=REQUEST,
        )
        assert RESUMED.findall(text) == [version]
        workers.add(facts_of(text)["worker"])
    assert len(workers) > 1


def test_a_ticket_from_a_file_works_once(hello: Server, tmp_path: Path) -> None:
    session = str(tmp_path / "session.pem")
    answer(s_client(hello, "-tls1_3", "-ign_eof", "-sess_out", session), told=REQUEST)
    again = s_client(hello, "-tls1_3", "-ign_eof", "-sess_in", session)
    assert RESUMED.search(answer(again, told=REQUEST))
    assert FULL.search(answer(again, told=REQUEST))


def test_reconnecting_five_times(hello: Server) -> None:
    text = answer(s_client(hello, "-tls1_2", "-reconnect"))
    assert FULL.findall(text) == ["TLSv1.2"]
    assert RESUMED.findall(text) == ["TLSv1.2"] * 5


@pytest.mark.parametrize("group", ["X25519", "P-256", "P-384"])
@pytest.mark.parametrize("version", FLAGS)
def test_key_exchange_groups(hello: Server, version: str, group: str) -> None:
    # P-256 is the curve of the certificate, which a TLS 1.2 client must list (RFC 8422 §5.1).
    groups = group if group == "P-256" else f"{group}:P-256"
    text = answer(s_client(hello, FLAGS[version], "-ign_eof", "-groups", groups), told=REQUEST)
    shown = {"X25519": "X25519, 253 bits", "P-256": "prime256v1", "P-384": "secp384r1"}[group]
    assert shown in text
    assert facts_of(text)["resumed"] is False


def test_a_hello_retry_request(hello: Server) -> None:
    """A client whose only key share is for a group that is not served."""
    text = answer(s_client(hello, "-tls1_3", "-ign_eof", "-groups", "P-521:X25519"), told=REQUEST)
    assert FULL.findall(text) == ["TLSv1.3"]
    assert "X25519" in text


@pytest.mark.parametrize(
    "suite", ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]
)
def test_cipher_suites(hello: Server, suite: str) -> None:
    text = answer(s_client(hello, "-tls1_3", "-ign_eof", "-ciphersuites", suite), told=REQUEST)
    assert f"Cipher is {suite}" in text


def test_old_versions_are_refused(hello: Server) -> None:
    command = s_client(hello, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    with pytest.raises(AssertionError, match=r"alert|protocol version|no protocols"):
        answer(command, told=REQUEST)


def test_a_key_update_on_request(echo: Server) -> None:
    """RFC 8446 §4.6.3: ``K`` asks the server to update its keys too."""
    with Dialog(s_client(echo, "-tls1_3")) as client:
        client.wait_for("Verify return code: 0")
        for number in range(3):
            client.tell(f"before {number}")
            client.wait_for(f"before {number}")
            client.tell("K")
            client.wait_for("KEYUPDATE")
            client.tell(f"after {number}")
            client.wait_for(f"after {number}")
        client.tell("Q")
