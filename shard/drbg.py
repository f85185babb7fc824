"""How the process's CTR_DRBG is seeded and when it is seeded anew.

The generator itself is the engine's (AES-256 CTR_DRBG, SP 800-90A Rev. 1 §10.2.1), one per
process and guarded there by a mutex (PolarSSL's rule for ``ctr_drbg_context``). Every seed is a
hash of fresh local randomness and a seed of the coordinator's, so that neither alone can weaken
it; without the coordinator local randomness has to do, and the statistics say so. Who reseeds it,
and when, is decided in :mod:`shard.reseeding`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass
from typing import Any, Final

from coordinator.protocol import SEED_BYTES
from shard import _engine

__all__ = ["Drbg", "ReseedPolicy", "seed_material"]

_DOMAIN: Final = b"shardtls drbg seed 1"


def seed_material(local: bytes, coordinator: bytes, worker: str, purpose: str) -> bytes:
    """48 bytes of seed from all sources. Pure.

    SHA-384 over the sources, each behind its length, so that no two lists of sources give one
    input. Its output is as long as the seed of SP 800-90A Rev. 1, table 3 (AES-256).

    :param local: from this machine's kernel, 48 bytes.
    :param coordinator: 48 bytes, or empty without it.
    :param worker: makes the seeds of two workers differ whatever else happens.
    :param purpose: ``instantiate`` or the reason for a reseed.
    """
    digest = hashlib.sha384()
    for part in (_DOMAIN, local, coordinator, worker.encode(), purpose.encode()):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class ReseedPolicy:
    """When a reseed is due. Pure.

    :ivar requests: generate requests after which it is (SP 800-90A Rev. 1 §10.2.1 allows 2^48).
    :ivar interval: seconds after which it is.
    """

    requests: int
    interval: float

    def due(self, requests: int, age: float) -> str | None:
        """The reason for a reseed, or None.

        :param requests: generate requests since the last seed.
        :param age: seconds since the last seed.
        """
        if requests >= self.requests:
            return "requests"
        if age >= self.interval:
            return "interval"
        return None


class Drbg:
    """The process's generator. Any thread; by convention the main thread instantiates it, and the
    link thread does the rest.
    """

    def __init__(self, worker: str, policy: ReseedPolicy) -> None:
        self._worker = worker
        self._policy = policy
        self._lock = threading.Lock()
        self._seeded_at = 0.0
        self._seeded_from = "local"
        self._missing: str | None = None
        self._reason = "instantiate"
        self._forks = 0

    @property
    def failed(self) -> bool:
        """Whether an operation of the generator failed. That is latched: it gives nothing any
        more, so that every handshake fails (SP 800-90A Rev. 1 §11.3.6), and only another process
        has another generator.
        """
        return _engine.drbg_status().failed

    @property
    def wants_coordinator(self) -> bool:
        """Whether the last seed was made without the coordinator."""
        return self._seeded_from == "local"

    def instantiate(self, coordinator_seed: bytes | None, now: float) -> None:
        """Seed it for the first time; before the first connection.

        :param coordinator_seed: None: local randomness only.
        :raises RuntimeError: it is instantiated already, its self-test failed, or it gives nothing.
        :raises OSError: the kernel gives no randomness.
        """
        with self._lock:
            seed = self._material(coordinator_seed, "instantiate")
            _engine.drbg_seed(seed, hashlib.sha384(self._worker.encode()).digest())
            # One that fails at its first request shall not take a connection.
            _engine.drbg_generate(1)
            self._forks = _engine.drbg_status().forks
            missing = None if coordinator_seed else "no answer"
            self._seeded(coordinator_seed, "instantiate", missing, now)

    def reseed(
        self, coordinator_seed: bytes | None, reason: str, now: float, missing: str | None = None
    ) -> None:
        """Seed it anew.

        :param reason: for the statistics: ``requests``, ``interval``, ``order``, ``coordinator``
            (after a time without it), ``continued``, ``suspended``.
        :param missing: for the statistics: why there is no seed of the coordinator's.
        :raises RuntimeError: it is not instantiated, or has failed.
        :raises OSError: the kernel gives no randomness.
        """
        with self._lock:
            _engine.drbg_reseed(self._material(coordinator_seed, reason))
            self._seeded(coordinator_seed, reason, missing, now)

    def coordinator_missing(self, why: str) -> None:
        """The coordinator was asked and gave no seed, in the middle of a time without it."""
        with self._lock:
            if self._seeded_from == "local":
                self._missing = why

    def due(self, now: float) -> str | None:
        """The reason for which a reseed is due, or None."""
        status = _engine.drbg_status()
        if not status.seeded:
            return None
        return self._policy.due(status.requests_since_reseed, now - self._seeded_at)

    def stats(self, now: float) -> dict[str, Any]:
        """For the heartbeat. Counts and times, nothing of the state."""
        status = _engine.drbg_status()
        if status.forks != self._forks:
            # The engine reseeds a forked child by itself, from the kernel.
            with self._lock:
                self._forks = status.forks
                self._seeded(None, "fork", "a forked process", now)
        return {
            "requests": status.requests,
            "reseeds": status.reseeds,
            "requests_since_reseed": status.requests_since_reseed,
            "seeded_from": self._seeded_from,
            "local_reason": self._missing,
            "last_reseed_age": round(now - self._seeded_at, 3) if status.seeded else None,
            "last_reseed_reason": self._reason,
            "failed": status.failed,
        }

    def _material(self, coordinator_seed: bytes | None, purpose: str) -> bytes:
        return seed_material(
            os.getrandom(SEED_BYTES), coordinator_seed or b"", self._worker, purpose
        )

    def _seeded(
        self, coordinator_seed: bytes | None, reason: str, missing: str | None, now: float
    ) -> None:
        self._seeded_at = now
        self._seeded_from = "local" if coordinator_seed is None else "coordinator"
        self._missing = missing
        self._reason = reason
