"""The command as a user types it: output, exit codes, one clear line for every error."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.protocol import (
    ERROR_ABSENT,
    Request,
    decode_control,
    encode_error,
    encode_reply,
)
from shard import __version__
from tests.certificates import Certificate
from tests.client import client_context, visit
from tests.engine.router import RouterThread
from tests.server import SHARDTLS, Server
from tests.waiting import eventually


def shardtls(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command; it never shows a traceback."""
    done = subprocess.run(
        [SHARDTLS, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_version() -> None:
    assert __version__ in shardtls("--version").stdout
    module = [sys.executable, "-m", "shard", "--version"]
    assert __version__ in subprocess.run(module, capture_output=True, text=True).stdout


def test_every_command_has_its_help() -> None:
    text = shardtls("--help").stdout
    commands = re.findall(r"^  (\w+) ", text.partition("Commands:")[2], re.MULTILINE)
    assert set(commands) >= {
        "up",
        "coordinator",
        "worker",
        "scale",
        "drain",
        "reload",
        "rotate",
        "purge",
        "status",
        "top",
        "entropy",
        "check",
        "cert",
        "keys",
        "demo",
    }
    for command in commands:
        done = shardtls(command, "--help")
        assert done.returncode == 0
        assert "Usage:" in done.stdout


def test_help_names_the_setting_and_the_variable_of_a_flag() -> None:
    text = re.sub(r"\s+", " ", shardtls("up", "--help").stdout)
    assert "--session-ttl" in text
    assert "[sessions.ttl, SHARDTLS_SESSIONS_TTL]" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up", "--nonsense"],
        ["scale"],
        ["scale", "0"],
        ["scale", "many"],
        ["drain"],
        ["purge", "nothing"],
        ["status", "--timeout"],
        ["check"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    done = shardtls(*arguments)
    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["scale", "2"], ["drain", "x"], ["reload"], ["purge", "all"], ["rotate"]],
    ids=" ".join,
)
def test_commands_say_that_no_server_runs(tmp_path: Path, arguments: list[str]) -> None:
    done = shardtls(*arguments, "--runtime-dir", str(tmp_path))
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "shardtls up" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_endpoint_where_nobody_answers(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/control.sock"
    done = shardtls("rotate", "--timeout", "0.1", "--coordinator", endpoint)
    assert done.returncode == 1
    assert endpoint in done.stderr


@pytest.mark.parametrize(
    ("endpoint", "word"), [("nonsense", "ipc:///path"), ("tcp://127.0.0.1:1", "--key-dir")]
)
def test_an_endpoint_that_is_wrong(endpoint: str, word: str) -> None:
    done = shardtls("status", "--coordinator", endpoint, SHARDTLS_COORDINATOR_KEY_DIR="")
    assert done.returncode == 2
    assert word in done.stderr


def test_top_looks_again_and_tells_rates(hello: Server) -> None:
    shown = hello.command("top", "--count", "2", "--interval", "0.1")
    assert shown.returncode == 0
    assert shown.stdout.count("coordinator pid") == 2
    assert "handshakes; " in shown.stdout


def test_status_for_people_and_as_json(hello: Server) -> None:
    visit(hello.address, client_context(hello.certificate))
    shown = hello.command("status")
    assert shown.returncode == 0
    assert shown.stdout.count(" ready ") == 4
    for word in ("WORKER", "sessions", "entropy", "getrandom"):
        assert word in shown.stdout
    machine = json.loads(hello.command("status", "--json").stdout)
    assert set(machine) == set(hello.status())
    assert [worker["id"] in shown.stdout for worker in machine["workers"]] == [True] * 4


def test_a_server_is_found_by_its_endpoint_and_by_a_variable(hello: Server) -> None:
    endpoint = f"ipc://{hello.runtime_dir}/control.sock"
    assert shardtls("status", "--coordinator", endpoint).returncode == 0
    variable = {"SHARDTLS_SERVER_RUNTIME_DIR": str(hello.runtime_dir)}
    assert shardtls("status", **variable).returncode == 0


def test_purge_makes_the_next_visit_a_full_handshake(hello: Server) -> None:
    context = client_context(hello.certificate)
    session = visit(hello.address, context).session
    eventually(
        lambda: hello.status()["coordinator"]["sessions"]["entries"] > 0, within=5, what="stored"
    )
    done = hello.command("purge", "all")
    assert done.returncode == 0
    assert re.fullmatch(r"\d+ sessions? purged\n", done.stdout)
    assert not visit(hello.address, context, session).resumed


def test_rotate_reseeds_every_worker(hello: Server) -> None:
    def reseeds() -> int:
        return sum(worker["drbg"]["reseeds"] for worker in hello.workers())

    before = reseeds()
    done = hello.command("rotate", "--drbg")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4 workers have reseeded\n"
    eventually(lambda: reseeds() >= before + 4, within=5, what="every worker has reseeded")


def test_rotate_without_ticket_keys_is_refused(hello: Server) -> None:
    done = hello.command("rotate")
    assert done.returncode == 1
    assert "ticket keys" in done.stderr


class Starting(RouterThread):
    """A coordinator whose supervisor registers a moment after the first command.

    :ivar early: how many more commands find nobody.
    """

    early = 3

    def received(self, peer: bytes, frame: bytes) -> list[bytes]:
        request = decode_control(frame)
        assert isinstance(request, Request)
        if self.early > 0:
            self.early -= 1
            return [encode_error(request.request, ERROR_ABSENT, "no supervisor is registered")]
        return [encode_reply(request.request, {"ok": True})]


def test_a_command_right_after_the_start_waits_for_who_has_to_carry_it_out(tmp_path: Path) -> None:
    with Starting(f"ipc://{tmp_path}/control") as starting:
        done = shardtls("scale", "3", "--coordinator", starting.endpoint)
        assert (done.returncode, done.stdout) == (0, "3 workers\n")
        starting.early = 10**6
        done = shardtls("scale", "3", "--timeout", "0.3", "--coordinator", starting.endpoint)
        assert done.returncode == 1
        assert "no supervisor is registered" in done.stderr


def test_a_development_certificate(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    done = shardtls("cert", "dev", str(folder))
    assert done.returncode == 0
    assert done.stdout.split() == [str(folder / f"{name}.pem") for name in ("ca", "cert", "key")]
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    verify = ["openssl", "verify", "-CAfile", str(folder / "ca.pem"), str(folder / "cert.pem")]
    assert subprocess.run(verify, capture_output=True).returncode == 0
    file = tmp_path / "shardtls.toml"
    file.write_text('[[certificate]]\ncert = "tls/cert.pem"\nkey = "tls/key.pem"\n')
    assert shardtls("check", str(file)).returncode == 0

    before = (folder / "key.pem").read_bytes()
    refused = shardtls("cert", "dev", str(folder))
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert (folder / "key.pem").read_bytes() == before
    assert shardtls("cert", "dev", str(folder), "--force", "--name", "a.example").returncode == 0
    assert (folder / "key.pem").read_bytes() != before


def test_curve_keys_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    done = shardtls("keys", "init", str(folder))
    assert done.returncode == 0
    assert len(done.stdout.split()) == 6
    assert not any(secret in done.stdout for secret in secrets(folder))
    refused = shardtls("keys", "init", str(folder))
    assert refused.returncode == 2
    assert "not replaced" in refused.stderr


def secrets(folder: Path) -> list[str]:
    """The secret keys of a directory."""
    texts = [file.read_text() for file in folder.glob("*.key")]
    return [re.findall(r"secret = '(.*)'", text)[0] for text in texts]


@pytest.mark.parametrize("command", [["cert", "dev"], ["keys", "init"]], ids=" ".join)
def test_a_directory_that_cannot_be_made(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").touch()
    done = shardtls(*command, str(tmp_path / "file" / "below"))
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_check_knows_which_command_a_file_is_for(tmp_path: Path, certificate: Certificate) -> None:
    file = tmp_path / "coordinator.toml"
    file.write_text('[coordinator]\nsessions = "ipc:///run/s"\ncontrol = "ipc:///run/c"\n')
    assert "certificate" in shardtls("check", str(file)).stderr
    assert shardtls("check", str(file), "--for", "coordinator").returncode == 0
    file.write_text(f'[[certificate]]\ncert = "{certificate.cert}"\nkey = "{certificate.key}"\n')
    assert shardtls("check", str(file)).returncode == 0
    assert "coordinator.control" in shardtls("check", str(file), "--for", "worker").stderr


def test_check_counts_variables_as_a_start_does(tmp_path: Path, certificate: Certificate) -> None:
    file = tmp_path / "good.toml"
    file.write_text(f'[[certificate]]\ncert = "{certificate.cert}"\nkey = "{certificate.key}"\n')
    done = shardtls("check", str(file), SHARDTLS_SERVER_WORKERZ="3")
    assert done.returncode == 2
    assert "SHARDTLS_SERVER_WORKERS" in done.stderr
