"""Clients that come and go all the time, while a test does something to the server."""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol, Self

from tests.certificates import Certificate
from tests.client import Visit, client_context, visit
from tests.waiting import eventually

__all__ = ["Failure", "Target", "Traffic"]


class Target(Protocol):
    """Where clients go."""

    @property
    def address(self) -> tuple[str, int]: ...

    @property
    def certificate(self) -> Certificate: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A visit that went wrong.

    :ivar after: seconds it took to fail.
    """

    error: OSError
    after: float


@dataclass(slots=True)
class _Record:
    visits: list[tuple[float, Visit]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Traffic:
    """`clients` threads; each visits again and again and offers what the visit before gave it.

    The first client speaks TLS 1.3, the second 1.2, and so on.
    """

    def __init__(self, server: Target, *, clients: int = 4, timeout: float = 5.0) -> None:
        self._server = server
        self._timeout = timeout
        self._stop = threading.Event()
        self._records = [_Record() for _ in range(clients)]
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(record, ("TLSv1.3", "TLSv1.2")[number % 2]),
                name=f"traffic-{number}",
            )
            for number, record in enumerate(self._records)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=self._timeout * 3)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def _run(self, record: _Record, version: str) -> None:
        context = client_context(self._server.certificate, version)
        session: ssl.SSLSession | None = None
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                made = visit(self._server.address, context, session, timeout=self._timeout)
            except OSError as error:
                record.failures.append(Failure(error, time.monotonic() - started))
                session = None
                self._stop.wait(0.01)
            else:
                record.visits.append((started, made))
                session = made.session

    @property
    def failures(self) -> list[Failure]:
        """Of all clients so far."""
        return [failure for record in self._records for failure in list(record.failures)]

    def visits(self, since: float = 0.0, until: float = float("inf")) -> list[Visit]:
        """Those that began in the span given (monotonic clock)."""
        return [
            made
            for record in self._records
            for started, made in list(record.visits)
            if since <= started < until
        ]

    def more(self, visits: int = 5, *, within: float = 10.0) -> None:
        """Wait until every client has made so many more visits."""
        targets = [len(record.visits) + visits for record in self._records]
        eventually(
            lambda: all(
                len(record.visits) >= target
                for record, target in zip(self._records, targets, strict=True)
            ),
            within=within,
            what=f"{visits} more visits by every client (failures: {self.failures[-3:]})",
        )
