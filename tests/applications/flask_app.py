"""A Flask application."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

__all__ = ["app"]

app = Flask(__name__)
together = threading.Barrier(3)


@app.get("/environ")
def environ() -> dict[str, Any]:
    scope = request.environ["asgi.scope"]
    return {
        "url": request.url,
        "scheme": request.environ["wsgi.url_scheme"],
        "remote": request.remote_addr,
        "tls": scope["extensions"]["tls"],
    }


@app.post("/digest")
def digest() -> dict[str, Any]:
    found = hashlib.sha256()
    size = 0
    while chunk := request.stream.read(65536):
        found.update(chunk)
        size += len(chunk)
    return {"sha256": found.hexdigest(), "size": size}


@app.get("/stream/<int:chunks>")
def stream(chunks: int) -> Response:
    def parts() -> Iterator[bytes]:
        for number in range(chunks):
            yield bytes([number % 256]) * 65536

    return Response(parts(), mimetype="application/octet-stream")


@app.get("/together")
def meet() -> str:
    """Answers once three requests are here: they run at the same time."""
    together.wait(10)
    return threading.current_thread().name
