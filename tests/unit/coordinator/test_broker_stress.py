"""Many clients at once on a broker whose bounds are far too small for them."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from coordinator.client import ControlClient, dealer
from coordinator.coordinator import Coordinator
from coordinator.protocol import Lookup, LookupOp, Put, decode_answers, encode_sessions
from coordinator.sessions import MissReason, SessionCache
from tests.unit.coordinator.conftest import StartCoordinator

CLIENTS = 64
ROUNDS = 20
PUTS = 16
MAX_BYTES = 200_000
MAX_ENTRIES = 150
SCOPES = [b"s" * 32, b"o" * 32]


class Bounds:
    """Looks at the cache after every put that it carries out, on the broker's thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most_bytes = self.most_entries = self.puts = 0
        put = SessionCache.put

        def checked(cache: SessionCache, *arguments: object, **facts: object) -> MissReason | None:
            outcome = put(cache, *arguments, **facts)  # type: ignore[arg-type]
            self.puts += 1
            self.most_bytes = max(self.most_bytes, cache.bytes_charged)
            self.most_entries = max(self.most_entries, len(cache))
            return outcome

        monkeypatch.setattr(SessionCache, "put", checked)


def client(
    number: int,
    coordinator: Coordinator,
    context: zmq.Context[zmq.Socket[bytes]],
    start: threading.Barrier,
    shared: list[bytes],
) -> list[bytes]:
    """Puts of every kind, and takes of what all clients put; the ids that it was given."""
    rng = random.Random(number)
    taken = []
    with dealer(context, coordinator.sessions_address) as sock:
        start.wait(10)
        for token in range(1, ROUNDS + 1):
            puts = [
                Put(
                    rng.choice(SCOPES),
                    # Fresh ones, and some that others put, have taken, or take at this moment.
                    rng.choice(shared) if rng.random() < 0.3 else os.urandom(32),
                    bytes(rng.choice([0, 100, 200, 1000] if rng.random() < 0.98 else [60_000])),
                    rng.choice([None, "a.example", "n" * 255]),
                )
                for _ in range(PUTS)
            ]
            asked = [
                Lookup(
                    token * 10 + n,
                    LookupOp.TAKE,
                    rng.choice(SCOPES),
                    (rng.choice([*shared[:20], *(put.id for put in puts)]),),
                )
                for n in range(4)
            ]
            sock.send(
                encode_sessions(f"w-{number}", puts, asked, age=60.0 if rng.random() < 0.1 else 0.0)
            )
            owed = len(asked)
            while owed:
                assert sock.poll(10_000), "no answer"
                answers = decode_answers(sock.recv())
                assert isinstance(answers, tuple), answers
                owed -= len(answers)
                taken += [answer.id for answer in answers if answer.id is not None]
    return taken


def test_bounds_hold_at_every_moment_and_a_session_is_taken_once(
    start: StartCoordinator,
    monkeypatch: pytest.MonkeyPatch,
    control: ControlClient,
) -> None:
    """The shape of CVE-2024-2511: sessions that cannot be used must not pile up either."""
    bounds = Bounds(monkeypatch)
    coordinator = start(
        sessions_max_bytes=MAX_BYTES, sessions_max_entries=MAX_ENTRIES, sessions_ttl=60.0, park=0.0
    )
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    shared = [os.urandom(32) for _ in range(300)]
    barrier = threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        runs = [
            pool.submit(client, number, coordinator, context, barrier, shared)
            for number in range(CLIENTS)
        ]
        taken = [id_ for run in runs for id_ in run.result(60)]
    context.destroy(linger=0)
    assert bounds.puts == CLIENTS * ROUNDS * PUTS
    assert bounds.most_bytes <= MAX_BYTES
    assert bounds.most_entries <= MAX_ENTRIES
    assert bounds.most_bytes > MAX_BYTES / 2, "the test does not reach the bound"
    assert len(taken) == len(set(taken)) > 50
    sessions = control.request("status", {}, 5)["status"]["coordinator"]["sessions"]
    assert sessions["hits"] == len(taken)
    assert sum(sessions["misses"].values()) == CLIENTS * ROUNDS * 4 - len(taken)
    gone = sum(sessions[what] for what in ("evicted", "expired", "purged", "hits", "entries"))
    # A put in place of another one is the only other way to go.
    assert gone <= sessions["stored"] <= gone + bounds.puts * 0.3
    assert sessions["stored"] + sessions["refused"] == bounds.puts
    assert control.request("purge", {}, 10)["sessions"] == sessions["entries"]
    after = control.request("status", {}, 5)["status"]["coordinator"]["sessions"]
    assert (after["entries"], after["bytes"]) == (0, 0)
