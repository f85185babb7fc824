"""CURVE for ``tcp://`` endpoints (ZeroMQ RFC 26), and the refusal of endpoints without it.

Who is on the allow-list may connect; what each may send is in :mod:`coordinator.permissions`.
"""

from __future__ import annotations

from typing import Final

import zmq
from zmq.auth.thread import ThreadAuthenticator

from coordinator.errors import StartError
from coordinator.permissions import AllowList
from coordinator.settings import ServerCurve
from coordinator.traffic import Traffic

__all__ = ["Authenticator", "check_endpoint", "secure"]

ZAP_DOMAIN: Final = "shardtls"


class Authenticator:
    """The thread that answers libzmq's question whether a key may connect (ZeroMQ RFC 27, ZAP).

    :meth:`start` and :meth:`stop` belong to the main thread.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], allowed: AllowList, traffic: Traffic
    ) -> None:
        self._allowed = allowed
        self._traffic = traffic
        self._thread = ThreadAuthenticator(context)

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
            self._traffic.connections_refused += 1
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
