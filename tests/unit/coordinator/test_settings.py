from __future__ import annotations

import msgpack
import pytest

from coordinator.settings import AllowedKey, CoordinatorSettings, EntropySource, ServerCurve

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


@pytest.mark.parametrize(
    ("text", "name", "arguments", "claim"),
    [
        ("jitter", "jitter", (), 1.0),
        ("file:/dev/ttyACM0", "file:/dev/ttyACM0", ("/dev/ttyACM0",), 1.0),
        ("file:/dev/ttyACM0@0.25", "file:/dev/ttyACM0", ("/dev/ttyACM0",), 0.25),
        ("file:/tmp/a b@c@8", "file:/tmp/a b@c", ("/tmp/a b@c",), 8.0),
        ("command:/bin/x -n 'a b'@2", "command:/bin/x", ("/bin/x", "-n", "a b"), 2.0),
    ],
)
def test_entropy_sources(text: str, name: str, arguments: tuple[str, ...], claim: float) -> None:
    source = EntropySource.parse(text)
    assert (source.name, source.arguments, source.claim) == (name, arguments, claim)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("dice", "none of getrandom, hwrng, jitter, workers, file:/PATH"),
        ("file:", "absolute path of its file"),
        ("file:noise", "absolute path of its file"),
        ("command:", "absolute path of its program"),
        ("command:cat /dev/zero", "absolute path of its program"),
        ("command:/bin/x 'a", "No closing quotation"),
        ("file:/a\nb", "absolute path"),
        ("file:/a@0", "over 0 and at most 8"),
        ("file:/a@8.1", "over 0 and at most 8"),
        ("jitter@2", "none of"),
    ],
)
def test_entropy_sources_that_are_wrong(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        EntropySource.parse(text)
