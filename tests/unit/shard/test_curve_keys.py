"""CURVE key files: made once, read with every mistake named, never quoted."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq

from coordinator.errors import SettingsError
from coordinator.settings import ROLES
from shard.curve_keys import init, load_allow_list, load_client, load_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of keys."""
    init(tmp_path / "keys")
    return tmp_path / "keys"


def refused(folder: Path) -> str:
    """What is wrong with the worker's files."""
    with pytest.raises(SettingsError) as caught:
        load_client(folder, "worker", "coordinator.key_dir")
    assert {problem.path for problem in caught.value.problems} == {"coordinator.key_dir"}
    return str(caught.value)


def test_only_the_owner_can_read_them(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {file.name for file in files} == {
        "coordinator.key",
        "coordinator.pub",
        "worker.key",
        "supervisor.key",
        "admin.key",
        "allow.toml",
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_halves_fit_and_the_allow_list_knows_every_role(folder: Path) -> None:
    server = load_server(folder, "x")
    allowed = {entry.role: entry.public for entry in load_allow_list(folder / "allow.toml", "x")}
    assert set(allowed) == set(ROLES)
    for role in ROLES:
        client = load_client(folder, role, "x")
        assert client.server_public == server.public
        assert client.public == allowed[role]
        assert zmq.curve_public(client.secret.encode()).decode() == client.public


def test_nothing_is_replaced(folder: Path) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    (folder / "coordinator.key").unlink()
    with pytest.raises(FileExistsError):
        init(folder)
    assert not (folder / "coordinator.key").exists()
    assert all(file.read_bytes() == before[file] for file in folder.iterdir())


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    text = refused(tmp_path)
    assert "coordinator.pub" in text
    assert "worker.key" in text
    assert "keys init" in text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("secret = ", "is not TOML"),
        ("", "'public' is not a key"),
        ("public = 'short'\nsecret = 'short'", "'public' is not a key"),
        (f"public = '{'A' * 40}'\nsecret = '{'é' * 40}'", "'secret' is not a key"),
        (f"public = '{'A' * 40}'\nsecret = '{'1' * 40}'", "not a pair"),
        (f"public = '{'A' * 40}'\nsecret = '{'#' * 40}'", "'secret' is not a key"),
    ],
)
def test_damaged_files_are_refused(folder: Path, content: str, complaint: str) -> None:
    (folder / "worker.key").write_text(content)
    assert complaint in refused(folder)


def test_a_secret_is_not_quoted(folder: Path) -> None:
    secret = load_client(folder, "worker", "x").secret
    text = (folder / "worker.key").read_text()
    for damaged in (text + "\n=", text.replace("public = '", "public = 'x")):
        (folder / "worker.key").write_text(damaged)
        assert secret not in refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "allow = 3",
        "[[allow]]\nrole = 'king'\nname = 'x'\npublic = 'x'",
        "[[allow]]\nrole = 'admin'\nname = 'x'\npublic = 'x'",
        "allow = [3]",
    ],
)
def test_a_damaged_allow_list_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "allow.toml").write_text(content)
    with pytest.raises(SettingsError, match=r"allow\.toml"):
        load_allow_list(tmp_path / "allow.toml", "coordinator.allow_list")


def test_a_key_may_stand_in_the_allow_list_once(folder: Path) -> None:
    file = folder / "allow.toml"
    file.write_text(file.read_text() * 2)
    with pytest.raises(SettingsError, match="twice"):
        load_allow_list(file, "x")
