"""The connection limit, and an acceptor on a listener that does as the test says."""

from __future__ import annotations

import errno
import math
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from shard.accepting import EXHAUSTED_PAUSE, Acceptor, Capacity


class Listener:
    """A real listening socket for epoll; `accept` gives what was prepared."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.waiting: list[Any] = []
        self.error: OSError | None = None
        self.limits: list[int] = []

    def fileno(self) -> int:
        return self.socket.fileno()

    def accept(self, context: object, limit: int) -> list[Any]:
        self.limits.append(limit)
        if self.error is not None:
            raise self.error
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken


class Bench:
    """An acceptor, and whether it listens: whether a connection that waits wakes its epoll set."""

    def __init__(self, limit: int) -> None:
        self.epoll = select.epoll()
        self.listener = Listener()
        self.capacity = Capacity(limit)
        self.told = 0
        self.acceptor = Acceptor(
            self.epoll, cast("Any", [self.listener]), cast("Any", None), self.capacity, self._room
        )
        self._client = socket.create_connection(self.listener.socket.getsockname())

    def _room(self) -> None:
        self.told += 1

    def listens(self) -> bool:
        return bool(self.epoll.poll(0))

    def accept(self, now: float = 10.0) -> list[Any]:
        return list(self.acceptor.accept(self.listener.fileno(), now))

    def stop(self) -> list[Any]:
        return list(self.acceptor.stop())

    def close(self) -> None:
        self._client.close()
        self.listener.socket.close()
        self.epoll.close()


@contextmanager
def bench(limit: int = 100) -> Iterator[Bench]:
    made = Bench(limit)
    try:
        yield made
    finally:
        made.close()


def test_capacity_is_never_exceeded_and_those_who_wait_are_told_once() -> None:
    told: list[str] = []
    capacity = Capacity(2)
    assert not capacity.full(lambda: told.append("early"))
    assert [capacity.take(), capacity.take(), capacity.take()] == [True, True, False]
    assert capacity.full(lambda: told.append("a"))
    assert capacity.full(lambda: told.append("b"))
    capacity.give_back()
    capacity.give_back()
    assert told == ["a", "b"]
    assert capacity.count == 0


def test_it_listens_only_after_resume_and_until_stop() -> None:
    with bench() as made:
        before = made.listens()
        made.acceptor.resume()
        during = made.listens()
        made.acceptor.stop()
        assert (before, during, made.listens()) == (False, True, False)
        made.acceptor.resume()
        assert not made.listens()


def test_one_connection_a_round_and_it_goes_on_listening() -> None:
    with bench() as made:
        made.acceptor.resume()
        made.listener.waiting = ["a", "b"]
        assert made.accept() == ["a"]
        assert made.listener.limits == [1]
        assert made.listens()
        assert made.capacity.count == 1
        made.acceptor.ended()
        assert made.capacity.count == 0


def test_a_connection_that_another_took_costs_no_room() -> None:
    with bench() as made:
        made.acceptor.resume()
        assert made.accept() == []
        assert made.capacity.count == 0


def test_at_the_limit_it_leaves_the_queue_at_once_and_is_told_of_room() -> None:
    with bench(limit=1) as made:
        made.acceptor.resume()
        made.listener.waiting = ["a", "b"]
        assert made.accept() == ["a"]
        paused = not made.listens()
        made.acceptor.ended()
        assert (paused, made.told, made.acceptor.limited) == (True, 1, 1)
        made.acceptor.resume()
        assert made.listens()
        assert made.accept() == ["b"]


def test_the_last_place_taken_by_another_reader_pauses_it_too() -> None:
    with bench(limit=1) as made:
        made.acceptor.resume()
        assert made.capacity.take()
        made.listener.waiting = ["a"]
        assert made.accept() == []
        assert not made.listens()
        made.capacity.give_back()
        assert made.told == 1


def test_without_descriptors_it_pauses_and_loses_nothing() -> None:
    with bench() as made:
        made.acceptor.resume()
        made.listener.waiting = ["a"]
        made.listener.error = OSError(errno.EMFILE, "Too many open files")
        assert made.accept(10.0) == []
        paused = not made.listens()
        assert (paused, made.acceptor.exhausted, made.capacity.count) == (True, 1, 0)
        assert made.acceptor.resume_at == 10.0 + EXHAUSTED_PAUSE
        made.listener.error = None
        made.acceptor.resume()
        assert made.acceptor.resume_at == math.inf
        assert made.listens()
        assert made.accept() == ["a"]


def test_stopping_takes_those_that_it_alone_may_have_been_woken_for() -> None:
    with bench(limit=2) as made:
        made.acceptor.resume()
        made.listener.waiting = ["a", "b", "c"]
        assert made.stop() == ["a", "b"]
        assert made.capacity.count == 2
