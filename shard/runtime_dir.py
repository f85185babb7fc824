"""The directory in which a running server keeps its lock, its sockets and what commands need.

Whoever can write to it can act as the server, so it belongs to one user and nobody else may enter.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from coordinator.errors import StartError

__all__ = ["RunningServer", "RuntimeDir", "default_path", "find_server", "write_private"]

ORPHANS_END: Final = 5.0
"""Seconds to wait for the children of a supervisor that was killed; they end within one."""
_LOCK: Final = "lock"
_STATE: Final = "server.json"


def default_path(environ: Mapping[str, str]) -> Path:
    """``$XDG_RUNTIME_DIR/shardtls``, or ``/tmp/shardtls-UID`` where there is none."""
    base = environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "shardtls" if base else Path(f"/tmp/shardtls-{os.getuid()}")  # noqa: S108 - see _own


@dataclass(frozen=True, slots=True)
class RunningServer:
    """What commands need to know of the server that holds a runtime directory.

    :ivar control: endpoint to which commands connect, if this server has a coordinator.
    :ivar key_dir: where its CURVE keys lie, for a ``tcp://`` endpoint.
    """

    pid: int
    version: str
    control: str
    key_dir: str | None
    urls: tuple[str, ...]
    admin: str | None


class RuntimeDir:
    """A runtime directory that this process holds the lock of, until it ends."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Make the directory if need be, and lock it.

        :raises StartError: it is not ours alone, or another server runs in it.
        """
        path = path.absolute()
        _own(path)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + ORPHANS_END
        while not _locked(lock):
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            if _lives(holder) or time.monotonic() > deadline:
                os.close(lock)
                raise StartError(
                    f"another server (pid {holder or 'unknown'}) runs in {path}: stop it, or give "
                    "this one a directory of its own with --runtime-dir"
                )
            time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return cls(path, lock)

    def fileno(self) -> int:
        """The lock, to be inherited by every child: then it is free only when all are gone, so
        that a successor meets neither their sockets nor their endpoints.
        """
        return self._lock

    def publish(self, server: RunningServer) -> None:
        """Tell commands about this server."""
        write_private(self.path / _STATE, json.dumps(asdict(server)).encode(), replace=True)

    def release(self) -> None:
        """Say that no server runs here any more."""
        (self.path / _STATE).unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()  # PID 1 in a container: its predecessor had the same


def find_server(path: Path) -> RunningServer | None:
    """The server that runs in a directory; None if there is none."""
    try:
        lock = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # held: it runs
    else:
        return None
    finally:
        os.close(lock)
    try:
        state = json.loads((path / _STATE).read_bytes())
        return RunningServer(**{**state, "urls": tuple(state["urls"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # it is about to start or to end


def write_private(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file that only its owner can read, whole or not at all.

    :param replace: whether one that exists is replaced.
    :raises FileExistsError: it exists and is not to be replaced.
    :raises OSError: it cannot be written.
    """
    if replace:
        target = path.with_name(f".{path.name}.{os.getpid()}")
        target.unlink(missing_ok=True)
    else:
        target = path
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    if replace:
        target.replace(path)


def _own(path: Path) -> None:
    """Make it, or make sure that nobody else made it: in /tmp anybody could have."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StartError(
            f"the runtime directory {path} cannot be made ({error.strerror}): "
            "choose another with --runtime-dir"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise StartError(
            f"the runtime directory {path} is not a directory of this user: "
            "choose another with --runtime-dir"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StartError(
            f"the runtime directory {path} is open to other users: "
            f"close it with `chmod 700 {path}`, or choose another with --runtime-dir"
        )
