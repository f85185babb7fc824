"""A worker process: ``python -m shard.worker``, spawned by a supervisor, never by hand.

Its settings come down the lifeline (standard input), nothing of them in argv or the environment.
The main thread starts the others and then waits for orders::

    main      lifeline and signals            reader-N  connections and the application
    link      the control endpoint, the DRBG  writer-N  backlogs

Exit codes: 0 after a drain or a stop, 1 after a defect, 3 if it could not start.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import zmq

from coordinator import log
from coordinator.errors import StartError
from coordinator.lifeline import Lifeline
from shard import __version__, apps
from shard._engine import Listener, TlsContext, VirtualHost
from shard.accepting import Capacity
from shard.drbg import Drbg, ReseedPolicy
from shard.link import Link
from shard.membership import Identity
from shard.reader import STOP_WITHIN, Reader
from shard.resumption import Breaker
from shard.worker_settings import WorkerSettings
from shard.writer import Writer

if TYPE_CHECKING:
    from shard.apps.proxy import Proxy

__all__ = ["EXIT_DEFECT", "EXIT_NOT_STARTED", "Worker", "main"]

EXIT_DEFECT: Final = 1
EXIT_NOT_STARTED: Final = 3

FIRST_SEED_WITHIN: Final = 0.3
"""Seconds the start waits for the coordinator's seed; without it the DRBG starts on local
randomness and is reseeded when the coordinator answers."""
ORPHAN_WITHIN: Final = 0.7
"""Seconds an orderly stop may take once the supervisor is gone."""

_log = log.get_logger("worker")


class Worker:
    """The worker's parts and its main thread."""

    def __init__(self, settings: WorkerSettings, lifeline: Lifeline, signals: int) -> None:
        """Build everything; nothing runs yet.

        :param signals: becomes readable when a SIGTERM has come.
        :raises StartError: the application, the TLS settings or a listening socket is unusable.
        """
        self._settings = settings
        self._lifeline = lifeline
        self._signals = signals
        self._events = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._deadline: float | None = None
        self._readers_ended = 0
        self._draining = False
        self._proxy: Proxy | None = None
        if settings.app.startswith("proxy:"):
            from shard.apps.proxy import Proxy

            self._proxy = Proxy(settings.app, settings.proxy)
        factory = self._proxy or apps.load(settings.app)
        context = _tls_context(settings)
        try:
            self._listeners = [
                Listener(
                    fd,
                    proxy_protocol_from=settings.proxy_protocol_from,
                    tolerate_truncation=self._proxy is not None,
                )
                for fd in settings.listeners
            ]
        except OSError as error:
            raise StartError(f"a listening socket is unusable: {error.strerror}") from error
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._drbg = Drbg(
            settings.worker,
            ReseedPolicy(settings.drbg_reseed_requests, settings.drbg_reseed_interval),
        )
        self._capacity = Capacity(settings.max_connections)
        self._writers = [
            Writer(f"writer-{index}", settings.idle_timeout) for index in range(settings.writers)
        ]
        self._readers = [
            Reader(
                index,
                settings,
                listeners=self._listeners,
                context=context,
                factory=factory,
                capacity=self._capacity,
                writers=self._writers,
                zmq_context=self._zmq,
                finished=self._wake,
            )
            for index in range(settings.readers)
        ]
        self._link = Link(
            Identity(
                worker=settings.worker,
                pid=os.getpid(),
                host=socket.gethostname(),
                group=settings.group,
                slot=settings.slot,
                version=__version__,
            ),
            settings.control_endpoint,
            settings.curve,
            drbg=self._drbg,
            stats=self.stats,
            answers=self._coordinator_answers,
            zmq_context=self._zmq,
        )

    def run(self) -> int:
        """Serve until told otherwise.

        :returns: the exit code.
        """
        self._link.thread.start()
        seed = self._link.first_seed(FIRST_SEED_WITHIN)
        self._drbg.instantiate(seed, time.monotonic())
        self._link.instantiated()
        # What exists now stays: the collector need not look at it again. Connections are freed by
        # reference counts, so it may look seldom.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if self._proxy is not None:
            self._proxy.start()
        for thread in (*(w.thread for w in self._writers), *(r.thread for r in self._readers)):
            thread.start()
        self._link.change_state("ready")
        self._lifeline.send({"type": "ready", "worker": self._settings.worker})
        _log.debug("serving", app=self._settings.app)
        self._wait()
        return self._leave()

    def stats(self) -> dict[str, Any]:
        """What the coordinator is told with each heartbeat. Any thread."""
        misses: dict[str, int] = {}
        for reader in self._readers:
            for reason, count in list(reader.channel.resumption.misses.items()):
                misses[reason] = misses.get(reason, 0) + count
        ended: dict[str, int] = {}
        for reader in self._readers:
            for reason, count in list(reader.serving.ended.items()):
                ended[reason] = ended.get(reason, 0) + count
        readers = self._readers
        all_closed = all(reader.channel.resumption.breaker is Breaker.CLOSED for reader in readers)
        return {
            "connections": sum(len(reader.serving.connections) for reader in readers),
            "handshakes": {
                "full": sum(reader.serving.full for reader in readers),
                "resumed": sum(reader.serving.resumed for reader in readers),
                "failed": sum(reader.serving.failed_handshakes for reader in readers),
            },
            "lookups": {
                "hits": sum(reader.channel.resumption.hits for reader in readers),
                "misses": misses,
            },
            "breaker": "closed" if all_closed else "open",
            "ended": ended,
            "handler_errors": sum(reader.serving.handler_errors for reader in readers),
            "accept_pauses": sum(
                reader.acceptor.exhausted + reader.acceptor.limited for reader in readers
            ),
            "backends": {} if self._proxy is None else self._proxy.stats(),
            "drbg": self._drbg.stats(time.monotonic()),
        }

    # -- Main thread ----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until every reader has ended, or the deadline of a stop."""
        poll = select.poll()
        poll.register(self._lifeline.fileno(), select.POLLIN)
        poll.register(self._events, select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        while self._readers_ended < len(self._readers):
            if self._deadline is None:
                timeout = None
            else:
                timeout = (self._deadline - time.monotonic()) * 1000
                if timeout <= 0:
                    return
            for fd, _ in poll.poll(timeout):
                if fd == self._events:
                    self._reader_ended()
                elif fd == self._signals:
                    os.read(fd, 64)
                    self._drain()
                elif not self._orders():
                    # The supervisor is gone: never stay behind as an orphan.
                    poll.unregister(fd)
                    self._stop(ORPHAN_WITHIN)

    def _reader_ended(self) -> None:
        # Counted, not asked of the threads: one that has just said so is alive for a moment yet,
        # and nothing would wake this thread again.
        self._readers_ended += os.eventfd_read(self._events)
        if any(reader.crashed for reader in self._readers):
            # Half a worker is worse than none: its connections are ended, another replaces it.
            self._stop(STOP_WITHIN)

    def _orders(self) -> bool:
        """Carry out the supervisor's orders; False at end of file."""
        frames, alive = self._lifeline.poll()
        for frame in frames:
            order = frame.get("type")
            if order == "drain":
                self._drain()
            elif order == "stop":
                self._stop(STOP_WITHIN + 0.2)
            elif order == "reopen_logs":
                log.reopen()
        return alive

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        _log.info("draining", connections=self._capacity.count)
        self._lifeline.send({"type": "draining"})
        self._link.change_state("draining")
        for reader in self._readers:
            reader.drain()

    def _stop(self, within: float) -> None:
        self._deadline = min(self._deadline or float("inf"), time.monotonic() + within)
        for reader in self._readers:
            reader.stop()

    def _leave(self) -> int:
        for writer in self._writers:
            writer.stop()
        self._link.stop()
        self._link.thread.join(0.2)
        if self._readers_ended == len(self._readers):
            for reader in self._readers:
                reader.thread.join(0.2)
        ended = not any(reader.thread.is_alive() for reader in self._readers)
        if ended and not self._link.thread.is_alive():
            # Gives the goodbye its moment to leave.
            self._zmq.term()
        return EXIT_DEFECT if any(reader.crashed for reader in self._readers) else 0

    def _wake(self) -> None:
        os.eventfd_write(self._events, 1)

    def _coordinator_answers(self) -> None:
        for reader in self._readers:
            reader.coordinator_answers()


def _tls_context(settings: WorkerSettings) -> TlsContext:
    try:
        hosts = [
            VirtualHost(names=host.names, chain=host.chain, key=host.key, scope=host.scope)
            for host in settings.hosts
        ]
        return TlsContext(
            hosts,
            min_version=settings.min_version,
            cipher_suites=settings.cipher_suites,
            groups=settings.groups,
            alpn=settings.alpn,
            resumption=settings.resumption != "off",
            tickets_per_connection=settings.tickets_per_connection,
            ticket_lifetime=settings.session_ttl,
        )
    except ValueError as error:
        raise StartError(f"TLS settings refused by the engine: {error}") from error


def _watch_sigterm() -> int:
    """Have SIGTERM wake the main thread.

    :returns: a descriptor that becomes readable, to be read a byte a signal.
    """
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # The supervisor orchestrates: a Ctrl-C that reaches the whole process group is its affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    return readable


def main() -> int:
    """The process: settings, start, serve.

    :returns: the exit code.
    """
    signals = _watch_sigterm()
    try:
        lifeline = Lifeline.from_stdin()
        frame = lifeline.receive()
    except OSError:
        # Standard input is a terminal, a file or a pipe.
        frame = None
    if frame is None or frame.get("type") != "settings":
        sys.stderr.write("shard.worker is started by shardtls; try: shardtls up --help\n")
        return EXIT_NOT_STARTED
    try:
        settings = WorkerSettings.from_frame(frame["settings"])
        del frame
        _configure_log(settings)
        worker = Worker(settings, lifeline, signals)
    except StartError as error:
        lifeline.send({"type": "failed", "reason": str(error)})
        return EXIT_NOT_STARTED
    return worker.run()


def _configure_log(settings: WorkerSettings) -> None:
    try:
        log.configure(settings.log_level, settings.log_format, settings.log_file, settings.worker)
    except OSError as error:
        raise StartError(f"log.file {settings.log_file}: {error.strerror}") from error


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that did not end in time shall not keep the process: it has said all it had to say.
    os._exit(code)
