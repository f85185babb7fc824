"""Cost of the session cache: µs per operation, bytes per entry.

Run: ``python tests/bench/sessions_cache.py``. Figures in the docs name the machine.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from coordinator.lookups import SessionDesk
from coordinator.parking import ParkingTable
from coordinator.protocol import (
    Lookup,
    LookupOp,
    Put,
    decode_sessions,
    encode_answers,
    encode_sessions,
)
from coordinator.purges import PurgeFilter
from coordinator.sessions import ENTRY_OVERHEAD, SessionCache
from coordinator.strikes import StrikeRegister

SCOPE = os.urandom(32)
VALUE_BYTES = 200


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def per_operation(label: str, count: int, work: Callable[[], None]) -> None:
    """Print the CPU time of `work`, which does `count` operations."""
    started = time.process_time()
    work()
    spent = time.process_time() - started
    print(f"{label:<52} {spent / count * 1e6:8.2f} µs")


def operations(entries: int) -> None:
    """Put, get, take, miss and evict, one by one."""
    ids = [os.urandom(32) for _ in range(entries)]
    values = [os.urandom(VALUE_BYTES) for _ in range(entries)]
    cache = SessionCache(ttl=3600, max_bytes=1 << 40, max_entries=entries)

    def put() -> None:
        for id_, value in zip(ids, values, strict=True):
            cache.put(SCOPE, id_, value, "a.example", "w-0", 0.0)

    def get() -> None:
        for id_ in ids:
            cache.get(SCOPE, id_, 1.0)

    def take() -> None:
        for id_ in ids:
            cache.take(SCOPE, id_, 1.0)

    per_operation("put", entries, put)
    per_operation("get", entries, get)
    per_operation("take", entries, take)
    per_operation("take, missed", entries, take)
    fresh = [os.urandom(32) for _ in range(entries)]
    full = SessionCache(ttl=3600, max_bytes=1 << 40, max_entries=1000)

    def evict() -> None:
        for id_, value in zip(fresh, values, strict=True):
            full.put(SCOPE, id_, value, "a.example", "w-0", 0.0)

    per_operation("put that evicts", entries, evict)


def messages(count: int) -> None:
    """Whole messages as the broker handles them: decode, carry out, encode the answers."""
    frames = []
    for number in range(count):
        puts = [Put(SCOPE, os.urandom(32), os.urandom(VALUE_BYTES), "a.example") for _ in range(16)]
        lookups = [
            Lookup(number * 2 + index, LookupOp.TAKE, SCOPE, (puts[index].id,))
            for index in range(2)
        ]
        frames.append(encode_sessions("w-0", puts, lookups))
    cache = SessionCache(ttl=3600, max_bytes=1 << 30, max_entries=1 << 20)
    strikes = StrikeRegister(capacity=1, now=0.0, wall=0.0)
    desk = SessionDesk(cache, ParkingTable(park=0.015), strikes)

    def handle() -> None:
        for frame in frames:
            desk.handle(b"reader", decode_sessions(frame), 0.0)
            for answers in desk.take_answers().values():
                encode_answers(answers)

    def decode() -> None:
        for frame in frames:
            decode_sessions(frame)

    per_operation("message of 16 puts and 2 takes", count, handle)
    per_operation("  of which decoding", count, decode)


def memory(entries: int, batch: int) -> None:
    """What an entry costs beyond its value and name, against what is charged for it.

    As the broker stores them: every message's strings and clock reading are objects of their own.
    """
    gc.collect()
    before = resident_bytes()
    cache = SessionCache(ttl=3600, max_bytes=1 << 40, max_entries=entries)
    named = 0
    for first in range(0, entries, batch):
        puts = [
            Put(SCOPE, os.urandom(32), os.urandom(VALUE_BYTES), "a.example")
            for _ in range(min(batch, entries - first))
        ]
        request = decode_sessions(encode_sessions("host-1234-0.1", puts, []))
        for put in request.puts:
            cache.put(put.scope, put.id, put.value, put.server_name, request.worker, first * 1e-6)
            named = sys.getsizeof(put.server_name)
    used = (resident_bytes() - before) / entries - VALUE_BYTES - named
    label = f"{entries} entries, {batch} a message"
    print(f"{label:<52} {used:8.0f} bytes (charged {ENTRY_OVERHEAD})")


def flat(puts: int, max_bytes: int) -> None:
    """Resident memory while far more is put than there is room for, the broker's way."""
    cache = SessionCache(ttl=3600, max_bytes=max_bytes, max_entries=1_000_000)
    desk = SessionDesk(
        cache, ParkingTable(park=0.015), StrikeRegister(capacity=10, now=0.0, wall=0.0)
    )
    started = resident_bytes()
    seen = []
    for first in range(0, puts, 16):
        batch = [
            Put(SCOPE, os.urandom(32), os.urandom(VALUE_BYTES), "a.example") for _ in range(16)
        ]
        desk.handle(b"reader", decode_sessions(encode_sessions("w-0", batch, [])), first * 1e-6)
        if (first + 16) % (puts // 10) == 0:
            seen.append(resident_bytes() - started)
    text = " ".join(f"{size / 2**20:.1f}" for size in seen)
    print(f"{puts} puts, bound {max_bytes / 2**20:.0f} MiB, {len(cache)} entries: MiB resident")
    print(f"  after each tenth: {text}")


def stalls(entries: int) -> None:
    """The longest that one put and one step of a purge take in a large cache."""
    cache = SessionCache(ttl=3600, max_bytes=1 << 40, max_entries=entries)
    longest = 0.0
    for _ in range(entries):
        id_ = os.urandom(32)
        started = time.thread_time()
        cache.put(SCOPE, id_, b"", "a.example", "w-0", 0.0)
        longest = max(longest, time.thread_time() - started)
    print(f"{f'{entries} entries: longest put':<52} {longest * 1e3:8.2f} ms")
    for label, what in (("of none", PurgeFilter(worker="w-1")), ("of all", PurgeFilter())):
        longest = total = 0.0
        cache.begin_purge(what, 0.0)
        more = True
        while more:
            started = time.thread_time()
            more = cache.purge_step()
            spent = time.thread_time() - started
            longest, total = max(longest, spent), total + spent
        print(f"{f'  purge {label}: all of it':<52} {total * 1e3:8.2f} ms")
        print(f"{f'  purge {label}: longest step':<52} {longest * 1e3:8.2f} ms")


def main() -> None:
    """Print all figures."""
    alone(lambda: flat(1_000_000, 10 * 2**20))
    for entries in (87_000, 170_000, 180_000, 350_000):
        for batch in (1, 16):
            alone(partial(memory, entries, batch))
    operations(200_000)
    messages(5_000)
    stalls(1_000_000)


def alone(work: Callable[[], None]) -> None:
    """In a process of its own, as memory that was freed is used again."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        work()
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
