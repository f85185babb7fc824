"""Why a TLS connection ended, for ``connection_lost``.

::

    ShardError                          (coordinator.errors)
    └── ConnectionClosedError           attributes: reason, alert, detail
        ├── TruncatedError              the client closed TCP without close_notify (RFC 8446 §6.1)
        ├── ConnectionResetByPeerError  TCP reset
        ├── AlertReceivedError          the client sent a fatal alert
        ├── AlertSentError              we did: the client broke the protocol
        ├── HandshakeTimeoutError       the handshake took longer than ``handshake_timeout``
        ├── IdleTimeoutError            no byte moved for ``idle_timeout``
        ├── ConnectionAbortedHereError  ``abort()``, or a deadline of the worker's own end
        ├── NoRandomnessError           the worker's DRBG has failed: no handshake succeeds
        ├── HandlerRaisedError          a callback of the application raised; it is the cause
        └── EngineError                 a defect in the engine, contained to this connection
"""

from __future__ import annotations

from typing import ClassVar, Final

from coordinator.errors import ShardError

__all__ = [
    "AlertReceivedError",
    "AlertSentError",
    "BackendResetError",
    "BackendUnavailableError",
    "ConnectionAbortedHereError",
    "ConnectionClosedError",
    "ConnectionResetByPeerError",
    "EngineError",
    "HandlerRaisedError",
    "HandshakeTimeoutError",
    "IdleTimeoutError",
    "NoRandomnessError",
    "ProxyHeaderError",
    "ShardError",
    "TruncatedError",
    "closed_error",
]


class ConnectionClosedError(ShardError):
    """A TLS connection ended otherwise than in order.

    :ivar reason: one word, stable: it is the key of the worker's counters.
    :ivar alert: the alert sent or received, in RFC 8446 §6 spelling, if one was.
    :ivar detail: for a log at DEBUG level; no secret, no bytes of the peer.
    """

    reason: ClassVar[str] = "closed"

    def __init__(self, *, alert: str | None = None, detail: str = "") -> None:
        self.alert = alert
        self.detail = detail
        super().__init__(": ".join(part for part in (self.reason, alert, detail) if part))


class TruncatedError(ConnectionClosedError):
    """The client closed TCP without close_notify: what it sent may be cut short."""

    reason = "truncated"


class ConnectionResetByPeerError(ConnectionClosedError):
    """The client reset the TCP connection."""

    reason = "reset"


class AlertReceivedError(ConnectionClosedError):
    """The client sent a fatal alert."""

    reason = "alert_received"


class AlertSentError(ConnectionClosedError):
    """The client broke the protocol and was told so with a fatal alert."""

    reason = "alert_sent"


class HandshakeTimeoutError(ConnectionClosedError):
    """The handshake was not complete within ``handshake_timeout``."""

    reason = "handshake_timeout"


class IdleTimeoutError(ConnectionClosedError):
    """No byte moved either way, or none left a backlog, for ``idle_timeout``."""

    reason = "idle_timeout"


class ConnectionAbortedHereError(ConnectionClosedError):
    """This end gave the connection up: ``abort()``, or the worker stopped and could not wait."""

    reason = "aborted"


class NoRandomnessError(ConnectionClosedError):
    """The worker's DRBG has failed, so no handshake succeeds; the worker is being replaced."""

    reason = "no_randomness"


class HandlerRaisedError(ConnectionClosedError):
    """A callback of the application raised; ``__cause__`` is what it raised."""

    reason = "handler_raised"


class ProxyHeaderError(ConnectionClosedError):
    """A connection from a trusted balancer did not begin with a PROXY header."""

    reason = "proxy_header"


class BackendResetError(ConnectionClosedError):
    """The backend of a relayed connection reset it, and so the client's was reset."""

    reason = "backend_reset"


class BackendUnavailableError(ConnectionClosedError):
    """No backend could be reached for a relayed connection."""

    reason = "backend_unavailable"


class EngineError(ConnectionClosedError):
    """The engine contained a defect of its own to this connection."""

    reason = "internal"


_BY_REASON: Final[dict[str, type[ConnectionClosedError]]] = {
    kind.reason: kind
    for kind in (
        TruncatedError,
        ConnectionResetByPeerError,
        AlertReceivedError,
        AlertSentError,
        ConnectionAbortedHereError,
        NoRandomnessError,
        ProxyHeaderError,
        BackendResetError,
        EngineError,
    )
}


def closed_error(reason: str, alert: str | None, detail: str) -> ConnectionClosedError | None:
    """The exception for an engine's ``Closed`` effect; None for an orderly end (``done``).

    A reason this version does not know is an :class:`EngineError`.
    """
    if reason == "done":
        return None
    return _BY_REASON.get(reason, EngineError)(alert=alert, detail=detail)
