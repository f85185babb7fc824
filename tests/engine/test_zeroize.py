"""The generator's state is gone from memory when its process ends, and nothing comes of it then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shard.worker import EXIT_NOT_STARTED
from tests.certificates import Certificate
from tests.client import client_context, offer_group
from tests.engine.known_seed import PERSONALIZATION, SEED, KnownSeedServer, serving
from tests.engine.prediction import Prediction, converse
from tests.hostile import client_hello, records, send
from tests.waiting import eventually

WITHIN = 5.0
"""Seconds."""

A_WORKERS_LAST_STEP = """
import os
import runpy
from shard import _engine

def leave(code):
    try:
        _engine.drbg_generate(16)
    except RuntimeError as error:
        os.write(1, str(error).encode())
    really(code)

really, os._exit = os._exit, leave
_engine.drbg_seed(bytes(48))
runpy.run_module("shard.worker", run_name="__main__")
"""


def state_after_a_handshake(server: KnownSeedServer, certificate: Certificate) -> Prediction:
    """Have the server draw; the reference's state is then the server's."""
    prediction = Prediction(SEED, PERSONALIZATION)
    context = client_context(certificate, "TLSv1.3")
    offer_group(context, "X25519")
    converse(server.address, context)
    prediction.random(), prediction.share("x25519"), prediction.ticket(), prediction.ticket()
    return prediction


def in_memory(pid: int, secret: bytes) -> bool:
    """Whether a process has these bytes in memory that it may write to."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        resident = False
        for line in reversed(Path(f"/proc/{pid}/smaps").read_text().splitlines()):
            name, *values = line.split()
            if name == "Rss:":
                resident = values[0] != "0"
            elif "-" in name and values[0].startswith("rw") and resident:
                first, last = (int(end, 16) for end in name.split("-"))
                memory.seek(first)
                if secret in memory.read(last - first):
                    return True
    return False


def test_zeroized_it_is_gone_and_handshakes_fail(engine_certificate: Certificate) -> None:
    with serving(engine_certificate) as server:
        drbg = state_after_a_handshake(server, engine_certificate).drbg
        assert in_memory(server.process.pid, drbg.v)
        server.tell("zeroize")
        assert not in_memory(server.process.pid, drbg.v)
        assert not in_memory(server.process.pid, drbg.key)
        # A process that has nothing random left says so, and goes no further (RFC 8446 §6.2).
        reaction = send(server.address, [records(client_hello())], patience=WITHIN)
        assert (reaction.alert, reaction.went_on) == ("internal_error", False)


def test_a_process_that_exits_wipes_it(engine_certificate: Certificate) -> None:
    with serving(engine_certificate) as server:
        drbg = state_after_a_handshake(server, engine_certificate).drbg
        pid = server.process.pid
        assert in_memory(pid, drbg.v)
        server.tell("exit")
        # It stops in the last of its exit handlers.
        eventually(lambda: not in_memory(pid, drbg.v), within=WITHIN, what="V wiped")
        assert server.process.poll() is None
        assert not in_memory(pid, drbg.key)


def test_a_worker_wipes_it_before_it_leaves_without_exit_handlers() -> None:
    """It ends by ``os._exit``, as threads may be left; here for want of a lifeline."""
    done = subprocess.run(
        [sys.executable, "-c", A_WORKERS_LAST_STEP],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (
        EXIT_NOT_STARTED,
        "the DRBG was zeroised: the process is ending",
    )
