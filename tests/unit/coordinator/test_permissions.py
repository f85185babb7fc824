from __future__ import annotations

import pytest

from coordinator.auth import check_endpoint
from coordinator.errors import MessageError, StartError
from coordinator.permissions import LOCAL, PERMISSIONS, AllowList
from coordinator.protocol import CONTROL_TYPES
from coordinator.settings import ROLES, AllowedKey, ServerCurve

CURVE = ServerCurve(public="p" * 40, secret="s" * 40)


def test_over_ipc_everything_is_allowed() -> None:
    for type_ in (*CONTROL_TYPES, "sessions", "ack", "register-supervisor"):
        LOCAL.require(type_)


def test_every_role_and_every_message_has_its_place_in_the_table() -> None:
    assert set(PERMISSIONS) == set(ROLES)
    granted = frozenset[str]().union(*PERMISSIONS.values())
    assert granted == CONTROL_TYPES | {"sessions", "ack", "register-supervisor"}


def test_a_key_that_is_not_listed_is_nobody_s() -> None:
    allowed = AllowList([AllowedKey(public="k", role="admin", name="n")])
    assert allowed.peer("k").name == "n"
    for unknown in ("", "None", "K"):
        with pytest.raises(MessageError) as refused:
            allowed.peer(unknown)
        assert refused.value.code == "forbidden"


def test_a_tcp_endpoint_needs_curve() -> None:
    with pytest.raises(StartError, match=r"coordinator\.sessions.*keys init"):
        check_endpoint("coordinator.sessions", "tcp://127.0.0.1:*", None)
    check_endpoint("coordinator.sessions", "tcp://127.0.0.1:*", CURVE)
    check_endpoint("coordinator.sessions", "ipc:///run/x", None)


@pytest.mark.parametrize("endpoint", ["inproc://x", "udp://127.0.0.1:1", "pgm://x", "/run/x", ""])
def test_other_transports_are_refused(endpoint: str) -> None:
    with pytest.raises(StartError, match="neither"):
        check_endpoint("coordinator.control", endpoint, CURVE)
