"""No secret leaves the processes: logs, argv, environment, admin interface, files."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.processes import in_session
from tests.server import Server, key_material, running

SECRET_LABELS = ("CLIENT_RANDOM", "EXPORTER_SECRET", "CLIENT_TRAFFIC_SECRET_0")


def spellings(secret: bytes) -> list[str]:
    """How a secret might be written by mistake."""
    return [
        secret.hex(),
        secret.hex().upper(),
        base64.b64encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
        ", ".join(str(byte) for byte in secret),
    ]


def session_secrets(server: Server, folder: Path) -> list[bytes]:
    """Have some sessions, resumed ones too, and return their secrets as the client saw them."""
    for version in ("TLSv1.3", "TLSv1.2"):
        context = client_context(server.certificate, version)
        context.keylog_filename = str(folder / "keys.log")
        session = None
        for _ in range(6):
            session = visit(server.address, context, session).session
    secrets = []
    for line in (folder / "keys.log").read_text().splitlines():
        if not line.startswith("#"):
            label, _, secret = line.split(" ")
            if label in SECRET_LABELS:
                secrets.append(bytes.fromhex(secret))
    assert len(secrets) >= 12
    return secrets


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_stay_where_they_are(
    tmp_path: Path, certificate: Certificate, log_format: str
) -> None:
    arguments = ["--log-level", "debug", "--log-format", log_format]
    with running(
        tmp_path / "server", certificate=certificate, workers=2, arguments=arguments
    ) as server:
        known = [word for secret in session_secrets(server, tmp_path) for word in spellings(secret)]
        known += key_material(certificate)
        seen = {path: server.admin(path)[1] for path in ("/", "/status.json", "/metrics")}
        for pid in in_session(server.pid):
            for name in ("cmdline", "environ"):
                seen[f"{pid} {name}"] = Path(f"/proc/{pid}/{name}").read_bytes().decode("latin-1")
        for file in server.runtime_dir.rglob("*"):
            if file.is_file():
                seen[str(file)] = file.read_bytes().decode("latin-1")
        seen["log"] = server.log.read_text()
        assert seen["log"]
        for place, text in seen.items():
            for word in known:
                assert word not in text, f"a secret in {place}"
        assert_private(server.runtime_dir)


def assert_private(folder: Path) -> None:
    """Only its owner enters; no file in it is open to others."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for entry in folder.rglob("*"):
        if entry.is_file():
            assert not entry.stat().st_mode & 0o077, entry


def test_no_settings_are_in_argv_or_environment_of_children(hello: Server) -> None:
    for pid in in_session(hello.pid):
        if pid != hello.pid:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            assert not any(
                str(path).encode() in argument
                for path in (hello.certificate.key, hello.certificate.cert)
                for argument in argv
            )
