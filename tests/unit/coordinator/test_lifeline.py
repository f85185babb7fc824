from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from coordinator.lifeline import Lifeline


@pytest.fixture
def ends() -> Iterator[tuple[Lifeline, Lifeline]]:
    ours, theirs = Lifeline.pair()
    child = Lifeline(theirs)
    yield ours, child
    ours.close()
    child.close()


def test_frames_arrive_whole_and_in_order(ends: tuple[Lifeline, Lifeline]) -> None:
    ours, child = ends
    ours.send({"type": "settings", "settings": {"a": 1, "b": b"\x00"}})
    ours.send({"type": "drain"})
    assert child.receive() == {"type": "settings", "settings": {"a": 1, "b": b"\x00"}}
    assert child.receive() == {"type": "drain"}


def test_poll_returns_all_that_is_there(ends: tuple[Lifeline, Lifeline]) -> None:
    ours, child = ends
    child.send({"type": "ready"})
    child.send({"type": "draining"})
    assert ours.poll() == ([{"type": "ready"}, {"type": "draining"}], True)


def test_a_frame_in_pieces_is_one_frame() -> None:
    left, right = socket.socketpair()
    with left, right:
        sender, receiver = Lifeline(left), Lifeline(right)
        spare_left, spare_right = socket.socketpair()
        with spare_left, spare_right:
            Lifeline(spare_left).send({"type": "ready", "x": 1})
            frame = spare_right.recv(1000)
        for index in range(len(frame) - 1):
            left.send(frame[index : index + 1])
            assert receiver.poll() == ([], True)
        left.send(frame[-1:])
        assert receiver.poll() == ([{"type": "ready", "x": 1}], True)
        assert sender.fileno() == left.fileno()


def test_the_other_end_s_death_is_end_of_file(ends: tuple[Lifeline, Lifeline]) -> None:
    ours, child = ends
    ours.send({"type": "drain"})
    ours.close()
    assert child.poll() == ([{"type": "drain"}], True)
    assert child.poll() == ([], False)
    assert child.receive() is None
    assert child.send({"type": "ready"}) is False
