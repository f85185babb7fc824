"""The cache against a model of it that is slow and obvious."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.purges import PurgeFilter
from coordinator.sessions import ENTRY_OVERHEAD, MissReason, SessionCache

SCOPES = [b"a" * 32, b"b" * 32]
IDS = [bytes([number]) * 32 for number in range(8)]
WORKERS = ["w-0", "w-1"]
NAMES = [None, "a.example", "b" * 255]
CLIENTS = [None, "alice"]
TTL = 10.0
ORDER = [MissReason.USED, MissReason.EXPIRED, MissReason.EVICTED, MissReason.PURGED]
"""Of several reasons the cache tells the first."""

conditions = st.fixed_dictionaries(
    {},
    optional={
        "scope": st.sampled_from(SCOPES),
        "server_name": st.sampled_from(NAMES[1:]),
        "worker": st.sampled_from(WORKERS),
        "client": st.just("alice"),
        "older_than": st.sampled_from([1.0, 4.0]),
    },
)


@dataclass
class Stored:
    facts: dict[str, Any]
    value: bytes
    issued: float

    def size(self) -> int:
        texts = [self.facts["server_name"], self.facts["client"]]
        return ENTRY_OVERHEAD + len(self.value) + sum(sys.getsizeof(t) for t in texts if t)

    def matches(self, what: dict[str, Any], now: float) -> bool:
        rest = {key: value for key, value in what.items() if key != "older_than"}
        old_enough = self.issued <= now - what.get("older_than", 0.0) or "older_than" not in what
        return old_enough and all(self.facts[key] == value for key, value in rest.items())


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
        self.purges: list[tuple[dict[str, Any], float]] = []
        self.under_way: set[bytes] | None = None

    @rule(
        scope=st.sampled_from(SCOPES),
        id_=st.sampled_from(IDS),
        size=st.integers(0, 1200),
        name=st.sampled_from(NAMES),
        client=st.sampled_from(CLIENTS),
        worker=st.sampled_from(WORKERS),
        age=st.sampled_from([0.0, 0.0, 2.0, TTL]),
        behind=st.integers(0, 3),
    )
    def put(
        self,
        scope: bytes,
        id_: bytes,
        size: int,
        name: str | None,
        client: str | None,
        worker: str,
        age: float,
        behind: int,
    ) -> None:
        """By a worker that has not heard of the latest `behind` purges."""
        facts = {"scope": scope, "server_name": name, "client": client, "worker": worker}
        stored = Stored(facts, bytes(size), self.now - age)
        known = max(len(self.purges) - behind, 0)
        got = self.cache.put(
            scope, id_, stored.value, name, worker, self.now, age=age, mark=known + 1, client=client
        )
        assert got == self.refusal(id_, stored, known, age)
        if got is not None:
            return
        if id_ in self.model:
            self.drop(id_)
        while (
            len(self.model) >= self.cache.max_entries
            or sum(s.size() for s in self.model.values()) + stored.size() > self.cache.max_bytes
        ):
            oldest = next(iter(self.model))
            covered = self.under_way is not None and oldest in self.under_way
            over = self.drop(oldest).issued <= self.now - TTL
            gone = MissReason.PURGED if covered else MissReason.EVICTED
            self.forget(oldest, MissReason.EXPIRED if over else gone)
        self.model[id_] = stored

    def refusal(self, id_: bytes, stored: Stored, known: int, age: float) -> MissReason | None:
        if self.why.get(id_) is MissReason.USED:
            return MissReason.USED
        if any(stored.matches(what, at) for what, at in self.purges[known:]):
            return self.forget(id_, MissReason.PURGED)
        before = self.model.get(id_)
        if before is not None and before.facts["scope"] != stored.facts["scope"]:
            return MissReason.SCOPE
        if age >= TTL:
            return self.forget(id_, MissReason.EXPIRED)
        if stored.size() > self.cache.max_bytes:
            return self.forget(id_, MissReason.EVICTED)
        return None

    def drop(self, id_: bytes) -> Stored:
        if self.under_way is not None:
            self.under_way.discard(id_)
        return self.model.pop(id_)

    def forget(self, id_: bytes, reason: MissReason) -> MissReason:
        known = self.why.get(id_)
        if known is None or ORDER.index(reason) < ORDER.index(known):
            self.why[id_] = reason
        return reason

    def expected(self, scope: bytes, id_: bytes) -> bytes | MissReason:
        stored = self.model.get(id_)
        if stored is None:
            return self.why.get(id_, MissReason.UNKNOWN)
        if stored.issued <= self.now - TTL:
            self.drop(id_)
            return self.forget(id_, MissReason.EXPIRED)
        if self.under_way is not None and id_ in self.under_way:
            self.drop(id_)
            return self.forget(id_, MissReason.PURGED)
        return stored.value if stored.facts["scope"] == scope else MissReason.SCOPE

    @rule(scope=st.sampled_from(SCOPES), id_=st.sampled_from(IDS))
    def get(self, scope: bytes, id_: bytes) -> None:
        expected = self.expected(scope, id_)
        assert self.cache.get(scope, id_, self.now) == expected
        if not isinstance(expected, MissReason):
            self.model[id_] = self.model.pop(id_)

    @rule(scope=st.sampled_from(SCOPES), id_=st.sampled_from(IDS))
    def take(self, scope: bytes, id_: bytes) -> None:
        expected = self.expected(scope, id_)
        assert self.cache.take(scope, id_, self.now) == expected
        if not isinstance(expected, MissReason):
            self.drop(id_)
            self.forget(id_, MissReason.USED)

    @rule(seconds=st.sampled_from([0.5, 3.0, TTL]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 3))
    def sweep(self, limit: int) -> None:
        removed = self.cache.sweep(self.now, limit)
        for _ in range(removed):
            id_ = next(iter(self.model))
            assert self.drop(id_).issued <= self.now - TTL
            self.forget(id_, MissReason.EXPIRED)
        if removed < limit and self.model:
            assert next(iter(self.model.values())).issued > self.now - TTL

    @rule(what=conditions)
    def begin_purge(self, what: dict[str, Any]) -> None:
        if self.under_way is None:
            self.cache.begin_purge(PurgeFilter(**what), self.now)
            self.purges.append((what, self.now))
            self.under_way = {i for i, s in self.model.items() if s.matches(what, self.now)}

    @rule()
    def end_purge(self) -> None:
        before = self.cache.purged
        assert not self.cache.purge_step()
        assert self.cache.purged - before == len(self.under_way or ())
        for id_ in sorted(self.under_way or ()):
            self.drop(id_)
            self.forget(id_, MissReason.PURGED)
        self.under_way = None

    @invariant()
    def it_is_what_the_model_says_and_within_its_bounds(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert list(self.cache) == list(self.model)
        assert len(self.cache) == len(self.model)
        assert self.cache.bytes_charged == sum(s.size() for s in self.model.values())
        assert self.cache.bytes_charged <= self.cache.max_bytes
        assert len(self.cache) <= self.cache.max_entries


CacheAgainstModel.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
TestCacheAgainstModel = CacheAgainstModel.TestCase
