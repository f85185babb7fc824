"""The runtime directory: ours alone, one server in it, and found by commands."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.errors import StartError
from shard.runtime_dir import RunningServer, RuntimeDir, default_path, find_server, write_private

SERVER = RunningServer(1, "0.1", "ipc:///x", None, ("127.0.0.1:1",), None)

HOLD = """
import sys
from pathlib import Path
from shard.runtime_dir import RuntimeDir
held = RuntimeDir.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_where_it_is() -> None:
    assert default_path({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/shardtls")
    assert default_path({}) == Path(f"/tmp/shardtls-{os.getuid()}")


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    runtime = RuntimeDir.acquire(tmp_path / "a" / "b")
    assert stat.S_IMODE(runtime.path.stat().st_mode) == 0o700
    runtime.release()


def test_another_server_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "r")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StartError, match=rf"pid {holder.pid}\b.*--runtime-dir"):
            RuntimeDir.acquire(tmp_path / "r")
        holder.stdin.close()
        assert holder.wait(5) == 0
    RuntimeDir.acquire(tmp_path / "r").release()


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(StartError, match="chmod 700"):
        RuntimeDir.acquire(tmp_path)


def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file", "file/below"):
        with pytest.raises(StartError, match="runtime directory"):
            RuntimeDir.acquire(tmp_path / name)


def test_commands_find_a_server_while_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    assert find_server(folder) is None
    runtime = RuntimeDir.acquire(folder)
    assert find_server(folder) is None  # it has not said anything yet
    runtime.publish(SERVER)
    assert find_server(folder) == SERVER
    (folder / "server.json").write_text("{}")
    assert find_server(folder) is None
    runtime.publish(SERVER)
    runtime.release()
    assert find_server(folder) is None


def test_what_a_killed_server_left_is_not_believed(tmp_path: Path) -> None:
    runtime = RuntimeDir.acquire(tmp_path / "r")
    runtime.publish(SERVER)
    os.close(runtime.fileno())  # as the kernel does
    assert find_server(tmp_path / "r") is None
    RuntimeDir.acquire(tmp_path / "r").release()


def test_private_files_are_written_whole(tmp_path: Path) -> None:
    file = tmp_path / "f"
    write_private(file, b"1", replace=False)
    with pytest.raises(FileExistsError):
        write_private(file, b"2", replace=False)
    write_private(file, b"3", replace=True)
    assert file.read_bytes() == b"3"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
