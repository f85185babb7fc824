"""Who may connect, and what each may send.

``ipc://`` endpoints live in a directory of mode 0700: whoever reaches them may do everything.
``tcp://`` endpoints speak CURVE (ZeroMQ RFC 26); a client's public key must be on the allow-list,
and the role written beside it limits the messages it may send. A message whose key cannot be told
is forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import zmq
from zmq.auth.thread import ThreadAuthenticator

from coordinator.errors import MessageError, StartError
from coordinator.protocol import ERROR_FORBIDDEN
from coordinator.settings import AllowedKey, ServerCurve

__all__ = ["LOCAL", "PERMISSIONS", "AllowList", "Authenticator", "Peer", "check_endpoint", "secure"]

ZAP_DOMAIN: Final = "shardtls"

_WORKER: Final = frozenset({"sessions", "register", "heartbeat", "goodbye", "seed", "ack", "ping"})
PERMISSIONS: Final = {
    "worker": _WORKER,
    "supervisor": _WORKER | {"register-supervisor"},
    "admin": frozenset({"status", "scale", "drain", "reload", "rotate", "purge", "ping"}),
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


class Authenticator:
    """The thread that answers libzmq's question whether a key may connect (ZeroMQ RFC 27, ZAP).

    :meth:`start` and :meth:`stop` belong to the main thread.

    :ivar refused: connections refused so far.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed: AllowList) -> None:
        self._allowed = allowed
        self._thread = ThreadAuthenticator(context)
        self.refused = 0

    def start(self) -> None:
        """Begin to answer. Must come before any CURVE socket is bound."""
        self._thread.start()
        self._thread.configure_curve_callback(domain=ZAP_DOMAIN, credentials_provider=self)

    def stop(self) -> None:
        """End the thread."""
        self._thread.stop()

    def callback(self, domain: str, key: bytes) -> bool:
        """Called on the authenticator's thread, with the key in Z85."""
        known = domain == ZAP_DOMAIN and key.decode("ascii", "replace") in self._allowed
        if not known:
            self.refused += 1
        return known


def check_endpoint(setting: str, endpoint: str, curve: ServerCurve | None) -> None:
    """Refuse what would be open to everybody.

    :param setting: the setting's path, for the error.
    :raises StartError: a ``tcp://`` endpoint without CURVE, or neither ``tcp://`` nor ``ipc://``.
    """
    if endpoint.startswith("ipc://"):
        return
    if not endpoint.startswith("tcp://"):
        raise StartError(f"{setting}: {endpoint!r} is neither ipc://PATH nor tcp://HOST:PORT")
    if curve is None:
        raise StartError(
            f"{setting}: {endpoint} would be open to everybody who reaches it; make keys with"
            " `shardtls keys init DIR` and set coordinator.key, or use an ipc:// endpoint"
        )


def secure(socket: zmq.Socket[bytes], curve: ServerCurve) -> None:
    """Make a socket speak CURVE as the server, before it is bound."""
    socket.curve_server = True
    socket.curve_secretkey = curve.secret.encode("ascii")
    socket.curve_publickey = curve.public.encode("ascii")
    socket.zap_domain = ZAP_DOMAIN.encode("ascii")
    # Without this libzmq lets every key in when nobody answers for the domain.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
