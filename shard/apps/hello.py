"""``hello``: HTTP/1.1 that shows a connection's TLS facts. The default application.

======================  =====================================================================
``GET /``               the facts as a page for people
``GET /json``           the facts as JSON
``GET /bytes/N``        N bytes, 0 to :data:`MAX_BYTES`, at the pace at which the client reads
======================  =====================================================================

HEAD is answered like GET without the body. Connections are kept alive and requests may be
pipelined (RFC 9112 §9.3); answers come in order. A request's body is read and ignored up to
:data:`MAX_BODY`.
"""

from __future__ import annotations

import html
import json
from collections import deque
from typing import Any, Final, NamedTuple

import httptools

from shard.connection import Connection, TlsInfo
from shard.errors import ConnectionClosedError

__all__ = ["MAX_BODY", "MAX_BYTES", "MAX_HEAD", "Hello", "facts"]

MAX_BYTES: Final = 1024**3
"""Bytes that ``/bytes/N`` gives at most."""
MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body; more is refused with 413."""
MAX_HEAD: Final = 16 * 1024
"""Bytes of a request's line and headers; more is refused with 431."""
MAX_PIPELINED: Final = 128
"""Requests that wait for an earlier answer; more is refused with 400."""

_CHUNK: Final = bytes(64 * 1024)
_DIGITS: Final = 12

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
}


class _Request(NamedTuple):
    method: bytes
    target: bytes
    keep_alive: bool


class _Refused(Exception):  # noqa: N818 - an answer, not an error
    """Raised out of the parser's callbacks: answer with this and close."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


def facts(transport: Connection) -> dict[str, Any]:
    """What ``/json`` shows. Tools rely on these names."""
    tls: TlsInfo = transport.get_extra_info("tls")
    host, port = transport.get_extra_info("peername")[:2]
    return {
        "worker": tls.worker,
        "version": tls.version,
        "cipher": tls.cipher,
        "group": tls.group,
        "resumed": tls.resumed,
        "resumption": tls.resumption,
        "sni": tls.server_name,
        "alpn": tls.alpn,
        "client": _client(transport),
        "peer": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
    }


def _client(transport: Connection) -> str | None:
    chain = transport.get_extra_info("peercert_der")
    if not chain:
        return None
    from shard.peer_certificate import subject

    return subject(chain[0])


class Hello:
    """One connection. httptools calls the ``on_`` methods."""

    __slots__ = (
        "_between",
        "_body",
        "_closing",
        "_draining",
        "_eof",
        "_head",
        "_left",
        "_out",
        "_parser",
        "_paused",
        "_requests",
        "_streamed",
        "_target",
        "_transport",
    )

    _transport: Connection

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._requests: deque[_Request] = deque()
        self._out: list[bytes] = []
        self._target = b""
        self._head = 0
        self._body = 0
        self._left = 0
        self._streamed: _Request | None = None
        self._paused = False
        self._closing = False
        self._draining = False
        self._between = False
        self._eof = False

    # -- Callbacks of the transport -------------------------------------------------------------

    def connection_made(self, transport: Connection) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        # Counted by the chunk, so the bound is a coarse one; each request starts it anew.
        self._head += len(data)
        refused: _Refused | None = None
        try:
            self._parser.feed_data(data)
            if self._head > MAX_HEAD:
                refused = _Refused(431, "the request's headers are too large")
        except httptools.HttpParserUpgrade:
            # RFC 9110 §7.8: a server may ignore Upgrade. What follows is not HTTP for sure, so
            # the answer is the last.
            self._last_answer()
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            refused = cause if isinstance(cause, _Refused) else _Refused(400, "bad request")
        except httptools.HttpParserError:
            refused = _Refused(400, "this is not HTTP/1.1")
        self._answer()
        if refused is not None:
            self._refuse(refused)
        self._send()

    def eof_received(self) -> bool:
        """Stay until every answer is out: a client may half-close after its request."""
        self._eof = True
        return self._streamed is not None or bool(self._requests)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._stream()
        self._answer()
        self._send()

    def drain(self) -> None:
        """Answer what was asked, and close. A client that has not asked yet has just come, and
        its first request is under way: it is answered too.
        """
        self._draining = True
        if self._between and not self._requests and self._streamed is None:
            self._closing = True
            self._transport.close()

    def connection_lost(self, exc: ConnectionClosedError | None) -> None:  # noqa: ARG002
        # The parser holds this object: without this the two would wait for the cycle collector.
        self._parser = None
        self._requests.clear()
        self._streamed = None
        self._closing = True

    # -- Callbacks of the parser ----------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._between = False
        self._target = b""
        self._body = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        # What follows in this chunk is body or the next request.
        self._head = 0

    def on_body(self, body: bytes) -> None:
        self._head = 0
        self._body += len(body)
        if self._body > MAX_BODY:
            raise _Refused(413, f"a request's body is at most {MAX_BODY} bytes")

    def on_message_complete(self) -> None:
        self._head = 0
        self._between = True
        parser = self._parser
        if len(self._requests) >= MAX_PIPELINED:
            raise _Refused(400, f"at most {MAX_PIPELINED} requests may wait for an answer")
        self._requests.append(
            _Request(parser.get_method(), self._target, parser.should_keep_alive())
        )

    # -- Answers --------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Answer what waits, up to one that has to be streamed."""
        requests = self._requests
        while requests and self._streamed is None and not self._closing and not self._paused:
            request = requests.popleft()
            target = request.target.partition(b"?")[0]
            if request.method not in (b"GET", b"HEAD"):
                self._plain(request, 405, "only GET and HEAD are answered", b"Allow: GET, HEAD\r\n")
            elif target == b"/json":
                body = json.dumps(facts(self._transport)).encode()
                self._respond(request, 200, b"application/json", body)
            elif target == b"/":
                self._respond(request, 200, b"text/html; charset=utf-8", _page(self._transport))
            elif target.startswith(b"/bytes/"):
                self._bytes(request, target[len(b"/bytes/") :])
            else:
                self._plain(request, 404, "there are /, /json and /bytes/N")

    def _bytes(self, request: _Request, number: bytes) -> None:
        count = int(number) if number.isdigit() and len(number) <= _DIGITS else -1
        if not 0 <= count <= MAX_BYTES:
            self._plain(request, 400, f"/bytes/N gives 0 to {MAX_BYTES} bytes")
            return
        if count <= len(_CHUNK):
            self._respond(request, 200, b"application/octet-stream", _CHUNK[:count])
            return
        self._out.append(self._head_of(request, 200, b"application/octet-stream", count, b""))
        if request.method == b"HEAD":
            self._after(request)
            return
        self._streamed = request
        self._left = count
        # What the client asks meanwhile can wait in its own socket.
        self._transport.pause_reading()
        self._stream()

    def _stream(self) -> None:
        request = self._streamed
        if request is None:
            return
        write = self._transport.write
        while self._left and not self._paused and not self._transport.is_closing():
            chunk = _CHUNK if self._left >= len(_CHUNK) else _CHUNK[: self._left]
            self._left -= len(chunk)
            if self._out:
                self._out.append(chunk)
                self._send()
            else:
                write(chunk)
        if not self._left:
            self._streamed = None
            self._transport.resume_reading()
            self._after(request)

    def _respond(
        self, request: _Request, status: int, kind: bytes, body: bytes, headers: bytes = b""
    ) -> None:
        self._out.append(self._head_of(request, status, kind, len(body), headers))
        if request.method != b"HEAD":
            self._out.append(body)
        self._after(request)

    def _plain(self, request: _Request, status: int, text: str, headers: bytes = b"") -> None:
        self._respond(request, status, b"text/plain; charset=utf-8", f"{text}\n".encode(), headers)

    def _head_of(
        self, request: _Request, status: int, kind: bytes, length: int, headers: bytes
    ) -> bytes:
        last = not request.keep_alive or self._draining
        return b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s%s\r\n" % (
            status,
            _REASONS[status].encode(),
            kind,
            length,
            headers,
            b"Connection: close\r\n" if last else b"",
        )

    def _after(self, request: _Request) -> None:
        """The answer to `request` is complete."""
        if (
            not request.keep_alive
            or self._draining
            or (self._eof and not self._requests and self._streamed is None)
        ):
            self._closing = True

    def _last_answer(self) -> None:
        if self._requests:
            self._requests[-1] = self._requests[-1]._replace(keep_alive=False)
        else:
            self._closing = True

    def _refuse(self, refused: _Refused) -> None:
        if not self._closing and self._streamed is None:
            self._plain(_Request(b"GET", b"", False), refused.status, refused.text)
        elif not self._closing:
            self._requests.clear()
            self._streamed = self._streamed and self._streamed._replace(keep_alive=False)

    def _send(self) -> None:
        """Everything answered so far in one write, and the close that may follow it."""
        out = self._out
        if out:
            self._out = []
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self._closing and self._streamed is None:
            self._transport.close()


def _page(transport: Connection) -> bytes:
    rows = "\n".join(
        f"<tr><th scope=row>{html.escape(name)}<td>{html.escape(_shown(value))}"
        for name, value in facts(transport).items()
    )
    return _PAGE.replace("{rows}", rows).encode()


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>shardtls: this connection</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .75rem; border-bottom: 1px solid #8884; }
th { font-weight: 500; width: 9rem; }
td { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
</style>
<h1>It works</h1>
<p>This is what the worker that answers knows of your connection. Come back in a moment, on
whatever worker: <em>resumed</em> says whether the session was found.
<table>
{rows}
</table>
<p><a href="/json">The same as JSON</a>
"""
