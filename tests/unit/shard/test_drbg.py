"""Seed material, reseed policy, and what the statistics say; the generator itself is tested in
the engine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pytest

from shard import drbg as module
from shard.drbg import Drbg, ReseedPolicy, seed_material

LOCAL = b"l" * 48
COORDINATOR = b"c" * 48


def test_material_is_sha384_over_length_prefixed_sources() -> None:
    parts = [b"shardtls drbg seed 1", LOCAL, COORDINATOR, b"w-0.1", b"interval"]
    expected = hashlib.sha384(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()
    assert seed_material(LOCAL, COORDINATOR, "w-0.1", "interval") == expected
    assert len(expected) == 48


def test_every_source_changes_the_material() -> None:
    materials = {
        seed_material(LOCAL, COORDINATOR, "w", "p"),
        seed_material(b"m" * 48, COORDINATOR, "w", "p"),
        seed_material(LOCAL, b"d" * 48, "w", "p"),
        seed_material(LOCAL, b"", "w", "p"),
        seed_material(LOCAL, COORDINATOR, "x", "p"),
        seed_material(LOCAL, COORDINATOR, "w", "q"),
    }
    assert len(materials) == 6


def test_sources_cannot_be_shifted_into_each_other() -> None:
    assert seed_material(b"ab", b"c", "w", "p") != seed_material(b"a", b"bc", "w", "p")
    assert seed_material(LOCAL, b"", "wp", "") != seed_material(LOCAL, b"", "w", "p")


@pytest.mark.parametrize(
    ("requests", "age", "reason"),
    [
        (0, 0.0, None),
        (99, 59.9, None),
        (100, 0.0, "requests"),
        (0, 60.0, "interval"),
        (10**9, 1e9, "requests"),
    ],
)
def test_policy(requests: int, age: float, reason: str | None) -> None:
    assert ReseedPolicy(requests=100, interval=60.0).due(requests, age) == reason


@dataclass
class FakeStatus:
    seeded: bool = False
    requests: int = 0
    reseeds: int = 0
    requests_since_reseed: int = 0
    forks: int = 0
    failed: bool = False


@dataclass
class FakeEngine:
    """The engine's functions: what it was seeded with, and its status."""

    seeds: list[bytes] = field(default_factory=list)
    status: FakeStatus = field(default_factory=FakeStatus)

    def drbg_seed(self, seed: bytes, personalization: bytes) -> None:
        assert len(personalization) == 48
        self.seeds.append(seed)
        self.status.seeded = True

    def drbg_reseed(self, seed: bytes) -> None:
        self.seeds.append(seed)
        self.status.reseeds += 1

    def drbg_generate(self, length: int) -> bytes:
        if self.status.failed:
            raise RuntimeError("the DRBG has failed")
        return bytes(length)

    def drbg_status(self) -> FakeStatus:
        return self.status


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    fake = FakeEngine()
    monkeypatch.setattr(module, "_engine", fake)
    return fake


def test_local_seeds_are_shown_as_such_until_the_coordinator_gave_one(engine: FakeEngine) -> None:
    drbg = Drbg("w-0.1", ReseedPolicy(100, 60.0))
    drbg.instantiate(None, 10.0)
    wanted_before = drbg.wants_coordinator
    assert drbg.stats(12.0)["seeded_from"] == "local"
    drbg.reseed(COORDINATOR, "coordinator", 13.0)
    assert (wanted_before, drbg.wants_coordinator) == (True, False)
    stats = drbg.stats(15.0)
    assert stats["seeded_from"] == "coordinator"
    assert stats["last_reseed_reason"] == "coordinator"
    assert stats["last_reseed_age"] == 2.0
    assert stats["reseeds"] == 1


def test_no_seed_is_what_the_coordinator_gave_and_none_comes_twice(engine: FakeEngine) -> None:
    drbg = Drbg("w-0.1", ReseedPolicy(100, 60.0))
    drbg.instantiate(COORDINATOR, 10.0)
    for _ in range(10):
        drbg.reseed(COORDINATOR, "order", 10.0)
    assert len(set(engine.seeds)) == 11
    assert all(len(seed) == 48 and seed != COORDINATOR for seed in engine.seeds)


def test_a_reseed_is_due_by_the_policy_once_seeded(engine: FakeEngine) -> None:
    drbg = Drbg("w-0.1", ReseedPolicy(100, 60.0))
    assert drbg.due(1e9) is None
    drbg.instantiate(None, 10.0)
    assert drbg.due(69.0) is None
    assert drbg.due(70.0) == "interval"
    engine.status.requests_since_reseed = 100
    assert drbg.due(11.0) == "requests"


def test_a_local_seed_says_why_it_is_local(engine: FakeEngine) -> None:
    drbg = Drbg("w-0.1", ReseedPolicy(100, 60.0))
    drbg.instantiate(None, 10.0)
    assert drbg.stats(10.0)["local_reason"] == "no answer"
    drbg.reseed(None, "interval", 70.0, "refused")
    assert drbg.stats(70.0)["local_reason"] == "refused"
    drbg.coordinator_missing("no answer")
    assert drbg.stats(70.0)["local_reason"] == "no answer"
    drbg.reseed(COORDINATOR, "coordinator", 80.0)
    drbg.coordinator_missing("no answer")
    assert drbg.stats(80.0)["local_reason"] is None


def test_a_failure_is_seen_at_the_start_and_later(engine: FakeEngine) -> None:
    drbg = Drbg("w-0.1", ReseedPolicy(100, 60.0))
    drbg.instantiate(COORDINATOR, 10.0)
    assert (drbg.failed, drbg.stats(10.0)["failed"]) == (False, False)
    engine.status.failed = True
    assert (drbg.failed, drbg.stats(10.0)["failed"]) == (True, True)
    with pytest.raises(RuntimeError, match="has failed"):
        Drbg("w-0.2", ReseedPolicy(100, 60.0)).instantiate(COORDINATOR, 10.0)


def test_the_engines_reseed_of_a_forked_child_is_shown(engine: FakeEngine) -> None:
    drbg = Drbg("w-0.1", ReseedPolicy(100, 60.0))
    drbg.instantiate(COORDINATOR, 10.0)
    engine.status.forks += 1
    stats = drbg.stats(20.0)
    assert (stats["last_reseed_reason"], stats["seeded_from"]) == ("fork", "local")
    assert drbg.stats(25.0)["last_reseed_age"] == 5.0
