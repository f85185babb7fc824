"""The coordinator as one thing: its parts, made, started and stopped together.

For the main thread. Threads that it starts: the broker, the entropy thread, the authenticator (with
``tcp://`` endpoints), the admin server.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Final

import zmq

from coordinator.admin.server import AdminServer
from coordinator.auth import Authenticator
from coordinator.broker import Broker, BrokerStoppedError
from coordinator.control import ControlDesk
from coordinator.endpoints import Endpoint
from coordinator.entropy import EntropyAccumulator, ReadReason
from coordinator.gathering import NoiseGatherer, fill
from coordinator.log import get_logger
from coordinator.lookups import SessionDesk
from coordinator.noise import available_sources
from coordinator.orders import OrderBook
from coordinator.parking import ParkingTable
from coordinator.permissions import AllowList
from coordinator.registry import Registry
from coordinator.sessions import SessionCache
from coordinator.settings import CoordinatorSettings
from coordinator.status import Process
from coordinator.strikes import STRIKE_BYTES, StrikeRegister
from coordinator.ticket_desk import TicketDesk
from coordinator.ticket_keys import KeyRing
from coordinator.traffic import Traffic

__all__ = ["Coordinator"]

ASK_SECONDS: Final = 0.5
"""How long the entropy thread waits for the broker before it looks again later."""

_log = get_logger("coordinator")


class Coordinator:
    """A running coordinator. It is made started, or not at all."""

    def __init__(self, settings: CoordinatorSettings, on_end: Callable[[], None]) -> None:
        """Bind everything and start.

        :param on_end: called from another thread if the broker ends by itself.
        :raises StartError: a setting cannot be followed; nothing is left behind.
        """
        with ExitStack() as started:
            self._start(started, settings, on_end)
            self._started = started.pop_all()

    @property
    def admin_url(self) -> str:
        """``http://HOST:PORT`` of the admin server."""
        return self._admin.url

    @property
    def sessions_address(self) -> str:
        """Where the *sessions* endpoint is bound."""
        return self._sessions.address

    @property
    def control_address(self) -> str:
        """Where the *control* endpoint is bound."""
        return self._control.address

    def alive(self) -> bool:
        """Whether the broker runs."""
        return self._broker.alive()

    def status(self) -> Future[dict[str, Any]]:
        """The status object; any thread. After :meth:`stop` it is an error."""
        return self._broker.status()

    def stop(self) -> None:
        """Stop everything, the latest first. Bounded: about 3 s at worst."""
        self._started.close()

    def _start(
        self, started: ExitStack, settings: CoordinatorSettings, on_end: Callable[[], None]
    ) -> None:
        """
        :param started: told how to end each thing that has been started.
        """
        process = Process(
            pid=os.getpid(),
            started=time.time(),
            boot=secrets.token_hex(8),
            version=settings.version,
            deployment=settings.deployment,
        )
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        started.callback(context.destroy, linger=0)
        traffic = Traffic()
        allowed = AllowList(settings.allowed)
        if settings.curve is not None:
            authenticator = Authenticator(context, allowed, traffic)
            authenticator.start()
            started.callback(authenticator.stop)
        self._sessions = Endpoint(
            context, "coordinator.sessions", settings.sessions_endpoint, settings.curve, allowed
        )
        started.callback(self._sessions.close)
        self._control = Endpoint(
            context, "coordinator.control", settings.control_endpoint, settings.curve, allowed
        )
        started.callback(self._control.close)

        sources = available_sources(settings.entropy_sources)
        for source in sources:
            started.callback(source.close)
        entropy = EntropyAccumulator(
            (source.spec for source in sources), retest=settings.entropy_retest
        )

        def deliver(name: str, samples: bytes) -> None:
            entropy.add(name, samples, time.monotonic())

        def failed(name: str, reason: str) -> None:
            entropy.fail(name, reason, time.monotonic())

        def gather() -> None:
            fill(sources, lambda: entropy.available() >= entropy.required_bits, deliver, failed)

        gather()
        if entropy.available() < entropy.required_bits:
            _log.warning("entropy insufficient", sources=",".join(s.spec.name for s in sources))

        cache = SessionCache(
            ttl=settings.sessions_ttl,
            max_bytes=settings.sessions_max_bytes,
            max_entries=settings.sessions_max_entries,
            first_mark=1 + secrets.randbits(62),
        )
        strikes = StrikeRegister(
            capacity=min(
                settings.sessions_max_entries, settings.sessions_max_bytes // STRIKE_BYTES
            ),
            now=time.monotonic(),
            wall=time.time(),
        )
        desk = SessionDesk(cache, ParkingTable(park=settings.park), strikes)
        registry = Registry(lease=settings.lease_timeout)
        ring = KeyRing(
            rotate_every=settings.ticket_rotate_every,
            keep=settings.ticket_keep,
            random=secrets.token_bytes,
        )
        traffic.sessions_address = self._sessions.address
        traffic.control_address = self._control.address
        control_desk = ControlDesk(
            process=process,
            registry=registry,
            orders=OrderBook(),
            entropy=entropy,
            sessions=desk,
            tickets=TicketDesk(ring, strikes, registry, settle=settings.lease_timeout),
            gather=gather,
            traffic=traffic,
            heartbeat=settings.heartbeat,
            order_timeout=settings.order_timeout,
        )
        self._broker = Broker(self._sessions, self._control, desk, control_desk, traffic, on_end)
        self._admin = AdminServer(settings.admin_host, settings.admin_port, self._broker.status)
        started.callback(self._admin.close)
        self._broker.start()
        started.callback(self._broker.stop)

        def ask() -> dict[str, ReadReason]:
            asked = self._broker.call(lambda: entropy.to_read(time.monotonic()))
            try:
                return asked.result(ASK_SECONDS)
            except (TimeoutError, BrokerStoppedError):
                return {}

        gatherer = NoiseGatherer(
            sources,
            ask,
            lambda name, samples: _forget(self._broker.call(lambda: deliver(name, samples))),
            lambda name, reason: _forget(self._broker.call(lambda: failed(name, reason))),
        )
        gatherer.start()
        started.callback(gatherer.stop)
        self._admin.start()
        started.callback(self._admin.stop)
        _log.info(
            "coordinator ready",
            sessions=self._sessions.address,
            control=self._control.address,
            admin=self._admin.url,
            boot=process.boot,
        )


def _forget(_: object) -> None:
    """A result that nobody waits for."""
