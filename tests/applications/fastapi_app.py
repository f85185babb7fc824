"""A FastAPI application: HTTP, streaming both ways, WebSocket, lifespan."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

__all__ = ["app"]

NOTES = "NOTES_OF_FASTAPI_APP"
"""Variable with a file to which the application writes down what happens to it."""
CHUNK = os.urandom(64 * 1024)


def note(line: str) -> None:
    if NOTES in os.environ:
        with Path(os.environ[NOTES]).open("a") as file:
            file.write(f"{line}\n")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    note("startup")
    if os.environ.get("FAIL") == "startup":
        raise RuntimeError("the database is not there")
    yield {"pool": "a pool of connections"}
    note("shutdown")


app = FastAPI(lifespan=lifespan)
sent = 0


@app.get("/scope")
async def scope(request: Request) -> dict[str, Any]:
    names = ("http_version", "scheme", "root_path", "path", "server", "client", "extensions")
    shown = {name: request.scope[name] for name in names}
    return {**shown, "state": request.state.pool, "url": str(request.url), "pid": os.getpid()}


@app.get("/items/{number}")
def item(number: int, q: str = "") -> dict[str, Any]:
    """Not a coroutine: FastAPI runs it on a thread."""
    return {"number": number, "q": q}


@app.post("/digest")
async def digest(request: Request) -> dict[str, Any]:
    """Reads the body as it comes."""
    found, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        found.update(chunk)
        size += len(chunk)
    return {"sha256": found.hexdigest(), "size": size}


@app.post("/slow-reader")
async def slow_reader(request: Request) -> dict[str, int]:
    """Takes the first part, and the others only once it is told to."""
    stream = request.stream()
    size = len(await anext(stream))
    await asyncio.wait_for(go.wait(), 10)
    async for chunk in stream:
        size += len(chunk)
    return {"size": size}


go = asyncio.Event()


@app.get("/go")
async def tell_go() -> None:
    go.set()


@app.get("/stream/{chunks}")
async def stream(chunks: int) -> StreamingResponse:
    """So many chunks of 64 KiB; /sent tells how many were taken."""

    async def parts() -> AsyncIterator[bytes]:
        global sent  # noqa: PLW0603 - of one worker
        sent = 0
        for _ in range(chunks):
            yield CHUNK
            sent += 1

    return StreamingResponse(parts(), media_type="application/octet-stream")


@app.get("/sent")
async def chunks_sent() -> int:
    return sent


async def relay(_scope: Any, receive: Any, send: Any) -> None:
    """Each part back as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        part = await receive()
        more = part.get("more_body", False)
        await send({"type": "http.response.body", "body": part["body"], "more_body": more})


app.mount("/relay", relay)


@app.get("/wait")
async def wait(request: Request, tasks: BackgroundTasks) -> str:
    """So many seconds, or until the client is gone."""
    note("waiting")
    tasks.add_task(after)
    watch = asyncio.ensure_future(gone(request))
    await asyncio.wait({watch}, timeout=float(request.query_params.get("seconds", "10")))
    note("client gone" if watch.done() else "went on")
    watch.cancel()
    return "waited"


async def gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def after() -> None:
    note("after the answer")


@app.get("/raise")
async def fail() -> None:
    raise ZeroDivisionError("on purpose")


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept(subprotocol=(socket.scope["subprotocols"] or [None])[0])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                note(f"disconnected {message['code']}")
                return
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        note("disconnected")


@app.websocket("/scope")
async def socket_scope(socket: WebSocket) -> None:
    await socket.accept()
    names = ("scheme", "path", "extensions")
    await socket.send_json({name: socket.scope[name] for name in names})
    await socket.close(4000, "that is all")


@app.websocket("/refuse")
async def refuse(socket: WebSocket) -> None:
    await socket.close(1008)


@app.websocket("/flood")
async def flood(socket: WebSocket) -> None:
    """More than any buffer holds; /sent tells how far it came."""
    global sent  # noqa: PLW0603 - of one worker
    await socket.accept()
    sent = 0
    for _ in range(256):
        await socket.send_bytes(CHUNK)
        sent += 1
    await socket.close()
