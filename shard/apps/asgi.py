"""``asgi:module:attr``: HTTP and WebSocket by uvicorn's own protocol classes on decrypted bytes.

uvicorn's ``Config`` chooses the classes and wraps the application as uvicorn's ``Server`` has it
done; the server itself, its loop, its sockets and its signals are not used. What is used of uvicorn
is listed in ``tests/unit/shard/test_uvicorn.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, cast

from coordinator.errors import StartError
from coordinator.log import lend
from shard.apps.looped import LoopApplication
from shard.apps.tls_extension import extensions
from shard.worker_settings import AsgiSettings

if TYPE_CHECKING:
    from shard.apps import Handler
    from shard.connection import Connection

__all__ = ["Asgi"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_CONNECTION: Final = "shardtls.connection"
_LAST_TASKS: Final = 0.05


class Asgi(LoopApplication):
    """One application of one worker, which has one reader for it."""

    def __init__(self, name: str, application: Any, settings: AsgiSettings) -> None:
        """
        :param name: as the user gave it, for errors.
        :raises StartError: uvicorn or a library that it needs is missing, or refuses.
        """
        try:
            from uvicorn.config import Config
            from uvicorn.server import ServerState
        except ImportError as error:
            raise StartError(
                f"app {name!r} needs uvicorn ({error}): pip install 'shardtls[asgi]'"
            ) from error
        self._name = name
        _lend_logs(access_log=settings.access_log)
        # Given by name only if it is wanted: older versions of uvicorn know nothing of it.
        http2: dict[str, Any] = {"http": "zttp", "http2": True} if settings.http2 else {}
        extra = "http2" if settings.http2 else "asgi"
        try:
            self._config = Config(
                application,
                **{"http": "httptools"} | http2,
                ws=settings.websocket,
                lifespan=cast(Any, settings.lifespan),
                log_config=None,
                access_log=settings.access_log,
                proxy_headers=bool(settings.forwarded_allow_ips),
                forwarded_allow_ips=list(settings.forwarded_allow_ips),
                root_path=settings.root_path,
                timeout_keep_alive=cast(int, settings.keep_alive),
            )
            self._config.load()
        except (Exception, SystemExit) as error:
            raise StartError(
                f"app {name!r}: uvicorn cannot serve it ({type(error).__name__}: {error}): "
                f"pip install 'shardtls[{extra}]'"
            ) from error
        self._front = _Front(self._config.loaded_app)
        self._config.loaded_app = self._front
        self._state = ServerState()
        self._lifespan: Any = None

    async def startup(self) -> None:
        self._set_date()
        self._lifespan = self._config.lifespan_class(self._config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            reason = self._front.failure or "its lifespan raised; the log has the traceback"
            raise StartError(f"app {self._name!r}: startup failed: {reason}")

    def handler(self, connection: Connection) -> Handler:
        protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config,
            server_state=self._state,
            app_state=_State(self._lifespan.state, connection),
        )
        return cast("Handler", protocol)

    def drain(self, handler: Handler) -> None:
        # An idle connection is closed; a busy one's answer says "Connection: close"; a WebSocket
        # is closed with 1012, service restart.
        cast(Any, handler).shutdown()

    async def shutdown(self) -> None:
        while self._state.tasks:
            # What an application does after its answer, such as Starlette's background tasks.
            await asyncio.wait(self._state.tasks, timeout=_LAST_TASKS)
        await self._lifespan.shutdown()

    def _set_date(self) -> None:
        date = [(b"date", formatdate(usegmt=True).encode())]
        self._state.default_headers = date + self._config.encoded_headers
        asyncio.get_running_loop().call_later(1.0, self._set_date)


class _State(dict[str, Any]):
    """The lifespan's state, of which uvicorn puts a copy into each scope. A copy also names the
    connection that the scope belongs to, which :class:`_Front` takes out again.
    """

    __slots__ = ("_connection", "_extensions", "_shared")

    def __init__(self, shared: dict[str, Any], connection: Connection) -> None:
        super().__init__()
        self._shared = shared
        self._connection = connection
        self._extensions: dict[str, Any] | None = None

    def copy(self) -> dict[str, Any]:
        copied = self._shared.copy()
        copied[_CONNECTION] = self
        return copied

    def extensions(self) -> dict[str, Any]:
        """What each scope of this connection is told."""
        if self._extensions is None:
            info = self._connection.get_extra_info
            self._extensions = extensions(info("tls"), info("peercert_der"))
        return self._extensions


class _Front:
    """The outermost application: adds the connection's facts to each scope, and keeps why a
    startup failed, which uvicorn only logs.
    """

    def __init__(self, application: Any) -> None:
        self._application: Application = application
        self.failure = ""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._run_lifespan(scope, receive, send)
        facts = scope["state"].pop(_CONNECTION).extensions()
        known = scope.get("extensions")
        scope["extensions"] = {**known, **facts} if known else facts.copy()
        return self._application(scope, receive, send)

    async def _run_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed":
                lines = message.get("message", "").strip().splitlines()
                self.failure = lines[-1] if lines else "the application gives no reason"
            await send(message)

        await self._application(scope, receive, watch)


def _lend_logs(*, access_log: bool) -> None:
    """uvicorn's lines go where ours go; of its own events, those that somebody should look at."""
    uvicorn = logging.getLogger("uvicorn")
    lend(uvicorn)
    debug = uvicorn.getEffectiveLevel() <= logging.DEBUG
    logging.getLogger("uvicorn.error").setLevel(logging.DEBUG if debug else logging.WARNING)
    if access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
