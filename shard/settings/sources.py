"""Settings from a file, the environment and flags, merged and validated as one document.

A flag outranks a variable, a variable outranks the file, the file outranks the default. Nothing is
read here but the file that was named; whether the files that it names exist is another step's
matter (:mod:`shard.identity`).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from coordinator.errors import SettingsError, SettingsProblem
from shard.settings.schema import NOT_BUILT, SECTIONS, Key, Settings, keys
from shard.settings.values import FilePath

__all__ = ["PREFIX", "load", "variable"]

PREFIX: Final = "SHARDTLS_"
CONFIG_VARIABLE: Final = "SHARDTLS_CONFIG"
_FOREIGN: Final = re.compile(r"SHARDTLS_(SERVICE_|PORT$|PORT_)")
"""What Kubernetes puts into every container beside a service named ``shardtls``."""
_KEYS: Final[dict[str, Key]] = {path: key for path, key, _ in keys()}
_CERTIFICATE_FLAGS: Final = {
    path.partition(".")[2]: key.flag
    for path, key in _KEYS.items()
    if path.startswith("certificate.")
}
MAX_BACKENDS: Final = 256
"""What a heartbeat tells of at most (``coordinator/stats.py``)."""
_ROUTE_EXPECTS: Final = {
    "route.server_name": 'a name such as "api.example.org" or "*.example.org"',
    "route.backend": 'backends such as ["10.0.0.1:80", "unix:/run/app.sock"]',
}
"""For what can be written in a file only."""
_LONGEST_VALUE: Final = 80


def variable(path: str) -> str:
    """The environment variable of a setting: ``SHARDTLS_SESSIONS_TTL`` for ``sessions.ttl``."""
    return PREFIX + path.replace(".", "_").upper()


_VARIABLES: Final = {variable(path): path for path in _KEYS}


class _Document:
    """Values under their paths, and where each came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[SettingsProblem] = []

    def put(self, path: str, value: Any, origin: str) -> None:
        section, _, name = path.partition(".")
        held = self.values.setdefault(section, {})
        if isinstance(held, dict):
            held[name] = value
            self.origins[path] = origin

    def put_certificates(
        self, pairs: Mapping[str, Iterable[Any]], origins: Mapping[str, str]
    ) -> None:
        """A list of chains, one of keys, and so on; they replace the file's as a whole."""
        lists = {name: list(values) for name, values in pairs.items()}
        count = len(lists.get("cert", ()))
        for name in {"cert": None, "key": None, **lists}:
            if len(lists.get(name, ())) != count:
                self.problems.append(
                    SettingsProblem(
                        f"{origins['cert']} and {origins[name]}",
                        f"{count} and {len(lists.get(name, ()))} given: give both, once for each "
                        "certificate",
                    )
                )
                return
        self.values["certificate"] = [
            {name: values[number] for name, values in lists.items()} for number in range(count)
        ]
        for number in range(count):
            for name in lists:
                self.origins[f"certificate.{number}.{name}"] = origins[name]


def load(
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge and validate.

    :param config: the TOML file; None: the one that ``SHARDTLS_CONFIG`` names, if any.
    :param environ: the process's environment.
    :param flags: values given on the command line, under the paths of their settings.
    :raises SettingsError: every problem, each under the name by which its value was given.
    """
    environ = environ or {}
    document = _Document()
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    if config is not None:
        _read_file(document, config)
    _read_environment(document, environ)
    _read_flags(document, flags or {})
    _refuse_what_is_not_built(document)
    try:
        settings = Settings.model_validate(document.values)
    except ValidationError as error:
        document.problems += [_problem(document, item) for item in error.errors()]
        raise SettingsError(document.problems) from None
    document.problems += _across(document, settings)
    document.problems += _routes(settings)
    if document.problems:
        raise SettingsError(document.problems)
    return settings


def _read_file(document: _Document, file: Path) -> None:
    try:
        content = file.read_bytes()
    except OSError as error:
        remedy = "name an existing file that this user may read"
        problem = SettingsProblem(str(file), f"cannot be read ({error.strerror}): {remedy}")
        raise SettingsError([*document.problems, problem]) from None
    try:
        document.values = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problem = SettingsProblem(str(file), f"is not TOML: {error}")
        raise SettingsError([*document.problems, problem]) from None
    _anchor(document.values, file.parent)


def _anchor(values: dict[str, Any], folder: Path) -> None:
    """Make the paths of a file relative to its own folder, wherever the command was started."""
    for path, _, field in keys():
        if not _is_path(field.annotation):
            continue
        section, _, name = path.partition(".")
        held = values.get(section)
        for table in held if isinstance(held, list) else [held]:
            if not isinstance(table, dict):
                continue
            if isinstance(table.get(name), list):
                table[name] = [_below(folder, item) for item in table[name]]
            elif name in table:
                table[name] = _below(folder, table[name])


def _below(folder: Path, value: Any) -> Any:
    if isinstance(value, str) and value:
        return str(folder / Path(value).expanduser())
    return value


def _is_path(annotation: Any) -> bool:
    return annotation is Path or annotation in (FilePath | None, tuple[FilePath, ...])


def _read_environment(document: _Document, environ: Mapping[str, str]) -> None:
    certificates: dict[str, list[str]] = {}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or _FOREIGN.match(name):
            continue
        path = _VARIABLES.get(name)
        if path is None:
            message = "no such setting" + _suggestion(name, _VARIABLES)
            document.problems.append(SettingsProblem(name, message))
        elif path.startswith("certificate."):
            certificates[path.partition(".")[2]] = [part for part in value.split(",") if part]
        else:
            document.put(path, value, name)
    if certificates:
        names = {name: variable(f"certificate.{name}") for name in _CERTIFICATE_FLAGS}
        document.put_certificates(certificates, names)


def _read_flags(document: _Document, flags: Mapping[str, Any]) -> None:
    certificates: dict[str, Any] = {}
    for path, value in flags.items():
        if path.startswith("certificate."):
            certificates[path.partition(".")[2]] = value
        else:
            document.put(path, value, _KEYS[path].flag)
    if certificates:
        document.put_certificates(certificates, _CERTIFICATE_FLAGS)


def _refuse_what_is_not_built(document: _Document) -> None:
    for path, (harmless, what) in NOT_BUILT.items():
        section, _, name = path.partition(".")
        held = document.values.get(section)
        if name and isinstance(held, dict) and name in held:
            value = held.pop(name)
        elif not name and held is not None:
            value = document.values.pop(section)
        else:
            continue
        if harmless is None or value != harmless:
            document.problems.append(
                SettingsProblem(path, f"{what} not available in this version: remove the setting")
            )


def _across(document: _Document, settings: Settings) -> list[SettingsProblem]:
    """What no single value can tell."""
    found = []

    def complain(path: str, message: str) -> None:
        found.append(SettingsProblem(document.origins.get(path, path), message))

    coordinator = settings.coordinator
    if coordinator.lease_timeout < 2 * coordinator.heartbeat:
        complain(
            "coordinator.lease_timeout",
            f"{coordinator.lease_timeout:g} s is less than two heartbeats of "
            f"{coordinator.heartbeat:g} s: a single late one would lose a worker; raise it",
        )
    if coordinator.park >= settings.sessions.lookup_timeout:
        complain(
            "coordinator.park",
            f"{coordinator.park:g} s is not below sessions.lookup_timeout "
            f"({settings.sessions.lookup_timeout:g} s): no parked lookup would be answered in time",
        )
    if (coordinator.sessions is None) != (coordinator.control is None):
        missing = "control" if coordinator.control is None else "sessions"
        complain(f"coordinator.{missing}", "give both endpoints or neither")
    for name in ("sessions", "control"):
        endpoint = getattr(coordinator, name)
        if endpoint is not None and endpoint.startswith("tcp://") and coordinator.key_dir is None:
            complain(
                f"coordinator.{name}",
                f"{endpoint!r} needs CURVE: make keys with `shardtls keys init DIR` and name the "
                "directory in coordinator.key_dir",
            )
    endpoints = (coordinator.sessions, coordinator.control)
    if len({endpoint.partition(":")[0] for endpoint in endpoints if endpoint}) > 1:
        complain("coordinator.control", "both endpoints must be ipc:// or both tcp://")
    if coordinator.sessions is not None and coordinator.sessions == coordinator.control:
        complain("coordinator.control", "is the same endpoint as coordinator.sessions")
    server = settings.server
    if server.readers > 1 and server.app.startswith(("asgi:", "wsgi:")):
        complain(
            "server.readers",
            f"{server.readers} readers are {server.readers} event loops, and an application of "
            "this kind lives on one: raise server.workers instead",
        )
    return found


def _routes(settings: Settings) -> list[SettingsProblem]:
    named = [route.server_name for route in settings.route]
    found = [
        SettingsProblem(f"route.{number}.server_name", f"{name} is routed twice: remove one")
        for number, name in enumerate(named)
        if name in named[:number]
    ]
    backends = [settings.server.app.removeprefix("proxy:"), *(r.backend for r in settings.route)]
    if len({name for names in backends for name in names.split(",")}) > MAX_BACKENDS:
        found.append(SettingsProblem("route", f"there are over {MAX_BACKENDS} backends in all"))
    if named and not settings.server.app.startswith("proxy:"):
        remedy = "needs --app proxy:HOST:PORT, whose backends serve all other names"
        found.append(SettingsProblem("route", remedy))
    return found


def _problem(document: _Document, error: Any) -> SettingsProblem:
    location = ".".join(str(part) for part in error["loc"] if not _is_inner(part))
    path = re.sub(r"\.\d+", "", location)
    if error["type"] == "extra_forbidden":
        return SettingsProblem(location, "no such setting" + _unknown(location))
    key = _KEYS.get(path)
    origin = document.origins.get(_field(location), _field(location))
    if key is None:
        expected = "a table" if path in SECTIONS else "something else"
        if path in ("certificate", "route"):
            expected = f"[[{path}]] tables"
        expected = _ROUTE_EXPECTS.get(path, expected)
        reason = f" ({error['ctx']['error']})" if error["type"] == "value_error" else ""
        return SettingsProblem(origin, f"expected {expected}{reason}")
    if error["type"] == "missing":
        return SettingsProblem(origin, f"is missing: give {key.expects}")
    reason = f" ({error['ctx']['error']})" if error["type"] == "value_error" else ""
    return SettingsProblem(origin, f"{_shown(error['input'])}{reason}: expected {key.expects}")


def _is_inner(part: object) -> bool:
    """Pydantic names the branch of a union too; no setting is named like one."""
    return isinstance(part, str) and ("[" in part or part in ("str", "none", "path"))


def _field(location: str) -> str:
    """Without the number of an element of a list."""
    parts = location.split(".")
    return location if parts[0] in ("certificate", "route") else ".".join(parts[:2])


def _unknown(location: str) -> str:
    parts = [part for part in location.split(".") if not part.isdecimal()]
    if len(parts) == 1:
        return _suggestion(parts[0], SECTIONS)
    # The right name in the wrong table is as likely as a misspelt one in the right table.
    elsewhere = [path for path in _KEYS if path.endswith(f".{parts[-1]}")]
    section = [path for path in _KEYS if path.startswith(f"{parts[0]}.")]
    return _suggestion(".".join(parts), elsewhere or section)


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
