"""The admin server's pages. Read-only: every request is a GET or HEAD, and nothing changes.

The page is one document with its style and script in it; its policy allows these two by their
hashes and nothing else, and the script writes text, never markup.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from concurrent.futures import Future
from importlib.resources import files
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.admin.metrics import render
from coordinator.broker import BrokerStoppedError
from coordinator.status import not_ready_reason

__all__ = ["make_app"]

STATUS_TIMEOUT: Final = 1.0
"""Seconds to wait for the broker."""

_SILENT: Final = "the broker does not answer"

Snapshot = dict[str, Any]


def make_app(status: Callable[[], Future[Snapshot]]) -> Starlette:
    """
    :param status: asks the broker for the status object; any thread.
    """
    page, policy = _load_page()
    pages = _Pages(page, status)
    app = Starlette(
        routes=[
            Route("/", pages.index),
            Route("/status.json", pages.status_json),
            Route("/metrics", pages.metrics),
            Route("/livez", pages.livez),
            Route("/readyz", pages.readyz),
        ]
    )
    app.add_middleware(_SecurityHeaders, policy=policy)
    return app


class _Pages:
    def __init__(self, page: str, status: Callable[[], Future[Snapshot]]) -> None:
        self._page = page
        self._status = status

    async def index(self, _: Request) -> Response:
        return HTMLResponse(self._page)

    async def status_json(self, _: Request) -> Response:
        status = await self._snapshot()
        if status is None:
            return JSONResponse({"error": _SILENT}, 503)
        return JSONResponse(status)

    async def metrics(self, _: Request) -> Response:
        status = await self._snapshot()
        if status is None:
            return PlainTextResponse(f"{_SILENT}\n", 503)
        return Response(render(status), headers={"content-type": CONTENT_TYPE_LATEST})

    async def livez(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        status = await self._snapshot()
        reason = _SILENT if status is None else not_ready_reason(status)
        if reason is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"not ready: {reason}\n", 503)

    async def _snapshot(self) -> Snapshot | None:
        """The status object; None if the broker does not answer in time."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._status()), STATUS_TIMEOUT)
        except (TimeoutError, BrokerStoppedError):
            return None


def _load_page() -> tuple[str, str]:
    """The page, and the policy that allows exactly what is in it."""
    page = files("coordinator.admin").joinpath("page.html").read_text(encoding="utf-8")
    sources = []
    for tag in ("style", "script"):
        inline = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert inline is not None
        digest = hashlib.sha256(inline[1].encode()).digest()
        sources.append(f"{tag}-src 'sha256-{base64.b64encode(digest).decode()}'")
    policy = "; ".join(
        [
            "default-src 'none'",
            *sources,
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    return page, policy


class _SecurityHeaders:
    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_with_headers)
