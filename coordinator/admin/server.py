"""The admin server's thread: uvicorn on a socket that was bound before.

The main thread makes, starts, stops and closes it; requests are served on the thread ``admin``.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import uvicorn

from coordinator.admin.app import make_app
from coordinator.errors import StartError

__all__ = ["AdminServer"]

START_SECONDS: Final = 5.0
STOP_SECONDS: Final = 1.0
MAX_CONCURRENT: Final = 64


class AdminServer:
    """Serves the pages of :mod:`coordinator.admin.app`.

    :ivar url: ``http://HOST:PORT``, with the port that was chosen for 0.
    """

    def __init__(self, host: str, port: int, status: Callable[[], Future[dict[str, Any]]]) -> None:
        """Bind; requests wait until :meth:`start`.

        :param status: asks for the status object; called on the admin thread.
        :raises StartError: the address cannot be bound.
        """
        self._socket = _bind(host, port)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self._socket.getsockname()[1]}"
        self._server = _Server(
            uvicorn.Config(
                make_app(status),
                lifespan="off",
                ws="none",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=MAX_CONCURRENT,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)

    def start(self) -> None:
        """Start the thread, and wait until it serves.

        :raises StartError: it does not.
        """
        self._thread.start()
        if not self._server.serving.wait(START_SECONDS):
            raise StartError(f"admin.bind: no server came up at {self.url}")

    def stop(self) -> None:
        """Finish the requests in progress, for at most a second, and end the thread."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # ---- admin thread ----

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


class _Server(uvicorn.Server):
    """Says when it serves. Signals are no business of a thread, which uvicorn knows by itself."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            remedy = "stop what listens there, or set another (port 0 chooses a free one)"
            raise StartError(f"admin.bind: {host}:{port} is in use; {remedy}") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise StartError(f"admin.bind: cannot bind {host}:{port}: {reason}") from error
