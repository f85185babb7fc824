"""What is read of the authorities and revocation lists of clients, refused, and warned about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.errors import SettingsError
from shard.client_trust import ClientTrust, load_client_trust
from shard.settings.worker_sections import TlsSection
from tests.client_certificates import DAY, ClientAuthority


@pytest.fixture(scope="module")
def known() -> ClientAuthority:
    return ClientAuthority.root("known")


@pytest.fixture
def settings(tmp_path: Path, known: ClientAuthority) -> dict[str, Any]:
    (tmp_path / "ca.pem").write_bytes(known.pem)
    return {"client_auth": "required", "client_ca": str(tmp_path / "ca.pem")}


def loaded(settings: dict[str, Any], now: datetime | None = None) -> tuple[ClientTrust, list[str]]:
    return load_client_trust(TlsSection(**settings), now)


def problems(settings: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        loaded(settings)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_authorities_lists_and_depth(
    tmp_path: Path, known: ClientAuthority, settings: dict[str, Any]
) -> None:
    other = ClientAuthority.root("other")
    Path(settings["client_ca"]).write_bytes(known.pem + other.pem)
    lists = [known.crl(), other.crl()]
    (tmp_path / "both.pem").write_bytes(b"".join(i.public_bytes(Encoding.PEM) for i in lists))
    (tmp_path / "one.crl").write_bytes(lists[0].public_bytes(Encoding.DER))
    files = [str(tmp_path / "both.pem"), str(tmp_path / "one.crl")]
    trust, warnings = loaded({**settings, "crl": files, "client_depth": 2})
    assert trust.mode == "required"
    assert trust.depth == 2
    assert len(trust.authorities) == 2
    assert trust.crls == tuple(i.public_bytes(Encoding.DER) for i in (*lists, lists[0]))
    assert all("is to be renewed by" in warning for warning in warnings)


def test_off_reads_nothing_and_says_so() -> None:
    trust, warnings = loaded({"client_ca": "/missing", "crl": ["/missing"]})
    assert trust == ClientTrust()
    assert [warning.partition(":")[0] for warning in warnings] == ["tls.client_ca", "tls.crl"]


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_no_authority_is_an_error_and_never_all_of_them(tmp_path: Path, mode: str) -> None:
    assert "--client-ca" in problems({"client_auth": mode})["tls.client_ca"]
    (tmp_path / "empty.pem").touch()
    named = {"client_auth": mode, "client_ca": str(tmp_path / "empty.pem")}
    assert "no readable certificate" in problems(named)["tls.client_ca"]


def test_a_certificate_that_is_no_authority_is_named(
    tmp_path: Path, known: ClientAuthority, settings: dict[str, Any]
) -> None:
    client = known.client(tmp_path, "somebody").certificate
    Path(settings["client_ca"]).write_bytes(known.pem + client.public_bytes(Encoding.PEM))
    assert "certificate 2 (CN=somebody)" in problems(settings)["tls.client_ca"]


def test_lists_that_cannot_be_used(
    tmp_path: Path, known: ClientAuthority, settings: dict[str, Any]
) -> None:
    file = tmp_path / "list.crl"
    named = {**settings, "crl": [str(file)]}
    assert "cannot be read" in problems(named)["tls.crl"]
    file.write_bytes(b"nothing of the kind")
    assert "PEM or DER" in problems(named)["tls.crl"]
    forged = ClientAuthority(known.certificate, ClientAuthority.root("known").key).crl()
    file.write_bytes(forged.public_bytes(Encoding.DER))
    assert "not signed by that authority" in problems(named)["tls.crl"]


def test_what_is_out_of_date_or_missing_is_warned_about(
    tmp_path: Path, known: ClientAuthority, settings: dict[str, Any]
) -> None:
    other = ClientAuthority.root("other")
    Path(settings["client_ca"]).write_bytes(known.pem + other.pem)
    file = tmp_path / "list.crl"
    file.write_bytes(known.crl(valid_for=10 * DAY).public_bytes(Encoding.DER))
    named = {**settings, "crl": [str(file)]}
    now = datetime.now(UTC)

    def warned(after: timedelta) -> list[str]:
        return loaded(named, now + after)[1]

    assert [text for text in warned(timedelta()) if "no list of CN=other" not in text] == []
    assert any("to be renewed by" in text for text in warned(9.5 * DAY))
    assert any("every client of that authority is refused" in text for text in warned(11 * DAY)[:1])
    assert any("CN=known expired on" in text for text in warned(31 * DAY))
