"""The application of :mod:`tests.bench.asgi`: 16 bytes, whatever is asked."""

from __future__ import annotations

from typing import Any

__all__ = ["app"]

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"16")],
}
_BODY = {"type": "http.response.body", "body": b"0123456789abcdef"}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send(_HEAD)
        await send(_BODY)
    else:
        raise ValueError("no lifespan here")
