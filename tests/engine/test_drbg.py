"""The limits of the process's generator, as Python meets them; what it gives is tested in
``test_known_seed.py`` and in the engine.
"""

from __future__ import annotations

import pytest

from shard import _engine
from tests.engine.echo_loop import seed_once


@pytest.fixture(autouse=True)
def seeded() -> None:
    seed_once()


def test_a_request_is_at_most_64_kib() -> None:
    before = _engine.drbg_status().requests
    assert len(_engine.drbg_generate(65536)) == 65536
    assert _engine.drbg_generate(0) == b""
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        _engine.drbg_generate(65537)
    assert _engine.drbg_status().requests == before + 1


def test_seeds_and_inputs_are_at_most_48_bytes_and_a_refusal_is_no_failure() -> None:
    for seed in (b"", bytes(47), bytes(49)):
        with pytest.raises(ValueError, match="48 bytes"):
            _engine.drbg_reseed(seed)
    with pytest.raises(ValueError, match="48 bytes"):
        _engine.drbg_reseed(bytes(48), bytes(49))
    assert not _engine.drbg_status().failed
    assert len(_engine.drbg_generate(16)) == 16


def test_it_is_instantiated_once() -> None:
    with pytest.raises(RuntimeError, match="already"):
        _engine.drbg_seed(bytes(48))


def test_a_reseed_starts_the_count_of_requests_anew() -> None:
    _engine.drbg_generate(16)
    before = _engine.drbg_status()
    _engine.drbg_reseed(bytes(48))
    after = _engine.drbg_status()
    assert before.requests_since_reseed > 0
    assert (after.reseeds, after.requests_since_reseed) == (before.reseeds + 1, 0)
