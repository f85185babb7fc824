"""The cache against a model of it that is slow and obvious."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.sessions import ENTRY_OVERHEAD, MissReason, SessionCache

SCOPES = [b"a" * 32, b"b" * 32]
IDS = [bytes([number]) * 32 for number in range(8)]
TTL = 10.0


@dataclass
class Stored:
    value: bytes
    name: str | None
    expires: float

    def size(self) -> int:
        return ENTRY_OVERHEAD + len(self.value) + (sys.getsizeof(self.name) if self.name else 0)


class CacheAgainstModel(RuleBasedStateMachine):
    @initialize(
        max_entries=st.integers(1, 6),
        max_bytes=st.integers(ENTRY_OVERHEAD, 5 * (ENTRY_OVERHEAD + 300)),
    )
    def make(self, max_entries: int, max_bytes: int) -> None:
        self.now = 0.0
        self.cache = SessionCache(ttl=TTL, max_bytes=max_bytes, max_entries=max_entries)
        # Least recently used first.
        self.model: dict[bytes, Stored] = {}
        self.why: dict[bytes, MissReason] = {}

    @rule(
        scope=st.sampled_from(SCOPES),
        id_=st.sampled_from(IDS),
        size=st.integers(0, 1200),
        name=st.sampled_from([None, "a.example", "b" * 255]),
    )
    def put(self, scope: bytes, id_: bytes, size: int, name: str | None) -> None:
        key = scope + id_
        stored = Stored(bytes(size), name, self.now + TTL)
        accepted = self.cache.put(scope, id_, stored.value, name, "w", self.now)
        if self.why.get(key) is MissReason.USED:
            assert not accepted
            return
        self.model.pop(key, None)
        assert accepted == (stored.size() <= self.cache.max_bytes)
        if not accepted:
            return
        while (
            len(self.model) >= self.cache.max_entries
            or sum(s.size() for s in self.model.values()) + stored.size() > self.cache.max_bytes
        ):
            oldest = next(iter(self.model))
            over = self.model.pop(oldest).expires <= self.now
            self.forget(oldest, MissReason.EXPIRED if over else MissReason.EVICTED)
        self.model[key] = stored

    def forget(self, key: bytes, reason: MissReason) -> None:
        # Of several reasons the cache tells the first of: used, expired, evicted.
        order = [MissReason.USED, MissReason.EXPIRED, MissReason.EVICTED]
        known = self.why.get(key)
        if known is None or order.index(reason) < order.index(known):
            self.why[key] = reason

    def expected(self, key: bytes) -> bytes | MissReason:
        stored = self.model.get(key)
        if stored is None:
            return self.why.get(key, MissReason.UNKNOWN)
        if stored.expires <= self.now:
            del self.model[key]
            self.forget(key, MissReason.EXPIRED)
            return MissReason.EXPIRED
        return stored.value

    @rule(scope=st.sampled_from(SCOPES), id_=st.sampled_from(IDS))
    def get(self, scope: bytes, id_: bytes) -> None:
        key = scope + id_
        expected = self.expected(key)
        assert self.cache.get(scope, id_, self.now) == expected
        if not isinstance(expected, MissReason):
            self.model[key] = self.model.pop(key)

    @rule(scope=st.sampled_from(SCOPES), id_=st.sampled_from(IDS))
    def take(self, scope: bytes, id_: bytes) -> None:
        key = scope + id_
        expected = self.expected(key)
        assert self.cache.take(scope, id_, self.now) == expected
        if not isinstance(expected, MissReason):
            del self.model[key]
            self.forget(key, MissReason.USED)

    @rule(seconds=st.sampled_from([0.5, 3.0, TTL]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 3))
    def sweep(self, limit: int) -> None:
        removed = self.cache.sweep(self.now, limit)
        for _ in range(removed):
            key = next(iter(self.model))
            assert self.model.pop(key).expires <= self.now
            self.forget(key, MissReason.EXPIRED)
        if removed < limit and self.model:
            assert next(iter(self.model.values())).expires > self.now

    @rule()
    def purge(self) -> None:
        assert self.cache.purge() == len(self.model)
        self.model.clear()
        self.why = {k: r for k, r in self.why.items() if r is MissReason.USED}

    @invariant()
    def it_is_what_the_model_says_and_within_its_bounds(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert list(self.cache) == list(self.model)
        assert self.cache.bytes_charged == sum(s.size() for s in self.model.values())
        assert self.cache.bytes_charged <= self.cache.max_bytes
        assert len(self.cache) <= self.cache.max_entries


CacheAgainstModel.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
TestCacheAgainstModel = CacheAgainstModel.TestCase
