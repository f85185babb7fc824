from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.health import STARTUP_SAMPLES, HealthTests
from coordinator.jitter import JitterSource
from coordinator.noise import FileSource, available_sources


def test_getrandom_is_always_there() -> None:
    (source,) = available_sources(["getrandom"])
    assert source.immediate
    assert source.read() != source.read()


def test_an_unknown_source_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'dice' is none of getrandom, hwrng, jitter, workers"):
        available_sources(["getrandom", "dice"])


def test_only_getrandom_is_read_by_the_broker() -> None:
    named = ["jitter", "workers", "file:/dev/zero", "command:/bin/true"]
    assert not any(source.immediate for source in available_sources(named))


def test_an_operators_own_source_has_its_name_and_claim() -> None:
    file, command = available_sources(["file:/dev/zero@0.25", "command:/bin/echo --key x@2"])
    assert (file.spec.name, file.spec.claim) == ("file:/dev/zero", 0.25)
    assert (command.spec.name, command.spec.claim) == ("command:/bin/echo", 2.0)


def test_nothing_is_claimed_of_what_workers_send_back() -> None:
    (source,) = available_sources(["workers"])
    assert (source.spec.claim, source.read()) == (0.0, b"")


def test_a_file_is_read_on_and_its_end_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(bytes(range(100)))
    source = FileSource("f", str(path), 4.0)
    assert source.read() + source.read() == bytes(range(100))
    assert source.read() == b""
    source.close()


def test_a_fifo_never_blocks(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    source = FileSource("f", str(path), 4.0)
    assert source.read() == b""
    with path.open("wb", buffering=0) as writer:
        assert source.read() == b""
        writer.write(b"noise")
        assert source.read() == b"noise"
    source.close()


def test_a_file_that_was_missing_is_opened_by_a_later_read(tmp_path: Path) -> None:
    path = tmp_path / "late"
    source = FileSource("f", str(path), 4.0)
    with pytest.raises(FileNotFoundError):
        source.read()
    path.write_bytes(b"here")
    assert source.read() == b"here"
    source.close()


def test_jitter_passes_the_tests_of_its_claim() -> None:
    source = JitterSource()
    samples = b"".join(source.read() for _ in range(4 * STARTUP_SAMPLES // 64))
    assert HealthTests(source.spec.claim).feed(samples) is None
    assert len(set(samples)) > 8
    source.close()


def test_a_clock_that_stands_still_fails_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.jitter.time.perf_counter_ns", lambda: 0)
    source = JitterSource()
    samples = source.read() + source.read()
    assert HealthTests(source.spec.claim).feed(samples) == "repetition count test"
