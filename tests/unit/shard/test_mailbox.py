"""Calls reach their owner, once each, in order, and wake it."""

from __future__ import annotations

import select
import threading

from shard.mailbox import Mailbox


def readable(mailbox: Mailbox, timeout: float = 0.0) -> bool:
    return bool(select.select([mailbox.fileno()], [], [], timeout)[0])


def test_a_call_from_another_thread_wakes_the_owner() -> None:
    mailbox = Mailbox()
    mailbox.adopt()
    seen: list[tuple[int, int]] = []
    caller = threading.Thread(
        target=lambda: mailbox.call(lambda n: seen.append((n, threading.get_ident())), 7)
    )
    caller.start()
    assert readable(mailbox, 5.0)
    caller.join()
    mailbox.woken()
    mailbox.run()
    assert seen == [(7, threading.get_ident())]
    assert not readable(mailbox)
    mailbox.close()


def test_the_owners_own_calls_cost_no_wakeup() -> None:
    mailbox = Mailbox()
    mailbox.adopt()
    mailbox.call(lambda _: None, None)
    assert not readable(mailbox)
    assert len(mailbox.calls) == 1
    mailbox.close()


def test_an_owner_that_asks_is_told_of_its_own_calls_alone() -> None:
    mailbox = Mailbox()
    mailbox.adopt()
    told: list[int] = []
    mailbox.owner_called = lambda: told.append(len(mailbox.calls))
    mailbox.call(lambda _: None, None)
    other = threading.Thread(target=lambda: mailbox.call(lambda _: None, None))
    other.start()
    other.join()
    assert told == [1]
    assert readable(mailbox)
    mailbox.close()


def test_run_carries_out_what_was_there_and_leaves_what_that_added() -> None:
    mailbox = Mailbox()
    mailbox.adopt()
    seen: list[int] = []

    def again(number: int) -> None:
        seen.append(number)
        mailbox.call(again, number + 1)

    mailbox.call(again, 0)
    mailbox.run()
    assert seen == [0]
    mailbox.run()
    assert seen == [0, 1]
    mailbox.close()


def test_every_call_of_many_threads_arrives_once() -> None:
    mailbox = Mailbox()
    mailbox.adopt()
    seen: list[int] = []

    def call_all(base: int) -> None:
        for number in range(500):
            mailbox.call(seen.append, base + number)

    threads = [threading.Thread(target=call_all, args=[base]) for base in range(0, 4000, 500)]
    for thread in threads:
        thread.start()
    while len(seen) < 4000:
        assert readable(mailbox, 5.0), f"asleep with {len(mailbox.calls)} calls waiting"
        mailbox.woken()
        mailbox.run()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(4000))
    mailbox.close()


def test_a_call_after_the_end_is_dropped() -> None:
    mailbox = Mailbox()
    mailbox.close()
    mailbox.call(lambda _: None, None)
    assert not mailbox.calls
