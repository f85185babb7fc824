"""WebSocket over ``--app asgi:…``, by each library that uvicorn may use, with the client of the
``websockets`` package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.certificates import Certificate
from tests.integration.conftest import notes
from tests.server import Server, running
from tests.waiting import eventually

SLOW = 20.0
LIBRARIES = ("auto", "websockets", "wsproto")


@pytest.fixture(scope="module", params=LIBRARIES)
def served(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    certificate: Certificate,
) -> Iterator[Server]:
    """The application with one of the libraries; `auto` is websockets-sansio.

    Without tickets: the client reads on one thread and writes on another, which Python's ssl does
    not order before 3.13, and a ticket that comes with the first write is more than a read. It
    hangs so against uvicorn with TLS too.
    """
    folder = tmp_path_factory.mktemp(request.param)
    with running(
        folder,
        certificate=certificate,
        workers=1,
        arguments=[
            *("--app", "asgi:tests.applications.fastapi_app:app"),
            *("--websocket", request.param, "--tickets-per-connection", "0"),
        ],
        environment={"NOTES_OF_FASTAPI_APP": str(folder / "notes.txt")},
    ) as server:
        yield server


def dial(
    server: Server,
    certificate: Certificate,
    path: str,
    *,
    subprotocols: list[Subprotocol] | None = None,
    max_queue: int | None = 16,
) -> ClientConnection:
    return connect(
        f"wss://localhost:{server.port}{path}",
        ssl=certificate.trust(),
        max_size=2**24,
        max_queue=max_queue,
        open_timeout=SLOW,
        close_timeout=SLOW,
        compression=None if path == "/flood" else "deflate",
        subprotocols=subprotocols,
    )


@pytest.mark.parametrize(
    "message",
    ["", "héllo", b"\0\xff", os.urandom(1024 * 1024), "x" * 1024 * 1024],
    ids=["empty", "text", "bytes", "1 MiB of bytes", "1 MiB of text"],
)
def test_a_message_comes_back(
    served: Server, certificate: Certificate, message: str | bytes
) -> None:
    with dial(served, certificate, "/echo") as socket:
        for _ in range(2):
            socket.send(message)
            assert socket.recv(SLOW) == message


def test_fragments_are_one_message(served: Server, certificate: Certificate) -> None:
    with dial(served, certificate, "/echo") as socket:
        socket.send(["one, ", "", "two, ", "x" * 100_000])
        assert socket.recv(SLOW) == "one, two, " + "x" * 100_000


def test_many_messages_keep_their_order(served: Server, certificate: Certificate) -> None:
    with dial(served, certificate, "/echo", max_queue=None) as socket:
        for number in range(500):
            socket.send(str(number))
        assert [socket.recv(SLOW) for _ in range(500)] == [str(n) for n in range(500)]


def test_pings_are_answered(served: Server, certificate: Certificate) -> None:
    with dial(served, certificate, "/echo") as socket:
        assert socket.ping(b"payload").wait(SLOW)


def test_the_client_closes_with_a_code(served: Server, certificate: Certificate) -> None:
    with dial(served, certificate, "/echo") as socket:
        socket.close(4321, "enough")
        assert socket.close_code == 4321
    eventually(lambda: "disconnected 4321" in notes(served), within=SLOW, what="the code")


def test_the_application_closes_with_a_code(served: Server, certificate: Certificate) -> None:
    with dial(served, certificate, "/scope") as socket:
        scope = json.loads(socket.recv(SLOW))
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(SLOW)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "that is all")
    assert (scope["scheme"], scope["path"]) == ("wss", "/scope")
    assert scope["extensions"]["tls"]["tls_version"] == 0x0304
    assert scope["extensions"]["shardtls"]["resumed"] is False


def test_it_may_refuse(served: Server, certificate: Certificate) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(served, certificate, "/refuse")
    assert refused.value.response.status_code == 403


def test_a_subprotocol_is_agreed_on(served: Server, certificate: Certificate) -> None:
    offered = [Subprotocol("chat"), Subprotocol("other")]
    with dial(served, certificate, "/echo", subprotocols=offered) as socket:
        assert socket.subprotocol == "chat"


def test_a_slow_client_holds_the_application_back(served: Server, certificate: Certificate) -> None:
    url = f"https://localhost:{served.port}/sent"
    with (
        dial(served, certificate, "/flood", max_queue=1) as socket,
        httpx.Client(verify=certificate.trust(), timeout=SLOW) as other,
    ):
        before = -1

        def stands_still() -> bool:
            nonlocal before
            last, before = before, int(other.get(url).text)
            return 0 < last == before

        eventually(stands_still, within=SLOW, what="the application is held back", every=0.1)
        assert before < 200
        assert sum(len(message) for message in socket) == 256 * 65536
