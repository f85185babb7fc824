"""A worker process: ``python -m shard.worker``, spawned by a supervisor, never by hand.

Its settings come down the lifeline (standard input), nothing of them in argv or the environment.
The main thread starts the others and then waits for orders::

    main      lifeline and signals            reader-N  connections and the application
    link      the control endpoint, the DRBG  writer-N  backlogs

Exit codes: 0 after a drain or a stop, 1 after a defect, 3 if it could not start, 4 after its DRBG
failed.
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
from shard._engine import Listener, TlsContext, VirtualHost, drbg_zeroize
from shard._engine import TicketKeys as EngineTicketKeys
from shard.accepting import Capacity
from shard.drbg import Drbg, ReseedPolicy
from shard.link import Link
from shard.mailbox import Mailbox
from shard.membership import Identity
from shard.reader import SHUTDOWN_WITHIN, STOP_WITHIN, Reader
from shard.ticket_keys import TicketKeys
from shard.worker_report import expiries, readers_report, with_tickets
from shard.worker_settings import WorkerSettings
from shard.writer import Writer

if TYPE_CHECKING:
    from shard.apps.looped import LoopApplication
    from shard.apps.proxy import Proxy

__all__ = ["EXIT_DEFECT", "EXIT_DRBG_FAILED", "EXIT_NOT_STARTED", "Worker", "main"]

EXIT_DEFECT: Final = 1
EXIT_NOT_STARTED: Final = 3
EXIT_DRBG_FAILED: Final = 4

FIRST_SEED_WITHIN: Final = 0.3
"""Seconds the start waits for the coordinator's seed; without it the DRBG starts on local
randomness and is reseeded when the coordinator answers."""
FIRST_KEYS_WITHIN: Final = 0.5
"""Seconds, from the same moment, that it waits for the ticket keys; without them it issues no
tickets until they come."""
ORPHAN_WITHIN: Final = 0.7
"""Seconds an orderly stop may take once the supervisor is gone."""
LINK_STUCK: Final = 1.0
"""Seconds after which a link thread that has not come round is no sign of life any more."""

_log = log.get_logger("worker")


class Worker:
    """The worker's parts and its main thread."""

    def __init__(self, settings: WorkerSettings, lifeline: Lifeline, signals: int) -> None:
        """Build everything; nothing runs yet.

        :param signals: becomes readable when a signal has come; a byte is its number.
        :raises StartError: the application, the TLS settings or a listening socket is unusable.
        """
        self._settings = settings
        self._lifeline = lifeline
        self._signals = signals
        self._mailbox = Mailbox()
        self._mailbox.adopt()
        self._deadline: float | None = None
        self._ready = False
        self._draining = False
        self._sick = False
        self._expiries = expiries(settings.hosts)
        self._proxy: Proxy | None = None
        application: apps.Factory | LoopApplication
        if settings.app.startswith("proxy:"):
            from shard.apps.proxy import Proxy

            application = self._proxy = Proxy(settings.app, settings.proxy)
        else:
            application = apps.load(settings.app, settings.asgi)
        self._ticket_keys: EngineTicketKeys | None = None
        if settings.resumption == "tickets":
            self._ticket_keys = EngineTicketKeys(settings.worker, settings.session_ttl)
        context = _tls_context(settings, self._ticket_keys)
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
                application=application,
                capacity=self._capacity,
                writers=self._writers,
                zmq_context=self._zmq,
                changed=self._changed,
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
            sick=self._fell_sick,
            zmq_context=self._zmq,
            ticket_keys=None if self._ticket_keys is None else TicketKeys(self._ticket_keys),
        )

    def run(self) -> int:
        """Serve until told otherwise.

        :returns: the exit code.
        """
        self._link.thread.start()
        keys_until = time.monotonic() + FIRST_KEYS_WITHIN
        seed = self._link.first_seed(FIRST_SEED_WITHIN)
        try:
            self._drbg.instantiate(seed, time.monotonic())
        except (OSError, RuntimeError) as error:
            self._lifeline.send({"type": "failed", "reason": f"no randomness: {error}"})
            return EXIT_NOT_STARTED
        self._link.instantiated()
        self._link.first_keys(keys_until - time.monotonic())
        # What exists now stays: the collector need not look at it again. Connections are freed by
        # reference counts, so it may look seldom.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if self._proxy is not None:
            self._proxy.start()
        for thread in (*(w.thread for w in self._writers), *(r.thread for r in self._readers)):
            thread.start()
        self._wait()
        return self._leave()

    def stats(self) -> dict[str, Any]:
        """What the coordinator is told with each heartbeat. Any thread."""
        report = readers_report(self._readers, control=self._link.messages)
        if self._ticket_keys is not None:
            report["lookups"] = with_tickets(
                report["lookups"], self._ticket_keys.status(), struck=self._settings.single_use
            )
        return {
            **report,
            "certificates": self._expiries,
            "backends": {} if self._proxy is None else self._proxy.stats(),
            "drbg": self._drbg.stats(time.monotonic()),
        }

    # -- Main thread ----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until every reader has ended, or the deadline of a stop."""
        poll = select.poll()
        poll.register(self._lifeline.fileno(), select.POLLIN)
        poll.register(self._mailbox, select.POLLIN)
        poll.register(self._signals, select.POLLIN)
        while not self._ended():
            if self._deadline is None:
                timeout = None
            else:
                timeout = (self._deadline - time.monotonic()) * 1000
                if timeout <= 0:
                    return
            for fd, _ in poll.poll(timeout):
                if fd == self._mailbox.fileno():
                    self._mailbox.woken()
                    self._mailbox.run()
                elif fd == self._signals:
                    self._signalled(os.read(fd, 64))
                elif not self._orders():
                    # The supervisor is gone: never stay behind as an orphan.
                    poll.unregister(fd)
                    self._stop(ORPHAN_WITHIN)

    def _signalled(self, numbers: bytes) -> None:
        if signal.SIGCONT in numbers:
            self._link.continued()
        if signal.SIGTERM in numbers:
            self._drain()

    def _reader_changed(self, _: None) -> None:
        if any(reader.crashed or reader.failure for reader in self._readers):
            # Half a worker is worse than none: its connections are ended, another replaces it.
            self._stop(STOP_WITHIN)
        elif not self._ready and all(reader.started for reader in self._readers):
            self._ready = True
            if not self._draining:
                self._link.change_state("ready")
            self._lifeline.send({"type": "ready", "worker": self._settings.worker})
            _log.debug("serving", app=self._settings.app)

    def _ended(self) -> bool:
        # Not asked of the threads: one that has just said so is alive for a moment yet, and
        # nothing would wake this thread again.
        return all(reader.ended for reader in self._readers)

    def _orders(self) -> bool:
        """Carry out the supervisor's orders; False at end of file."""
        frames, alive = self._lifeline.poll()
        for frame in frames:
            order = frame.get("type")
            if order == "drain":
                self._drain()
            elif order == "stop":
                self._stop(STOP_WITHIN + SHUTDOWN_WITHIN + 0.2)
            elif order == "ping" and time.monotonic() - self._link.turned_at < LINK_STUCK:
                self._lifeline.send({"type": "pong"})
            elif order == "reopen_logs":
                log.reopen()
        return alive

    def _replace(self, reason: str) -> None:
        """Leave, as somebody who is well has to take over."""
        self._sick = True
        self._lifeline.send({"type": "leaving", "reason": reason})
        self._drain()

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
        if self._ended():
            for reader in self._readers:
                reader.thread.join(0.2)
        ended = not any(reader.thread.is_alive() for reader in self._readers)
        if ended and not self._link.thread.is_alive():
            # Gives the goodbye its moment to leave.
            self._zmq.term()
        failure = next((reader.failure for reader in self._readers if reader.failure), None)
        if failure is not None:
            self._lifeline.send({"type": "failed", "reason": str(failure)})
            return EXIT_NOT_STARTED
        if self._link.crashed or any(reader.crashed for reader in self._readers):
            return EXIT_DEFECT
        return EXIT_DRBG_FAILED if self._sick else 0

    # -- Other threads --------------------------------------------------------------------------

    def _changed(self) -> None:
        self._mailbox.call(self._reader_changed, None)

    def _fell_sick(self, reason: str) -> None:
        self._mailbox.call(self._replace, reason)

    def _coordinator_answers(self) -> None:
        for reader in self._readers:
            reader.coordinator_answers()


def _tls_context(settings: WorkerSettings, ticket_keys: EngineTicketKeys | None) -> TlsContext:
    try:
        hosts = [
            VirtualHost(
                names=host.names,
                chain=host.chain,
                key=host.key,
                scope=host.scope,
                ocsp=host.ocsp,
            )
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
            ticket_keys=ticket_keys,
            single_use=settings.single_use,
            client_auth=settings.client_auth,
            client_ca=settings.client_ca,
            crl=settings.crl,
            client_depth=settings.client_depth,
        )
    except ValueError as error:
        raise StartError(f"TLS settings refused by the engine: {error}") from error


def _watch_signals() -> int:
    """Have SIGTERM and SIGCONT wake the main thread.

    :returns: a descriptor that becomes readable, to be read a byte a signal.
    """
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    # The supervisor orchestrates: a Ctrl-C that reaches the whole process group is its affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCONT):
        signal.signal(number, lambda *_: None)
    return readable


def main() -> int:
    """The process: settings, start, serve.

    :returns: the exit code.
    """
    signals = _watch_signals()
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
    drbg_zeroize()
    # Threads that did not end in time shall not keep the process: it has said all it had to say.
    os._exit(code)
