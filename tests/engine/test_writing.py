"""Writing from any thread, backlogs, backpressure, over real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

from shard.errors import IdleTimeoutError
from tests.certificates import Certificate
from tests.engine.reading import TIMEOUT, Recorder, connect, exactly, serving
from tests.waiting import eventually

SMALL = 8192
"""Socket buffers in bytes that make a backlog soon."""


def test_a_thousand_small_writes_from_another_thread_arrive_in_order(
    engine_certificate: Certificate,
) -> None:
    with (
        serving(engine_certificate, sndbuf=SMALL) as served,
        connect(served.address, engine_certificate, rcvbuf=SMALL) as client,
    ):
        connection = served.handler().connection

        def write() -> None:
            for number in range(1000):
                connection.write(b"%08d" % number)

        thread = threading.Thread(target=write)
        thread.start()
        received = exactly(client, 8000)
        thread.join()
        assert received == b"".join(b"%08d" % number for number in range(1000))


def test_writes_of_several_threads_stay_whole_and_each_in_order(
    engine_certificate: Certificate,
) -> None:
    threads, writes = 4, 300
    with (
        serving(engine_certificate, sndbuf=SMALL) as served,
        connect(served.address, engine_certificate, rcvbuf=SMALL) as client,
    ):
        connection = served.handler().connection

        def write(name: int) -> None:
            for number in range(writes):
                connection.write(b"%02d:%05d;" % (name, number) * 20)

        workers = [threading.Thread(target=write, args=[name]) for name in range(threads)]
        for worker in workers:
            worker.start()
        received = exactly(client, threads * writes * 20 * 9)
        for worker in workers:
            worker.join()
        runs = [received[at : at + 180] for at in range(0, len(received), 180)]
        seen: dict[bytes, list[bytes]] = {}
        for run in runs:
            assert run == run[:9] * 20
            seen.setdefault(run[:2], []).append(run[3:8])
        assert len(seen) == threads
        assert all(
            numbers == [b"%05d" % number for number in range(writes)] for numbers in seen.values()
        )


def test_writing_pauses_at_the_high_mark_and_resumes_at_the_low_one(
    engine_certificate: Certificate,
) -> None:
    total = 3_000_000
    sizes: list[int] = []

    def fill(recorder: Recorder) -> None:
        """Write until told to pause, as a handler should."""
        connection = recorder.connection
        while len(sizes) * 10_000 < total and recorder.events[-1] != "pause":
            connection.write(bytes(10_000))
            sizes.append(connection.get_write_buffer_size())

    def prepare(recorder: Recorder) -> None:
        recorder.on_made = fill
        recorder.on_resume = fill

    with serving(engine_certificate, prepare=prepare, sndbuf=SMALL) as served:
        with connect(served.address, engine_certificate, rcvbuf=SMALL) as client:
            recorder = served.handler()
            eventually(lambda: "pause" in recorder.events, within=TIMEOUT, what="a pause")
            assert len(exactly(client, total)) == total
        pauses = recorder.events.count("pause")
        resumes = recorder.events.count("resume")
    assert pauses >= 5
    assert resumes == pauses
    assert max(sizes) < 64 * 1024 + 2 * 10_500
    assert recorder.threads == {served.reader.thread.ident}


def test_another_threads_writes_are_told_to_pause_too(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, sndbuf=SMALL) as served,
        connect(served.address, engine_certificate, rcvbuf=SMALL) as client,
    ):
        recorder = served.handler()
        recorder.connection.write(bytes(1_000_000))
        eventually(lambda: "pause" in recorder.events, within=TIMEOUT, what="a pause")
        assert "resume" not in recorder.events
        exactly(client, 1_000_000)
        eventually(lambda: "resume" in recorder.events, within=TIMEOUT, what="going on")


def test_marks_can_be_set(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, sndbuf=SMALL) as served,
        connect(served.address, engine_certificate, rcvbuf=SMALL) as client,
    ):
        recorder = served.handler()
        connection = recorder.connection
        connection.set_write_buffer_limits(high=10_000_000)
        assert connection.get_write_buffer_limits() == (2_500_000, 10_000_000)
        connection.write(bytes(5_000_000))
        assert connection.get_write_buffer_size() > 1_000_000
        connection.set_write_buffer_limits(high=0)
        eventually(lambda: "pause" in recorder.events, within=TIMEOUT, what="a pause")
        exactly(client, 5_000_000)
        eventually(lambda: "resume" in recorder.events, within=TIMEOUT, what="going on")
        with pytest.raises(ValueError, match="high"):
            connection.set_write_buffer_limits(high=1, low=2)


def test_a_client_that_reads_nothing_is_given_up(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate, sndbuf=SMALL, idle_timeout=0.4) as served,
        connect(served.address, engine_certificate, rcvbuf=SMALL),
    ):
        recorder = served.handler()
        started = time.monotonic()
        recorder.connection.write(bytes(1_000_000))
        eventually(lambda: recorder.lost, within=TIMEOUT, what="the end")
        assert isinstance(recorder.lost[0], IdleTimeoutError)
        assert 0.35 < time.monotonic() - started < 2.0


def test_a_client_that_reads_slowly_is_not(engine_certificate: Certificate) -> None:
    total = 400_000
    with (
        serving(engine_certificate, sndbuf=SMALL, idle_timeout=0.6) as served,
        connect(served.address, engine_certificate, rcvbuf=SMALL) as client,
    ):
        recorder = served.handler()
        recorder.connection.write(bytes(total))
        started = time.monotonic()
        received = 0
        while received < total:
            received += len(exactly(client, min(20_000, total - received)))
            threading.Event().wait(0.08)
        assert time.monotonic() - started > 1.2
        assert recorder.lost == []


def test_a_slow_client_holds_up_nobody_else(engine_certificate: Certificate) -> None:
    def prepare(recorder: Recorder) -> None:
        recorder.on_data = lambda it, data: it.connection.write(data)

    with serving(engine_certificate, prepare=prepare, sndbuf=SMALL) as served:
        slow = connect(served.address, engine_certificate, rcvbuf=SMALL)
        served.handler().connection.write(bytes(5_000_000))
        for _ in range(20):
            with connect(served.address, engine_certificate) as client:
                client.sendall(b"quick")
                assert exactly(client, 5) == b"quick"
        slow.close()


def test_a_close_with_a_backlog_ends_although_the_client_was_done_long_before(
    engine_certificate: Certificate,
) -> None:
    """The client's end comes before the last flush, so that no event follows it."""
    size = 500_000

    def prepare(recorder: Recorder) -> None:
        recorder.keep_open = True

    with serving(engine_certificate, prepare=prepare, sndbuf=SMALL) as served:
        with connect(served.address, engine_certificate, rcvbuf=SMALL) as client:
            recorder = served.handler()
            recorder.connection.write(bytes(size))
            client.setblocking(False)
            with pytest.raises(ssl.SSLError):
                client.unwrap()  # sends close_notify; what it makes of our data is its affair
            with socket.socket(fileno=socket.dup(client.fileno())) as plain:
                plain.shutdown(socket.SHUT_WR)
                eventually(lambda: "eof" in recorder.events, within=TIMEOUT, what="its end")
                recorder.connection.close()
                plain.settimeout(TIMEOUT)
                received = 0
                while chunk := plain.recv(65536):
                    received += len(chunk)
            assert received > size - 20_000  # OpenSSL took a record of it
        eventually(lambda: recorder.lost, within=1.0, what="the end")
        assert recorder.lost == [None]


def test_what_is_not_bytes_is_refused(engine_certificate: Certificate) -> None:
    with (
        serving(engine_certificate) as served,
        connect(served.address, engine_certificate) as client,
    ):
        connection = served.handler().connection
        with pytest.raises(TypeError):
            connection.write("text")  # type: ignore[arg-type]
        connection.write(memoryview(b"a"))
        connection.write(bytearray(b"b"))
        connection.writelines([b"c", bytearray(b"d")])
        assert exactly(client, 4) == b"abcd"
