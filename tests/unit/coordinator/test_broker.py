"""The broker over real sockets."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import msgpack
import pytest
import zmq

from coordinator.client import ControlClient, dealer
from coordinator.errors import CommandRefusedError, StartError
from coordinator.protocol import (
    MAX_MESSAGE_BYTES,
    VERSION,
    Answer,
    Lookup,
    LookupOp,
    Mark,
    Put,
    Recall,
    Refusal,
    decode_answers,
    encode_sessions,
)
from coordinator.settings import CoordinatorSettings
from tests.unit.coordinator.conftest import StartCoordinator
from tests.waiting import eventually

SCOPE = b"s" * 32
Reader = zmq.Socket[bytes]


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def put(reader: Reader, *numbers: int, size: int = 100) -> None:
    puts = [Put(SCOPE, id_of(number), bytes(size), "a.example") for number in numbers]
    reader.send(encode_sessions("w", puts, []))


def take(reader: Reader, *numbers: int) -> None:
    lookups = [Lookup(n, LookupOp.TAKE, SCOPE, (id_of(n),)) for n in numbers]
    reader.send(encode_sessions("w", [], lookups))


def receive(reader: Reader) -> tuple[Answer, ...] | Mark | Recall | Refusal:
    assert reader.poll(5000), "no answer within 5 s"
    return decode_answers(reader.recv())


def answers(reader: Reader, count: int) -> list[Answer]:
    received: list[Answer] = []
    while len(received) < count:
        batch = receive(reader)
        assert isinstance(batch, tuple | Recall), batch
        if not isinstance(batch, Recall):
            received += batch
    return received


def test_a_session_put_by_one_reader_is_taken_once_by_another(
    start: StartCoordinator, reader: Reader, context: zmq.Context[Reader], control: ControlClient
) -> None:
    coordinator = start(park=30.0)  # the two sockets are in no order
    other = dealer(context, coordinator.sessions_address)
    put(reader, 1)
    take(other, 1)
    assert answers(other, 1) == [Answer(1, id_of(1), bytes(100), None)]
    take(reader, 1)
    assert answers(reader, 1) == [Answer(1, None, None, "used")]
    sessions = control.request("status", {}, 5)["status"]["coordinator"]["sessions"]
    assert (sessions["entries"], sessions["hits"], sessions["misses"]["used"]) == (0, 1, 1)


def test_a_lookup_before_its_put_is_answered_by_it(
    start: StartCoordinator, reader: Reader, context: zmq.Context[Reader], control: ControlClient
) -> None:
    coordinator = start(park=30.0)
    other = dealer(context, coordinator.sessions_address)
    take(other, 1)

    def parked() -> bool:
        status = control.request("status", {}, 5)["status"]
        return bool(status["coordinator"]["sessions"]["parked_now"] == 1)

    eventually(parked, within=5, what="the lookup is parked")
    put(reader, 1)
    assert answers(other, 1) == [Answer(1, id_of(1), bytes(100), None)]


def test_a_lookup_without_a_put_is_unknown_after_its_wait(
    start: StartCoordinator, reader: Reader
) -> None:
    start(park=0.01)
    take(reader, 1)
    assert answers(reader, 1) == [Answer(1, None, None, "unknown")]


def test_answers_that_do_not_fit_into_one_message_come_in_several(
    start: StartCoordinator, reader: Reader
) -> None:
    start()
    size = 60_000
    numbers = range(100)
    for first in range(0, 100, 50):
        put(reader, *numbers[first : first + 50], size=size)
    take(reader, *numbers)
    received = answers(reader, 100)
    assert [answer.token for answer in received] == list(numbers)
    assert all(answer.value == bytes(size) for answer in received)


GARBAGE = [
    b"",
    b"\xc1",
    b"\x00" * 1000,
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 2000,
    msgpack.packb([VERSION]),
    msgpack.packb([VERSION + 1, "sessions", "w", [], []]),
    msgpack.packb([VERSION, "sessions", "w", [], [], 1]),
    msgpack.packb([VERSION, "sessions", "", [], []]),
    msgpack.packb([VERSION, "sessions", "w", [[b"", b"", b"", None]], []]),
    msgpack.packb([VERSION, "sessions", "w", {}, []]),
    msgpack.packb([VERSION, "sessions", "w", [], [[1, 7, SCOPE, [SCOPE]]]]),
    msgpack.packb([VERSION, "sessions", "w", [], [[1, 0, SCOPE, [SCOPE] * 3]]]),
    msgpack.packb([VERSION, "sessions", "w", [], [[2**63, 0, SCOPE, [SCOPE]]]]),
    msgpack.packb([VERSION, "sessions", "w", [], [[1, [], SCOPE, [SCOPE]]]]),
]


@pytest.mark.parametrize("endpoint", ["sessions", "control"])
def test_garbage_gets_an_error_each_and_nothing_else_changes(
    start: StartCoordinator,
    settings: CoordinatorSettings,
    context: zmq.Context[Reader],
    control: ControlClient,
    endpoint: str,
) -> None:
    coordinator = start()
    noise = random.Random(7)
    frames = GARBAGE + [noise.randbytes(noise.randrange(1, 300)) for _ in range(300)]
    address = getattr(coordinator, f"{endpoint}_address")
    sock = dealer(context, address)
    for frame in frames:
        sock.send(frame)
    for frame in frames:
        assert sock.poll(5000), frame
        kind = msgpack.unpackb(sock.recv())
        assert kind[1] == "error"
    status = control.request("status", {}, 5)["status"]["coordinator"]
    assert status["messages"]["errors"].keys() <= {"shape", "type", "version", "size"}
    assert sum(status["messages"]["errors"].values()) == len(frames)
    assert status["messages"]["defects"] == 0
    assert status["sessions"]["entries"] == 0


@pytest.mark.parametrize("endpoint", ["sessions", "control"])
@pytest.mark.parametrize("frames", [[b""], [b"", b"x"], [b"x"] * 500, [b"", b""]])
def test_a_message_of_several_frames_is_refused_as_one(
    start: StartCoordinator,
    context: zmq.Context[Reader],
    control: ControlClient,
    endpoint: str,
    frames: list[bytes],
) -> None:
    coordinator = start()
    sock = dealer(context, getattr(coordinator, f"{endpoint}_address"))
    sock.send_multipart(frames)
    assert sock.poll(5000)
    assert msgpack.unpackb(sock.recv())[1:4] == ["error", None, "shape"]
    control.request("ping", {}, 5)
    assert not sock.poll(0)


def test_an_oversized_message_costs_its_sender_the_connection_only(
    start: StartCoordinator, reader: Reader, context: zmq.Context[Reader], control: ControlClient
) -> None:
    coordinator = start()
    hostile = dealer(context, coordinator.sessions_address)
    hostile.send(bytes(MAX_MESSAGE_BYTES + 1))
    put(reader, 1)
    take(reader, 1)
    assert answers(reader, 1)[0].value is not None
    assert not hostile.poll(0)
    assert control.request("status", {}, 5)["status"]["coordinator"]["messages"]["defects"] == 0


def test_a_peer_that_never_reads_holds_nobody_up(
    start: StartCoordinator, reader: Reader, context: zmq.Context[Reader]
) -> None:
    coordinator = start(park=0.0)
    deaf = dealer(context, coordinator.sessions_address)
    for number in range(5000):
        try:
            take(deaf, number)
        except zmq.Again:
            break
    put(reader, 1)
    take(reader, 1)
    assert answers(reader, 1)[0].value is not None


def test_a_running_reader_finds_a_restarted_coordinator_by_itself(
    start: StartCoordinator, reader: Reader
) -> None:
    first = start()
    put(reader, 1)
    take(reader, 1)
    assert answers(reader, 1)[0].value is not None
    first.stop()
    second = start()
    take(reader, 2)
    assert answers(reader, 1) == [Answer(2, None, None, "unknown")]
    assert second.alive()


def test_boot_is_new_at_every_start(start: StartCoordinator, control: ControlClient) -> None:
    first = start()
    before = control.request("ping", {}, 5)["boot"]
    first.stop()
    start()
    assert control.request("ping", {}, 5)["boot"] != before


def test_a_seed_travels_as_48_bytes(start: StartCoordinator, control: ControlClient) -> None:
    start()
    seeds = {control.request("seed", {"id": "w", "purpose": "x"}, 5)["seed"] for _ in range(5)}
    assert {len(seed) for seed in seeds} == {48}
    assert len(seeds) == 5


def test_without_a_source_a_seed_is_refused(
    start: StartCoordinator, control: ControlClient
) -> None:
    start(entropy_sources=())
    with pytest.raises(CommandRefusedError) as refused:
        control.request("seed", {"id": "w", "purpose": "x"}, 5)
    assert refused.value.code == "insufficient_entropy"


def test_socket_files_are_private_and_removed(start: StartCoordinator, runtime_dir: Path) -> None:
    coordinator = start()
    for name in ("sessions", "control"):
        mode = (runtime_dir / name).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    coordinator.stop()
    assert list(runtime_dir.iterdir()) == []


def test_a_stale_socket_file_is_replaced(start: StartCoordinator, runtime_dir: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(os.fsencode(runtime_dir / "sessions"))
    assert start().alive()


def test_a_second_coordinator_does_not_take_a_live_one_s_sockets(
    start: StartCoordinator, control: ControlClient
) -> None:
    start()
    boot = control.request("ping", {}, 5)["boot"]
    with pytest.raises(StartError, match="another coordinator listens"):
        start()
    assert control.request("ping", {}, 5)["boot"] == boot


def test_a_file_that_is_no_socket_is_left_alone(start: StartCoordinator, runtime_dir: Path) -> None:
    path = runtime_dir / "control"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(StartError, match=r"coordinator\.control: .* is no socket"):
        start()
    assert path.read_text(encoding="utf-8") == "precious"
    assert not (runtime_dir / "sessions").exists()


def test_a_path_that_is_too_long_names_the_remedy(start: StartCoordinator) -> None:
    with pytest.raises(StartError, match="use a shorter directory"):
        start(sessions_endpoint="ipc:///tmp/" + "x" * 120)


def test_a_directory_that_is_missing_is_a_start_error(start: StartCoordinator) -> None:
    with pytest.raises(StartError, match=r"coordinator\.sessions: cannot bind"):
        start(sessions_endpoint="ipc:///nonexistent/directory/sessions")


def test_the_status_is_refused_after_the_stop(start: StartCoordinator) -> None:
    from coordinator.broker import BrokerStoppedError

    coordinator = start()
    coordinator.stop()
    with pytest.raises(BrokerStoppedError):
        coordinator.status().result(5)
