"""What each peer may send. Pure.

``ipc://`` endpoints live in a directory of mode 0700: whoever reaches them may do everything. Over
``tcp://`` a peer's public key must be on the allow-list, and the role written beside it limits its
messages. A message whose key cannot be told is forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from coordinator.errors import MessageError
from coordinator.protocol import ERROR_FORBIDDEN
from coordinator.settings import AllowedKey

__all__ = ["LOCAL", "PERMISSIONS", "AllowList", "Peer"]

_WORKER: Final = frozenset({"sessions", "register", "heartbeat", "goodbye", "seed", "ack", "ping"})
PERMISSIONS: Final = {
    "worker": _WORKER,
    "supervisor": _WORKER | {"register-supervisor"},
    "admin": frozenset(
        {"status", "entropy", "scale", "drain", "reload", "rotate", "purge", "ping"}
    ),
}
"""Role → message types. ``register-supervisor`` stands for a registration in that role."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a message.

    :ivar role: its key's role; None over ``ipc://``, where everything is allowed.
    :ivar name: its key's name, likewise.
    :ivar key: its public key in Z85, likewise.
    """

    role: str | None
    name: str | None
    key: str | None

    def require(self, type_: str) -> None:
        """Check that it may send this.

        :raises MessageError: ``forbidden``.
        """
        if self.role is not None and type_ not in PERMISSIONS[self.role]:
            raise MessageError(ERROR_FORBIDDEN, f"a key of role {self.role} may not send {type_}")


LOCAL: Final = Peer(None, None, None)
"""Whoever connects over ``ipc://``."""


class AllowList:
    """Public keys and their roles. Immutable; any thread."""

    def __init__(self, keys: Iterable[AllowedKey]) -> None:
        self._peers = {key.public: Peer(key.role, key.name, key.public) for key in keys}

    def peer(self, user_id: str) -> Peer:
        """Whose key this is.

        :param user_id: the key in Z85, as ZeroMQ's ``User-Id`` property has it.
        :raises MessageError: ``forbidden``: it is not on the list.
        """
        peer = self._peers.get(user_id)
        if peer is None:
            raise MessageError(ERROR_FORBIDDEN, "this key is not on the allow-list")
        return peer

    def __contains__(self, public: str) -> bool:
        return public in self._peers
