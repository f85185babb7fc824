"""``shardtls check``: every error at once, each with its path and remedy."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.certificates import Certificate, issue
from tests.server import SHARDTLS

GOOD = """\
[server]
bind = ["127.0.0.1:8443", "[::1]:8443"]
workers = 3
drain_timeout = "30s"

[[certificate]]
cert = "{certificate.cert}"
key = "{certificate.key}"

[sessions]
ttl = "12h"
max_bytes = "64MiB"
"""


def check(file: Path) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        [SHARDTLS, "check", str(file)], capture_output=True, text=True, timeout=20
    )


def test_a_good_file(tmp_path: Path, certificate: Certificate) -> None:
    file = tmp_path / "good.toml"
    file.write_text(GOOD.format(certificate=certificate))
    done = check(file)
    assert done.returncode == 0, done.stderr


def test_all_errors_are_told_at_once(tmp_path: Path, certificate: Certificate) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        GOOD.format(certificate=certificate)
        .replace("workers = 3", 'workers = 0\nworkerz = 1\nbacklog = "many"')
        .replace('ttl = "12h"', 'ttl = "12 parsecs"')
        .replace("127.0.0.1:8443", "127.0.0.1:99999")
    )
    done = check(file)
    assert done.returncode == 2
    text = done.stdout + done.stderr
    for path in ("server.workers", "workerz", "server.backlog", "sessions.ttl", "server.bind"):
        assert path in text, path
    assert "Traceback" not in text


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, certificate: Certificate) -> None:
    other = issue(tmp_path / "other")
    file = tmp_path / "mismatch.toml"
    file.write_text(
        GOOD.format(certificate=certificate).replace(str(certificate.key), str(other.key))
    )
    done = check(file)
    assert done.returncode == 2
    assert "certificate" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_plain_tcp_endpoint_is_refused(tmp_path: Path, certificate: Certificate) -> None:
    file = tmp_path / "plain.toml"
    file.write_text(
        GOOD.format(certificate=certificate)
        + '[coordinator]\nsessions = "tcp://127.0.0.1:7000"\ncontrol = "tcp://127.0.0.1:7001"\n'
    )
    done = check(file)
    assert done.returncode == 2
    assert "coordinator" in done.stdout + done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = check(tmp_path / "missing.toml")
    assert done.returncode == 2
    assert "missing.toml" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
