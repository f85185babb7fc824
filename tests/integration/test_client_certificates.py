"""Client certificates: who gets in, what a handler is told, and which alert the others get."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.certificates import Certificate
from tests.client import VERSIONS, TlsStream, client_context, visit
from tests.client_certificates import DAY, ClientAuthority, ClientCertificate
from tests.server import PATIENT, Server, running
from tests.waiting import eventually

AUTHORITY = ClientAuthority.root("clients")
STRANGER = ClientAuthority.root("strangers")
NEAR = AUTHORITY.intermediate("near")
FAR = NEAR.intermediate("far")
SOON = timedelta(seconds=4)
"""Within which the first visits are over."""


def settings(mode: str) -> str:
    """The file's text; the others that it names lie beside it."""
    return (
        f'[tls]\nclient_auth = "{mode}"\nclient_ca = "ca.pem"\n'
        'crl = ["lists.pem"]\nclient_depth = 1\n'
    )


def write_lists(folder: Path, *revoked: ClientCertificate, valid_for: float = 10) -> None:
    """The lists of every authority; `revoked` were issued by the first."""
    lists = [AUTHORITY.crl(*revoked, valid_for=valid_for * DAY), NEAR.crl(), FAR.crl()]
    (folder / "lists.pem").write_bytes(b"".join(crl.public_bytes(Encoding.PEM) for crl in lists))


@pytest.fixture(scope="module")
def required(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Server]:
    """A worker that wants a certificate of every client, one intermediate at most, none revoked."""
    folder = tmp_path_factory.mktemp("required")
    (folder / "ca.pem").write_bytes(AUTHORITY.pem)
    write_lists(folder)
    with running(
        folder,
        certificate=certificate,
        workers=1,
        config=settings("required"),
        arguments=PATIENT,
    ) as server:
        yield server


def context(
    certificate: Certificate, client: ClientCertificate | None, version: str | None = None
) -> ssl.SSLContext:
    """A client's context that shows its certificate."""
    made = client_context(certificate, version)
    if client is not None:
        made.load_cert_chain(client.file)
    return made


def refusal(server: Server, context: ssl.SSLContext) -> str:
    """The alert that a client gets: in TLS 1.3 when it reads, as its handshake ends before."""
    with (
        pytest.raises(ssl.SSLError) as caught,
        TlsStream(server.address, context) as stream,
    ):
        stream.facts()
    return str(caught.value.reason)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_application_is_told_who_the_client_is(
    required: Server, certificate: Certificate, tmp_path: Path, version: str
) -> None:
    shown = context(certificate, NEAR.client(tmp_path, "somebody"), version)
    first = visit(required.address, shown)
    assert first.facts["client"] == "CN=somebody"
    again = visit(required.address, shown, first.session)
    assert again.resumed
    assert again.facts["client"] == "CN=somebody"


@pytest.mark.parametrize("version", VERSIONS)
def test_everybody_else_gets_the_alert_that_says_why(
    required: Server, certificate: Certificate, tmp_path: Path, version: str
) -> None:
    expired = AUTHORITY.client(tmp_path, "expired", valid_for=DAY, issued=2 * DAY)
    refused = {
        None: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        STRANGER.client(tmp_path, "stranger"): "TLSV1_ALERT_UNKNOWN_CA",
        expired: "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        FAR.client(tmp_path, "too-deep"): "TLSV1_ALERT_UNKNOWN_CA",
    }
    for client, alert in refused.items():
        assert refusal(required, context(certificate, client, version)) == alert


def test_who_would_not_be_let_in_now_does_not_resume_either(
    tmp_path: Path, certificate: Certificate
) -> None:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    write_lists(tmp_path)
    names = ("good", "revoked", "expiring")
    with running(
        tmp_path,
        certificate=certificate,
        workers=1,
        config=settings("optional"),
        arguments=["--lookup-timeout", "1", "--park", "0.005"],
    ) as server:
        clients: dict[str, ClientCertificate | None] = {
            name: AUTHORITY.client(tmp_path, name) for name in names[:2]
        }
        clients["expiring"] = AUTHORITY.client(tmp_path, "expiring", DAY + SOON, issued=DAY)
        clients["nobody"] = None
        contexts = {
            (name, version): context(certificate, client, version)
            for name, client in clients.items()
            for version in VERSIONS
        }
        sessions = {who: visit(server.address, shown) for who, shown in contexts.items()}
        assert sessions["nobody", "TLSv1.3"].facts["client"] is None

        def outcome(name: str) -> set[str]:
            found = set()
            for version in VERSIONS:
                who = name, version
                try:
                    done = visit(server.address, contexts[who], sessions[who].session)
                except ssl.SSLError as error:
                    found.add(str(error.reason))
                else:
                    sessions[who] = done
                    found.add("resumed" if done.resumed else "full")
            return found

        revoked = clients["revoked"]
        assert revoked is not None
        write_lists(tmp_path, revoked)
        assert server.command("reload").returncode == 0
        # Lists are no part of the scope: whom they do not name keeps its session.
        assert outcome("good") == {"resumed"}
        assert outcome("revoked") == {"SSLV3_ALERT_CERTIFICATE_REVOKED"}
        eventually(
            lambda: outcome("expiring") == {"SSLV3_ALERT_CERTIFICATE_EXPIRED"},
            within=2 * SOON.total_seconds(),
            what="it expires",
        )
        reasons = {"client_revoked", "client_expired"}
        eventually(
            lambda: reasons <= set(server.workers()[0]["lookups"]["misses"]),
            within=5,
            what="the reasons are counted",
        )

        write_lists(tmp_path, valid_for=-1)
        (tmp_path / "shardtls.toml").write_text(settings("required"))
        assert server.command("reload").returncode == 0
        assert "every client of that authority is refused" in server.log.read_text()
        assert outcome("good") == {"TLSV1_ALERT_UNKNOWN_CA"}
        assert outcome("nobody") == {"TLSV13_ALERT_CERTIFICATE_REQUIRED"}

        (tmp_path / "lists.pem").write_bytes(b"")
        refused = server.command("reload")
        assert refused.returncode != 0
        assert "tls.crl" in refused.stderr
