"""How applications are found, and the built-in ones against a transport that only remembers."""

from __future__ import annotations

import http.client
import io
import json
from pathlib import Path
from typing import Any, cast

import pytest

from coordinator.errors import StartError
from shard.apps import load
from shard.apps.echo import Echo
from shard.apps.hello import MAX_BODY, MAX_BYTES, MAX_HEAD, MAX_PIPELINED, Hello
from shard.connection import Connection, TlsInfo
from shard.worker_settings import AsgiSettings

TLS = TlsInfo(
    version="TLSv1.3",
    cipher="TLS_AES_128_GCM_SHA256",
    group="x25519",
    resumed=True,
    resumption="cache",
    server_name="<b>&\"'",
    alpn=None,
    worker="w-0.1",
)


class Transport:
    """What a handler did to it.

    :ivar room: bytes until it asks its handler to pause.
    """

    def __init__(self, handler: Any, room: int = 1 << 60) -> None:
        self.handler = handler
        self.room = room
        self.written: list[bytes] = []
        self.reading = True
        self.closed = False
        self.peername: tuple[Any, ...] = ("127.0.0.1", 4711)
        self.chain: tuple[bytes, ...] = ()
        handler.connection_made(cast("Connection", self))

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)
        self.room -= len(data)
        if self.room <= 0:
            self.handler.pause_writing()

    def drained(self, room: int) -> None:
        """The client has read everything."""
        self.room = room
        self.handler.resume_writing()

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return {"tls": TLS, "peername": self.peername, "peercert_der": self.chain}[name]


class _Answers:
    """Bytes as the socket that http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)
        self.file.close = lambda: None  # type: ignore[method-assign]

    def makefile(self, *_: object) -> Any:
        return self.file


def answers(transport: Transport, *methods: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Everything written, as one answer for each method, and nothing left over."""
    source = _Answers(b"".join(transport.written))
    found = []
    for method in methods:
        response = http.client.HTTPResponse(cast("Any", source), method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        found.append((response.status, headers, response.read()))
    assert source.file.read() == b""
    return found


def asked(*requests: str, body: bytes = b"") -> Transport:
    """A transport after these request heads came in one piece."""
    transport = Transport(Hello())
    data = "".join(f"{request}\r\nHost: h\r\n\r\n" for request in requests).encode()
    transport.handler.data_received(data + body)
    return transport


# -- Finding them -------------------------------------------------------------------------------


def test_built_in_ones() -> None:
    assert load("hello", AsgiSettings()) is Hello
    assert load("echo", AsgiSettings()) is Echo


def test_a_module_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_app_of_test_apps.py").write_text("class Space:\n    make = dict\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cast("Any", load("my_app_of_test_apps:Space.make", AsgiSettings())) is dict


@pytest.mark.parametrize(
    ("app", "says"),
    [
        ("nonsense", "hello, echo, asgi:module:attr"),
        (":x", "hello, echo, asgi:module:attr"),
        ("json:", "hello, echo, asgi:module:attr"),
        ("no_such_module_here:x", "there is no module no_such_module_here"),
        ("json:no_such", "module json has no no_such"),
        ("json:__name__", "not callable"),
    ],
)
def test_a_wrong_name_says_what_to_do(app: str, says: str) -> None:
    with pytest.raises(StartError, match=says) as caught:
        load(app, AsgiSettings())
    assert "\n" not in str(caught.value)
    assert repr(app) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [("import no_such_dependency", "no_such_dependency"), ("1/0", "ZeroDivisionError")],
)
def test_a_module_that_does_not_import_says_why(
    source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_app_of_test_apps.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(StartError, match=says):
        load("broken_app_of_test_apps:x", AsgiSettings())


# -- echo -----------------------------------------------------------------------------------------


def test_echo_sends_back_and_lets_backpressure_through() -> None:
    transport = Transport(Echo(), room=5)
    transport.handler.data_received(b"12345")
    assert transport.written == [b"12345"]
    paused = transport.reading
    transport.drained(10)
    assert (paused, transport.reading) == (False, True)
    assert not transport.handler.eof_received()


# -- hello ----------------------------------------------------------------------------------------


def test_json_has_the_names_tools_rely_on() -> None:
    ((status, headers, body),) = answers(asked("GET /json HTTP/1.1"), "GET")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "worker": "w-0.1",
        "version": "TLSv1.3",
        "cipher": "TLS_AES_128_GCM_SHA256",
        "group": "x25519",
        "resumed": True,
        "resumption": "cache",
        "sni": "<b>&\"'",
        "alpn": None,
        "client": None,
        "peer": "127.0.0.1:4711",
    }


def test_an_ipv6_peer_is_in_brackets() -> None:
    transport = Transport(Hello())
    transport.peername = ("::1", 4711)
    transport.handler.data_received(b"GET /json HTTP/1.1\r\nHost: h\r\n\r\n")
    assert json.loads(answers(transport, "GET")[0][2])["peer"] == "[::1]:4711"


def test_the_page_escapes_what_the_client_chose() -> None:
    body = answers(asked("GET / HTTP/1.1"), "GET")[0][2].decode()
    assert "<b>" not in body
    assert "&lt;b&gt;&amp;&quot;&#x27;" in body


@pytest.mark.parametrize("count", [0, 1, 16, 65536, 65537, 200_000])
def test_bytes(count: int) -> None:
    ((status, headers, body),) = answers(asked(f"GET /bytes/{count} HTTP/1.1"), "GET")
    assert (status, headers["content-length"], len(body)) == (200, str(count), count)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/bytes/-1", 400),
        ("/bytes/", 400),
        ("/bytes/x", 400),
        ("/bytes/9999999999999999999999", 400),
        (f"/bytes/{MAX_BYTES + 1}", 400),
        ("/nothing", 404),
        ("/json/", 404),
        ("/json?x=1", 200),
    ],
)
def test_targets(target: str, status: int) -> None:
    transport = asked(f"GET {target} HTTP/1.1")
    assert answers(transport, "GET")[0][0] == status
    assert not transport.closed


def test_head_is_get_without_the_body() -> None:
    transport = asked("HEAD /bytes/100000 HTTP/1.1", "HEAD /json HTTP/1.1", "GET /json HTTP/1.1")
    first, second, third = answers(transport, "HEAD", "HEAD", "GET")
    assert first[1]["content-length"] == "100000"
    assert first[2] == second[2] == b""
    assert second[1] == third[1]


def test_another_method_is_405_and_the_connection_stays() -> None:
    transport = Transport(Hello())
    transport.handler.data_received(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /json HTTP/1.1\r\n\r\n"
    )
    first, second = answers(transport, "POST", "GET")
    assert (first[0], first[1]["allow"], second[0]) == (405, "GET, HEAD", 200)
    assert not transport.closed


@pytest.mark.parametrize(
    ("request_line", "closes"),
    [
        ("GET /json HTTP/1.1", False),
        ("GET /json HTTP/1.1\r\nConnection: close", True),
        ("GET /json HTTP/1.0", True),
        ("GET /json HTTP/1.0\r\nConnection: keep-alive", False),
    ],
)
def test_keep_alive(request_line: str, closes: bool) -> None:
    transport = asked(request_line)
    assert transport.closed is closes
    (answer,) = answers(transport, "GET")
    assert (answer[1].get("connection") == "close") is closes


def test_pipelined_requests_are_answered_in_order_in_one_write() -> None:
    transport = asked(*[f"GET /bytes/{count} HTTP/1.1" for count in range(20)])
    assert len(transport.written) == 1
    assert [len(body) for _, _, body in answers(transport, *["GET"] * 20)] == list(range(20))


def test_a_request_may_come_a_byte_at_a_time() -> None:
    transport = Transport(Hello())
    for byte in b"GET /json HTTP/1.1\r\nHost: h\r\n\r\nGET /bytes/3 HTTP/1.1\r\n\r\n":
        transport.handler.data_received(bytes([byte]))
    assert [answer[0] for answer in answers(transport, "GET", "GET")] == [200, 200]


def test_streaming_follows_the_client_and_later_requests_wait() -> None:
    transport = Transport(Hello(), room=100_000)
    transport.handler.data_received(
        b"GET /bytes/1000000 HTTP/1.1\r\n\r\nGET /bytes/5 HTTP/1.1\r\n\r\n"
    )
    turns = 0
    while transport.room <= 0:
        # Two chunks of 64 KiB are what fills this room.
        assert sum(map(len, transport.written)) < 2 * 65536 * (turns + 1) + 200
        turns += 1
        transport.drained(100_000)
    assert turns >= 5
    assert transport.reading
    first, second = answers(transport, "GET", "GET")
    assert (len(first[2]), len(second[2])) == (1_000_000, 5)


def test_reading_is_paused_while_it_streams() -> None:
    transport = Transport(Hello(), room=1)
    transport.handler.data_received(b"GET /bytes/1000000 HTTP/1.1\r\n\r\n")
    assert not transport.reading


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01 not http at all\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 1), 431),
        (
            b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1) + bytes(MAX_BODY + 1),
            413,
        ),
        (b"GET /bytes/0 HTTP/1.1\r\n\r\n" * 2 + b"junk junk\r\n\r\n", 400),
    ],
)
def test_what_is_refused_is_answered_and_closed(data: bytes, status: int) -> None:
    transport = Transport(Hello())
    transport.handler.data_received(data)
    count = data.count(b"GET /bytes/0")
    last = answers(transport, *["GET"] * (count + 1))[-1]
    assert last[0] == status
    assert last[1]["connection"] == "close"
    assert transport.closed
    transport.handler.data_received(b"GET / HTTP/1.1\r\n\r\n")


def test_too_many_requests_ahead_are_refused() -> None:
    transport = Transport(Hello())
    request = b"GET /bytes/1 HTTP/1.1\r\n\r\n"
    transport.handler.data_received(request * (MAX_PIPELINED + 1))
    found = answers(transport, *["GET"] * (MAX_PIPELINED + 1))
    assert [answer[0] for answer in found] == [200] * MAX_PIPELINED + [400]
    assert transport.closed


def test_an_upgrade_is_not_followed() -> None:
    transport = Transport(Hello())
    transport.handler.data_received(
        b"GET /json HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nwhatever"
    )
    (answer,) = answers(transport, "GET")
    assert (answer[0], answer[1]["connection"]) == (200, "close")
    assert transport.closed


def test_half_close_after_a_request_waits_for_the_answer() -> None:
    transport = Transport(Hello(), room=1)
    transport.handler.data_received(b"GET /bytes/100000 HTTP/1.1\r\n\r\n")
    assert transport.handler.eof_received()
    while not transport.closed:
        transport.drained(1)
    assert len(answers(transport, "GET")[0][2]) == 100_000


def test_half_close_without_a_request_ends_it() -> None:
    assert not Transport(Hello()).handler.eof_received()


def test_drain_closes_an_idle_connection_at_once() -> None:
    transport = asked("GET /json HTTP/1.1")
    transport.handler.drain()
    assert transport.closed


@pytest.mark.parametrize("begun", [b"", b"GET /json HT"])
def test_drain_answers_a_request_that_is_on_its_way(begun: bytes) -> None:
    transport = Transport(Hello())
    if begun:
        transport.handler.data_received(begun)
    transport.handler.drain()
    closed_early = transport.closed
    rest = b"GET /json HTTP/1.1\r\nHost: h\r\n\r\n"[len(begun) :]
    transport.handler.data_received(rest)
    (answer,) = answers(transport, "GET")
    assert (answer[0], answer[1]["connection"]) == (200, "close")
    assert (closed_early, transport.closed) == (False, True)


def test_drain_finishes_a_stream() -> None:
    transport = Transport(Hello(), room=1)
    transport.handler.data_received(b"GET /bytes/100000 HTTP/1.1\r\n\r\n")
    transport.handler.drain()
    turns = 0
    while not transport.closed:
        transport.drained(1)
        turns += 1
    assert turns
    assert len(answers(transport, "GET")[0][2]) == 100_000
