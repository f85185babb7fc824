"""Coroutine functions as applications: the documentation's example as it stands there."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, client_context
from tests.server import Server, running
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs/applications.md"
MARK = "<!-- run by tests/integration/test_streams.py -->"
MORE = '''

async def upper(reader, writer):
    """Answers all of it, once the client has sent all of it."""
    writer.write((await reader.read()).upper())


async def fail(reader, writer):
    raise ZeroDivisionError("on purpose")


async def pour(reader, writer):
    """Writes for as long as the client takes it; tells how much it was."""
    poured = 0
    try:
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            poured += 1
    finally:
        with open("poured.txt", "w") as file:
            file.write(f"{poured}\\n")


async def any_of(reader, writer):
    name = (await reader.readline()).decode().strip()
    await {"upper": upper, "fail": fail, "pour": pour}[name](reader, writer)
'''


def example() -> str:
    """The Python block after the mark."""
    found = re.search(re.escape(MARK) + r"\s*```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found, f"applications.md has no Python block after {MARK}"
    return found.group(1)


def serve(folder: Path, certificate: Certificate, name: str) -> Iterator[Server]:
    (folder / "chat.py").write_text(example() + MORE)
    with running(
        folder / "server",
        certificate=certificate,
        workers=1,
        arguments=["--app", f"chat:{name}", "--drain-timeout", "2"],
        directory=folder,
        environment={"PYTHONPATH": os.pathsep.join([str(folder), str(Path.cwd())])},
    ) as server:
        yield server


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    yield from serve(tmp_path_factory.mktemp("streams"), certificate, "any_of")


def lines(stream: TlsStream) -> IO[bytes]:
    return stream.tls.makefile("rb")


def ended(stream: TlsStream) -> bool:
    """No data comes, but the end does."""
    try:
        return stream.tls.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_example_serves(tmp_path: Path, certificate: Certificate) -> None:
    context = client_context(certificate)
    for server in serve(tmp_path, certificate, "chat"):
        with (
            TlsStream(server.address, context) as one,
            TlsStream(server.address, context) as two,
            lines(one) as from_one,
            lines(two) as from_two,
        ):
            assert from_one.readline() == b"welcome over TLSv1.3\n"
            assert from_two.readline() == b"welcome over TLSv1.3\n"
            one.tls.sendall(b"hello\n")
            assert from_two.readline() == b"hello\n"
            two.tls.sendall(b"and to you\n")
            assert from_one.readline() == b"and to you\n"


def test_an_answer_comes_after_a_half_close(streams: Server, certificate: Certificate) -> None:
    with TlsStream(streams.address, client_context(certificate)) as stream:
        stream.tls.sendall(b"upper\n" + b"x" * 1_000_000)
        # Python's ssl has no half-close but this: close_notify, then whatever still comes.
        stream.tls.settimeout(0)
        with pytest.raises(OSError, match="read"):
            stream.tls.unwrap()
        stream.tls.settimeout(5)
        received = 0
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while chunk := stream.tls.recv(65536):
                assert set(chunk) == {ord("X")}
                received += len(chunk)
    assert received == 1_000_000


def test_what_it_raises_ends_its_connection_alone(
    streams: Server, certificate: Certificate
) -> None:
    context = client_context(certificate)
    with TlsStream(streams.address, context) as other:
        with TlsStream(streams.address, context) as stream:
            stream.tls.sendall(b"fail\n")
            assert ended(stream)
        other.tls.sendall(b"no such\n")
        assert ended(other)
    log = streams.log
    eventually(lambda: log.read_text().count("application raised") == 2, within=5, what="a log")
    # What the fixture's end must not find.
    log.write_text(log.read_text().replace("Traceback", ""))


def test_writing_waits_for_a_slow_client_and_ends_with_it(
    streams: Server, certificate: Certificate
) -> None:
    told = streams.log.parents[1] / "poured.txt"
    stream = TlsStream(streams.address, client_context(certificate))
    stream.tls.sendall(b"pour\n")
    stream.tls.recv(1)
    stream.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.tls.close()
    eventually(lambda: told.read_text() if told.exists() else "", within=5, what="its end")
    assert 0 < int(told.read_text()) < 1000
