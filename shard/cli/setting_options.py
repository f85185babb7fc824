"""Options of the command that are settings, made from the schema.

Their values are left as they were typed: validation is the schema's, so that all errors of flags,
variables and file come together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from shard.settings.schema import keys
from shard.settings.sources import variable

__all__ = ["flags_given", "setting_options"]

F = TypeVar("F", bound=Callable[..., Any])

_REPEATABLE: Final = frozenset(
    {
        "server.bind",
        "certificate.cert",
        "certificate.key",
        "certificate.password_file",
        "certificate.ocsp",
        "tls.crl",
    }
)
_SWITCHES: Final = frozenset({"tls.self_signed", "ticket_keys.single_use", "asgi.access_log"})


def setting_options(*sections: str, also: tuple[str, ...] = ()) -> Callable[[F], F]:
    """An option for every setting of `sections`, and for the paths in `also`."""

    def decorate(function: F) -> F:
        decorated = function
        for path, key, _ in reversed(list(keys())):
            if path.partition(".")[0] not in sections and path not in also:
                continue
            switch = path in _SWITCHES
            decorated = click.option(
                key.flag,
                _parameter(path),
                is_flag=switch,
                # None tells "not given" from any value.
                default=None,
                multiple=path in _REPEATABLE,
                metavar=None if switch else key.metavar,
                help=f"{key.help}  [{path}, {variable(path)}]",
            )(decorated)
        return decorated

    return decorate


def flags_given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What was given on the command line, under the paths of the settings."""
    found = {}
    for path, _, _ in keys():
        value = parameters.get(_parameter(path))
        if value is not None and value != ():
            found[path] = value
    return found


def _parameter(path: str) -> str:
    return path.replace(".", "__")
