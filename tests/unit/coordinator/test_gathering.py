"""The entropy thread, and the broker's own round."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from coordinator.entropy import EntropyAccumulator, ReadReason, SourceSpec, SourceState
from coordinator.gathering import NoiseGatherer, fill
from coordinator.noise import NoiseSource, SystemRandomSource

ROUTINE, TEST = ReadReason.ROUTINE, ReadReason.TEST


class Scripted:
    """A source that plays a script: bytes, or an error to raise."""

    def __init__(self, name: str, *script: bytes | OSError, immediate: bool = False) -> None:
        self.spec = SourceSpec(name, claim=8.0, threshold=1)
        self.immediate = immediate
        self.reads = 0
        self._script = list(script)

    def read(self) -> bytes:
        self.reads += 1
        step = self._script.pop(0) if self._script else b""
        if isinstance(step, OSError):
            raise step
        return step

    def close(self) -> None:
        pass


def test_getrandom_alone_fills_the_accumulator_through_its_start_up_test() -> None:
    source = SystemRandomSource()
    entropy = EntropyAccumulator([source.spec])
    sources: list[NoiseSource] = [source]
    fill(
        sources,
        lambda: entropy.available() >= entropy.required_bits,
        lambda name, samples: entropy.add(name, samples, 0.0),
        lambda name, reason: entropy.fail(name, reason, 0.0),
    )
    assert entropy.state("getrandom") is SourceState.HEALTHY
    entropy.seed("w", "x", 0.0, 0.0)


def test_filling_is_bounded_and_reads_immediate_sources_only() -> None:
    empty, slow = Scripted("empty", immediate=True), Scripted("slow")
    fill([empty, slow], lambda: False, lambda *_: None, lambda *_: None)
    assert 0 < empty.reads < 100
    assert slow.reads == 0


def test_a_broken_immediate_source_is_reported() -> None:
    broken = Scripted("broken", OSError(5, "Input/output error"), immediate=True)
    failures: list[tuple[str, str]] = []
    fill([broken], lambda: bool(failures), lambda *_: None, lambda *f: failures.append(f))
    assert failures == [("broken", "Input/output error")]


def test_filling_reads_once_even_if_there_is_enough() -> None:
    source = Scripted("s", b"noise", immediate=True)
    fill([source], lambda: True, lambda *_: None, lambda *_: None)
    assert source.reads == 1


class Gathering:
    """A gatherer whose thread has run until it asked for the last time in the script."""

    def __init__(self, sources: list[Scripted], *script: Mapping[str, ReadReason]) -> None:
        self.delivered: list[tuple[str, bytes]] = []
        self.failed: list[tuple[str, str]] = []
        self._script = list(script)
        self._done = threading.Event()
        gatherer = NoiseGatherer(
            sources,
            self._ask,
            lambda *d: self.delivered.append(d),
            lambda *f: self.failed.append(f),
        )
        gatherer.start()
        try:
            assert self._done.wait(10)
        finally:
            gatherer.stop()

    def _ask(self) -> Mapping[str, ReadReason]:
        if not self._script:
            self._done.set()
            return {}
        return self._script.pop(0)


def test_the_gatherer_delivers_and_reports_failures() -> None:
    good = Scripted("good", b"noise")
    bad = Scripted("bad", OSError(19, "No such device"))
    made = Gathering([good, bad], {"good": TEST, "bad": TEST})
    assert made.delivered == [("good", b"noise")]
    assert made.failed == [("bad", "No such device")]


def test_what_waits_in_quarantine_is_not_read() -> None:
    good, waiting = Scripted("good", b"a"), Scripted("waiting", b"b")
    Gathering([good, waiting], {"good": TEST})
    assert (good.reads, waiting.reads) == (1, 0)


def test_an_immediate_source_is_read_for_its_test_only() -> None:
    quick = Scripted("quick", b"a", b"b", immediate=True)
    made = Gathering([quick], {"quick": TEST}, {"quick": ROUTINE})
    assert made.delivered == [("quick", b"a")]


def test_a_gatherer_that_is_told_nothing_stops_at_once() -> None:
    gatherer = NoiseGatherer([], dict, lambda *_: None, lambda *_: None)
    gatherer.start()
    gatherer.stop()
    assert not any(thread.name == "entropy" for thread in threading.enumerate())
