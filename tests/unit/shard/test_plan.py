"""The plan: what each process is told, and what a start or a reload refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import SettingsError, SettingsProblem
from coordinator.settings import CoordinatorSettings
from shard import curve_keys
from shard.development_certificate import self_signed
from shard.identity import load_identity
from shard.plan import Plan, Role, changes_that_need_a_restart, prepare
from shard.settings import Address, load
from shard.worker_settings import WorkerSettings

TCP = {"coordinator.sessions": "tcp://0.0.0.0:7443", "coordinator.control": "tcp://[::]:7444"}


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, Any]:
    """Flags that name a good certificate."""
    made = self_signed()
    (tmp_path / "cert.pem").write_bytes(made.cert_pem)
    (tmp_path / "key.pem").write_bytes(made.key_pem)
    (tmp_path / "key.pem").chmod(0o600)
    return {
        "certificate.cert": (str(tmp_path / "cert.pem"),),
        "certificate.key": (str(tmp_path / "key.pem"),),
    }


def planned(flags: dict[str, Any], role: Role = "up", runtime_dir: Path = Path("/run/x")) -> Plan:
    """A plan made of flags."""
    return prepare(load(flags=flags), role, runtime_dir)


def problems(flags: dict[str, Any], role: Role = "up", folder: str = "/run/x") -> dict[str, str]:
    """What is wrong, by path."""
    with pytest.raises(SettingsError) as caught:
        planned(flags, role, Path(folder))
    return {problem.path: problem.message for problem in caught.value.problems}


def worker(plan: Plan, *ports: int) -> WorkerSettings:
    """What a worker is told that listens on `ports`."""
    return plan.worker_settings(
        worker="g-0.1",
        slot=0,
        group="g",
        listeners=range(3, 3 + len(ports)),
        bound=[Address("127.0.0.1", port) for port in ports],
    )


def test_a_worker_is_told_everything(flags: dict[str, Any]) -> None:
    told = worker(planned({**flags, "server.idle_timeout": "7", "sessions.ttl": "1h"}), 8443)
    assert told.listeners == (3,)
    assert told.idle_timeout == 7
    assert told.session_ttl == 3600
    assert told.cipher_suites is None
    assert told.sessions_endpoint == "ipc:///run/x/sessions.sock"
    assert [host.names for host in told.hosts] == [("localhost",)]
    assert WorkerSettings.from_frame(told.to_frame()) == told


def test_the_coordinator_is_told_everything(flags: dict[str, Any]) -> None:
    told = planned({**flags, "sessions.max_bytes": "2MiB"}).coordinator_settings()
    assert told.sessions_max_bytes == 2 << 20
    assert told.admin_port == 9080
    assert told.version
    assert CoordinatorSettings.from_frame(told.to_frame()) == told


def test_sessions_of_other_ports_have_another_scope(flags: dict[str, Any]) -> None:
    plan = planned(flags)
    assert worker(plan, 1, 2).hosts[0].scope == worker(plan, 2, 1).hosts[0].scope
    assert worker(plan, 1).hosts[0].scope != worker(plan, 2).hosts[0].scope


def test_a_server_needs_a_certificate_and_a_coordinator_does_not() -> None:
    assert "--self-signed" in problems({})["certificate"]
    assert planned({}, "coordinator").workers == 0
    assert planned({"tls.self_signed": True}).identities == ()


def test_workers_alone_need_their_coordinators_endpoints(flags: dict[str, Any]) -> None:
    assert set(problems(flags, "worker")) == {"coordinator.sessions", "coordinator.control"}


def test_every_bad_file_is_told_at_once(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    flags = {"certificate.cert": (missing,) * 2, "certificate.key": (missing,) * 2, **TCP}
    found = problems({**flags, "coordinator.key_dir": missing})
    assert set(found) == {
        "certificate.0.cert",
        "certificate.0.key",
        "certificate.1.cert",
        "certificate.1.key",
        "coordinator.key_dir",
    }


def test_the_engine_is_asked(flags: dict[str, Any]) -> None:
    found = problems({**flags, "tls.groups": "X25519MLKEM786", "tls.cipher_suites": "RC4"})
    assert "X25519MLKEM768" in found["tls.groups"]
    assert "RC4" in found["tls.cipher_suites"]


def test_what_the_engine_says_is_told_with_the_rest() -> None:
    problem = SettingsProblem("tls", "no")
    with pytest.raises(SettingsError) as caught:
        prepare(load(), "up", Path("/run/x"), engine=lambda *_: [problem])
    assert problem in caught.value.problems
    assert len(caught.value.problems) == 2


def test_a_runtime_directory_too_long_for_a_socket(flags: dict[str, Any]) -> None:
    assert "107 bytes" in problems(flags, folder="/" + "x" * 100)["server.runtime_dir"]


def test_keys_are_given_to_whom_they_belong(tmp_path: Path, flags: dict[str, Any]) -> None:
    keys = tmp_path / "keys"
    curve_keys.init(keys)
    given = {**flags, **TCP, "coordinator.key_dir": str(keys)}
    up, alone = planned(given), planned(given, "coordinator")
    workers = planned(given, "worker")
    assert up.server_curve is not None
    assert up.worker_curve is not None
    assert alone.worker_curve is None
    assert alone.server_curve == up.server_curve
    assert {entry.role for entry in alone.allowed} == {"worker", "supervisor", "admin"}
    assert workers.server_curve is None
    assert workers.worker_curve == up.worker_curve
    assert workers.supervisor_curve != workers.worker_curve
    assert worker(workers).curve == workers.worker_curve
    # Each secret stays out of every repr.
    for plan in (up, alone, workers):
        for curve in (plan.server_curve, plan.worker_curve, plan.supervisor_curve):
            assert curve is None or curve.secret not in repr(plan)


def test_a_host_of_workers_needs_no_more_than_its_keys(
    tmp_path: Path, flags: dict[str, Any]
) -> None:
    keys = tmp_path / "keys"
    curve_keys.init(keys)
    for name in ("coordinator.key", "admin.key", "allow.toml"):
        (keys / name).unlink()
    given = {**flags, **TCP, "coordinator.key_dir": str(keys)}
    assert planned(given, "worker").supervisor_curve is not None
    assert set(problems(given, "coordinator")) == {"coordinator.key_dir"}


def test_processes_on_the_same_machine_do_not_connect_to_a_wildcard(
    tmp_path: Path, flags: dict[str, Any]
) -> None:
    curve_keys.init(tmp_path / "keys")
    plan = planned({**flags, **TCP, "coordinator.key_dir": str(tmp_path / "keys")})
    told = worker(plan)
    assert told.sessions_endpoint == "tcp://127.0.0.1:7443"
    assert told.control_endpoint == "tcp://[::1]:7444"
    assert plan.coordinator_settings().sessions_endpoint == "tcp://0.0.0.0:7443"


def test_secret_files_open_to_others_are_warned_about(
    tmp_path: Path, flags: dict[str, Any]
) -> None:
    keys = tmp_path / "keys"
    curve_keys.init(keys)
    (keys / "worker.key").chmod(0o644)
    (tmp_path / "key.pem").chmod(0o604)
    plan = planned({**flags, **TCP, "coordinator.key_dir": str(keys)})
    assert ["worker.key" in plan.warnings[1], "key.pem" in plan.warnings[0]] == [True, True]
    assert len(plan.warnings) == 2


def test_one_certificate_more(tmp_path: Path, flags: dict[str, Any]) -> None:
    plan = planned(flags)
    other = load_identity(tmp_path / "cert.pem", tmp_path / "key.pem", "x")
    assert plan.with_identity(other).identities == (*plan.identities, other)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"admin.bind": "127.0.0.1:9081"}, "admin.bind"),
        ({"sessions.ttl": "1h"}, "sessions.ttl"),
        ({"log.level": "debug"}, "log.level"),
        ({"server.idle_timeout": "1h", "server.workers": "9", "tls.alpn": "h2"}, None),
        ({"server.bind": "127.0.0.1:9"}, None),
    ],
)
def test_what_a_reload_can_change(
    flags: dict[str, Any], change: dict[str, str], path: str | None
) -> None:
    found = changes_that_need_a_restart(planned(flags), planned({**flags, **change}))
    assert [problem.path for problem in found] == ([path] if path else [])


def test_a_new_allow_list_needs_a_restart(tmp_path: Path, flags: dict[str, Any]) -> None:
    keys = tmp_path / "keys"
    curve_keys.init(keys)
    given = {**flags, **TCP, "coordinator.key_dir": str(keys)}
    before = planned(given)
    (keys / "allow.toml").write_text(
        (keys / "allow.toml").read_text().replace('name = "admin"', 'name = "me"')
    )
    (found,) = changes_that_need_a_restart(before, planned(given))
    assert found.path == "coordinator.key_dir"
