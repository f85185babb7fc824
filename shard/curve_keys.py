"""CURVE keys of a deployment: one directory, made by ``shardtls keys init``.

::

    coordinator.key  coordinator.pub     the server's pair; every client needs the public half
    worker.key  supervisor.key  admin.key     one pair for each role
    allow.toml                           whom the coordinator lets in, and as what

A host of workers needs ``coordinator.pub``, ``worker.key`` and ``supervisor.key``; commands need
``coordinator.pub`` and ``admin.key``; the coordinator needs ``coordinator.key`` and ``allow.toml``.
Keys are 40 characters of Z85 (ZeroMQ RFC 32), files are TOML.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final

import zmq

from coordinator.errors import SettingsError, SettingsProblem
from coordinator.settings import ROLES, AllowedKey, ServerCurve
from shard.runtime_dir import write_private
from shard.worker_settings import CurveKeys

__all__ = ["ALLOW_LIST", "init", "load_allow_list", "load_client", "load_server"]

ALLOW_LIST: Final = "allow.toml"
_SERVER: Final = "coordinator"
_Z85_DIGITS: Final = (
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)
_KEY_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class _Pair:
    public: str
    secret: str = field(repr=False)


def files() -> tuple[str, ...]:
    """The names of all files that :func:`init` makes."""
    return (f"{_SERVER}.key", f"{_SERVER}.pub", *(f"{role}.key" for role in ROLES), ALLOW_LIST)


def init(folder: Path) -> list[Path]:
    """Make a pair for the coordinator and one for each role, and the allow-list.

    :returns: the files made, all mode 0600.
    :raises FileExistsError: one of them exists; then none is made.
    :raises OSError: the directory cannot be written to.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in files():
        if (folder / name).exists():
            raise FileExistsError(folder / name)
    contents = {}
    allowed = ["# Who may connect to the coordinator, and as what. One table for each key.\n"]
    for name in (_SERVER, *ROLES):
        public, secret = (half.decode("ascii") for half in zmq.curve_keypair())
        contents[f"{name}.key"] = (
            f"# The {name}'s CURVE key pair. Keep it secret.\n"
            f"public = {_quoted(public)}\nsecret = {_quoted(secret)}\n"
        )
        if name == _SERVER:
            contents[f"{name}.pub"] = (
                f"# The coordinator's public key, for its clients.\npublic = {_quoted(public)}\n"
            )
        else:
            allowed.append(
                f'\n[[allow]]\nrole = "{name}"\nname = "{name}"\npublic = {_quoted(public)}\n'
            )
    contents[ALLOW_LIST] = "".join(allowed)
    made = []
    for name in files():
        write_private(folder / name, contents[name].encode(), replace=False)
        made.append(folder / name)
    return made


def load_server(folder: Path, label: str) -> ServerCurve:
    """The coordinator's own pair.

    :param label: path of the setting that names the directory.
    :raises SettingsError: with the remedy.
    """
    pair = _load_pair(folder / f"{_SERVER}.key", label)
    return ServerCurve(public=pair.public, secret=pair.secret)


def load_client(folder: Path, role: str, label: str) -> CurveKeys:
    """The pair of `role`, with the coordinator's public key.

    :param role: one of :data:`coordinator.settings.ROLES`.
    :raises SettingsError: every problem of both files.
    """
    problems: list[SettingsProblem] = []
    server_public = pair = None
    try:
        server_public = _key(_read(folder / f"{_SERVER}.pub", label), "public", label)
    except SettingsError as error:
        problems += error.problems
    try:
        pair = _load_pair(folder / f"{role}.key", label)
    except SettingsError as error:
        problems += error.problems
    if server_public is None or pair is None:
        raise SettingsError(problems)
    return CurveKeys(server_public=server_public, public=pair.public, secret=pair.secret)


def load_allow_list(file: Path, label: str) -> tuple[AllowedKey, ...]:
    """Who may connect.

    :raises SettingsError: with the remedy.
    """
    entries = _read(file, label).values.get("allow")
    if not isinstance(entries, list) or not entries:
        raise SettingsError([SettingsProblem(label, f"{file} has no [[allow]] tables")])
    found = []
    for number, entry in enumerate(entries):
        where = f"{file}: allow.{number}"
        table = _File(file, entry if isinstance(entry, dict) else {})
        role, name = table.values.get("role"), table.values.get("name", "")
        if role not in ROLES or not isinstance(name, str):
            remedy = f"give a role (one of {', '.join(ROLES)}) and a name"
            raise SettingsError([SettingsProblem(label, f"{where}: {remedy}")])
        public = _key(table, "public", label)
        found.append(AllowedKey(public=public, role=role, name=name or role))
    if len({entry.public for entry in found}) != len(found):
        raise SettingsError([SettingsProblem(label, f"{file} lists a key twice")])
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    values: dict[str, Any] = field(repr=False)


def _load_pair(path: Path, label: str) -> _Pair:
    file = _read(path, label)
    pair = _Pair(_key(file, "public", label), _key(file, "secret", label))
    if zmq.curve_public(pair.secret.encode("ascii")).decode("ascii") != pair.public:
        raise SettingsError([SettingsProblem(label, f"{path}: the two keys are not a pair")])
    return pair


def _read(path: Path, label: str) -> _File:
    try:
        return _File(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        problem = (
            f"{path} cannot be read ({error.strerror}): make the keys with `shardtls keys init`, "
            "and let this user read them"
        )
    except ValueError:
        # The parser's text could quote a secret; it stays here.
        problem = f"{path} is not TOML: make the keys anew with `shardtls keys init`"
    raise SettingsError([SettingsProblem(label, problem)])


def _key(file: _File, name: str, label: str) -> str:
    value = file.values.get(name)
    if not isinstance(value, str) or not _is_key(value):
        message = f"{file.path}: {name!r} is not a key of {_KEY_CHARACTERS} Z85 characters"
        raise SettingsError([SettingsProblem(label, message)])
    return value


def _is_key(text: str) -> bool:
    """RFC 32/Z85: five digits to the base of 85 for each four bytes."""
    if len(text) != _KEY_CHARACTERS or not set(_Z85_DIGITS).issuperset(text):
        return False
    groups = [text[start : start + 5] for start in range(0, _KEY_CHARACTERS, 5)]
    digits = [[_Z85_DIGITS.index(char) for char in group] for group in groups]
    return all(reduce(lambda sum_, digit: sum_ * 85 + digit, group) < 2**32 for group in digits)


def _quoted(key: str) -> str:
    # Z85 has neither quotes nor backslashes, so a literal TOML string takes any key.
    return f"'{key}'"
