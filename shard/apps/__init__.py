"""What an application is, and how one is found.

An application is a factory of handlers: called without arguments once a handshake is complete, it
returns an object for that connection, shaped like :class:`asyncio.Protocol` (which may be its base
class). ``hello`` and ``echo`` are built in; ``module:attr`` names any other. Applications of
another shape live on an event loop (:mod:`shard.apps.looped`): ASGI, WSGI, coroutine functions.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from coordinator.errors import StartError
from shard.connection import Connection
from shard.errors import ConnectionClosedError

if TYPE_CHECKING:
    from shard.apps.looped import LoopApplication
    from shard.worker_settings import AsgiSettings

__all__ = ["Factory", "Handler", "load"]


class Handler(Protocol):
    """One connection's application side.

    Every callback runs on the connection's reader thread, one at a time; while it runs, no other
    connection of that reader is served, so what takes long belongs on a thread of one's own: the
    transport may be written to from any. A callback that raises ends its connection, and the
    traceback is logged.

    A handler may also define ``drain()``: it is called when the worker is about to leave, and
    should close the connection as soon as that suits the protocol. What is still open when
    ``drain_timeout`` has passed is closed.
    """

    def connection_made(self, transport: Connection) -> None:
        """The handshake is complete. The first callback."""

    def data_received(self, data: bytes) -> None:
        """Plaintext came, 1 byte or more."""

    def eof_received(self) -> bool | None:
        """The client sends no more (close_notify).

        :returns: true to keep the sending side open; otherwise the connection is closed.
        """

    def pause_writing(self) -> None:
        """The backlog passed the high water mark: stop writing."""

    def resume_writing(self) -> None:
        """The backlog fell to the low water mark: go on."""

    def connection_lost(self, exc: ConnectionClosedError | None) -> None:
        """The connection is over; the last callback. None after an orderly close by either side."""


Factory = Callable[[], Handler]

_SHAPES: Final = (
    "a class or a function that takes no arguments and returns a handler, or a coroutine function "
    "of a reader and a writer"
)


def load(app: str, settings: AsgiSettings) -> Factory | LoopApplication:
    """The application that `app` names.

    :param app: ``hello``, ``echo``, ``asgi:module:attr``, ``wsgi:module:attr``, or ``module:attr``:
        a factory of handlers or a coroutine function. attr may be dotted; modules are looked for in
        the working directory first.
    :raises StartError: there is no such thing; the text says what to do.
    """
    if app == "hello":
        from shard.apps.hello import Hello

        return Hello
    if app == "echo":
        from shard.apps.echo import Echo

        return Echo
    kind, _, rest = app.partition(":")
    if kind not in ("asgi", "wsgi"):
        kind, rest = "", app
    module_name, colon, attribute = rest.partition(":")
    if not (module_name and colon and attribute):
        raise StartError(
            f"app {app!r} is none of hello, echo, asgi:module:attr, wsgi:module:attr or "
            "module:attr; name one of these"
        )
    found = _attribute(app, _module(app, module_name), attribute)
    if not callable(found):
        raise StartError(
            f"app {app!r}: {attribute} is not callable; it must be "
            + (f"a {kind.upper()} application" if kind else _SHAPES)
        )
    if kind == "asgi":
        from shard.apps.asgi import Asgi

        return Asgi(app, found, settings)
    if kind == "wsgi":
        from shard.apps.wsgi import wsgi

        return wsgi(app, found, settings)
    if inspect.iscoroutinefunction(found):
        from shard.apps.streams import Streams

        return Streams(found)
    return found  # type: ignore[no-any-return]  # a factory by its contract; its first call tells


def _module(app: str, name: str) -> Any:
    working_directory = str(Path.cwd())
    if working_directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, working_directory)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise StartError(
                f"app {app!r}: there is no module {name}; start in the directory that holds it, "
                "or install it"
            ) from error
        raise StartError(
            f"app {app!r}: importing {name} failed: {error}; install what it needs"
        ) from error
    except Exception as error:  # whatever the application's module raises
        raise StartError(
            f"app {app!r}: importing {name} failed: {type(error).__name__}: {error}; "
            f"try: python -c 'import {name}'"
        ) from error


def _attribute(app: str, module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise StartError(
                f"app {app!r}: module {module.__name__} has no {path}; name what is in it"
            ) from None
    return found
