from __future__ import annotations

import threading
from pathlib import Path

import pytest

from coordinator.entropy import EntropyAccumulator, SourceSpec, SourceState
from coordinator.noise import (
    DeviceSource,
    NoiseGatherer,
    NoiseSource,
    SystemRandomSource,
    available_sources,
    fill,
)


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


def test_getrandom_is_always_there() -> None:
    (source,) = available_sources(["getrandom"])
    assert source.immediate
    assert source.read() != source.read()


def test_an_unknown_source_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'dice' is none of getrandom, hwrng"):
        available_sources(["getrandom", "dice"])


def test_a_device_is_read_and_one_that_is_missing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(bytes(range(256)))
    source = DeviceSource("hwrng", str(path))
    assert source.read() == bytes(range(64))
    assert source.read() == bytes(range(64, 128))
    source.close()
    with pytest.raises(FileNotFoundError):
        DeviceSource("hwrng", str(tmp_path / "none"))


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
    entropy.seed("w", "x", 0.0)


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


def test_the_gatherer_delivers_from_slow_sources_and_reports_failures() -> None:
    good = Scripted("good", b"noise")
    bad = Scripted("bad", OSError(19, "No such device"))
    delivered: list[tuple[str, bytes]] = []
    failed: list[tuple[str, str]] = []
    done = threading.Event()

    def fail(name: str, reason: str) -> None:
        failed.append((name, reason))
        done.set()

    gatherer = NoiseGatherer([good, bad], lambda *d: delivered.append(d), fail)
    gatherer.start()
    try:
        assert done.wait(5)
    finally:
        gatherer.stop()
    assert delivered == [("good", b"noise")]
    assert failed == [("bad", "No such device")]


def test_a_gatherer_without_slow_sources_needs_no_thread() -> None:
    gatherer = NoiseGatherer([Scripted("quick", immediate=True)], lambda *_: None, lambda *_: None)
    gatherer.start()
    assert not any(thread.name == "entropy" for thread in threading.enumerate())
    gatherer.stop()
