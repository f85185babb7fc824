from __future__ import annotations

import msgpack
import pytest

from coordinator.settings import AllowedKey, CoordinatorSettings, ServerCurve

SETTINGS = CoordinatorSettings(
    sessions_endpoint="tcp://127.0.0.1:*",
    control_endpoint="ipc:///run/x/control",
    sessions_ttl=60.0,
    curve=ServerCurve(public="p" * 40, secret="the-secret-key"),
    allowed=(AllowedKey(public="q" * 40, role="worker", name="web-1"),),
    entropy_sources=("getrandom",),
    log_file="/var/log/shardtls.log",
)


def test_the_frame_survives_msgpack() -> None:
    frame = msgpack.unpackb(msgpack.packb(SETTINGS.to_frame()))
    assert CoordinatorSettings.from_frame(frame) == SETTINGS


def test_what_a_frame_leaves_out_has_its_default() -> None:
    frame = {"sessions_endpoint": "ipc://a", "control_endpoint": "ipc://b"}
    assert CoordinatorSettings.from_frame(frame) == CoordinatorSettings(
        sessions_endpoint="ipc://a", control_endpoint="ipc://b"
    )


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError):
        CoordinatorSettings.from_frame({**SETTINGS.to_frame(), "sesions_ttl": 1})


def test_the_repr_holds_no_secret() -> None:
    assert "the-secret-key" not in repr(SETTINGS)
    assert "p" * 40 in repr(SETTINGS)
