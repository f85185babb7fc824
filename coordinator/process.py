"""The coordinator's main thread: signals, the lifeline, start and stop.

Two ways to run it: as a supervisor's child (``python -m coordinator``, settings and orders come
over the lifeline), and alone (:func:`run`, for ``shardtls coordinator``).
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Final

from coordinator import log
from coordinator.coordinator import Coordinator
from coordinator.errors import StartError
from coordinator.lifeline import Lifeline
from coordinator.settings import CoordinatorSettings

__all__ = ["EXIT_FAILED", "EXIT_OK", "main", "run"]

EXIT_OK: Final = 0
EXIT_FAILED: Final = 3
SWITCH_INTERVAL: Final = 0.0005
"""Seconds."""

_log = log.get_logger("process")


class _Wakeup:
    """Tells the main thread, from a signal handler or another thread, that it has to look."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.stop = False

    def wake(self) -> None:
        os.eventfd_write(self.fd, 1)

    def request_stop(self) -> None:
        self.stop = True
        self.wake()


def run(
    settings: CoordinatorSettings, *, ready: Callable[[Coordinator], None] | None = None
) -> int:
    """Run a coordinator in this process until SIGTERM or SIGINT. Main thread.

    It configures this process's logging; SIGUSR1 reopens the log file.

    :param ready: called once it serves.
    :returns: the exit code: 0 after an orderly stop, 3 if the broker failed.
    :raises StartError: it could not start.
    """
    try:
        log.configure(settings.log_level, settings.log_format, settings.log_file, "coordinator")
    except OSError as error:
        raise StartError(f"log.file: {settings.log_file}: {error.strerror}") from error
    wakeup = _Wakeup()
    _install_signals(wakeup, interrupt_stops=True)
    coordinator = Coordinator(settings, wakeup.wake)
    try:
        _spare_the_broker()
        if ready is not None:
            ready(coordinator)
        while not wakeup.stop and coordinator.alive():
            select.select([wakeup.fd], [], [])
            os.eventfd_read(wakeup.fd)
        return EXIT_OK if wakeup.stop else EXIT_FAILED
    finally:
        coordinator.stop()


def main() -> int:
    """A supervisor's child: ``python -m coordinator`` with the lifeline as standard input.

    SIGINT is the supervisor's business; SIGTERM, end of file and the order ``stop`` stop it.
    """
    wakeup = _Wakeup()
    _install_signals(wakeup, interrupt_stops=False)
    try:
        lifeline = Lifeline.from_stdin()
        first = lifeline.receive()
    except OSError:
        sys.stderr.write(
            "python -m coordinator is started by a supervisor; use `shardtls coordinator`\n"
        )
        return EXIT_FAILED
    if first is None:
        return EXIT_OK
    try:
        settings = CoordinatorSettings.from_frame(first["settings"])
        log.configure(settings.log_level, settings.log_format, settings.log_file, "coordinator")
        coordinator = Coordinator(settings, wakeup.wake)
    except (StartError, OSError, ValueError, TypeError, KeyError) as error:
        lifeline.send({"type": "failed", "reason": _one_line(error)})
        return EXIT_FAILED
    try:
        _spare_the_broker()
        lifeline.send({"type": "ready", "admin": coordinator.admin_url})
        return _follow(lifeline, coordinator, wakeup)
    finally:
        coordinator.stop()


def _follow(lifeline: Lifeline, coordinator: Coordinator, wakeup: _Wakeup) -> int:
    while not wakeup.stop:
        ready, _, _ = select.select([lifeline.fileno(), wakeup.fd], [], [])
        if wakeup.fd in ready:
            os.eventfd_read(wakeup.fd)
            if not coordinator.alive():
                return EXIT_FAILED
        if lifeline.fileno() in ready:
            frames, connected = lifeline.poll()
            for frame in frames:
                match frame.get("type"):
                    case "stop" | "drain":
                        wakeup.stop = True
                    case "reopen_logs":
                        log.reopen()
            if not connected:
                _log.info("supervisor is gone")
                return EXIT_OK
    return EXIT_OK


def _install_signals(wakeup: _Wakeup, *, interrupt_stops: bool) -> None:
    # select() goes on after a handler (PEP 475), so handlers wake it by the descriptor.
    signal.signal(signal.SIGTERM, lambda *_: wakeup.request_stop())
    if interrupt_stops:
        signal.signal(signal.SIGINT, lambda *_: wakeup.request_stop())
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Nothing of a coordinator can be reloaded; a terminal that closes must not take it down.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: log.reopen())


def _spare_the_broker() -> None:
    """Keep everything else in this process from holding the broker up, which answers lookups.

    The cyclic garbage collector first: a full collection that walks half a million sessions stops
    every thread for 95 ms, several times a lookup's deadline; with the cache frozen, for 10 µs.
    Sessions refer to nothing, so they are no part of a cycle. Then the other threads: one that
    computes (tests of noise, an HTTP answer) keeps the interpreter for a switch interval, by
    default 5 ms each time.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _one_line(error: BaseException) -> str:
    text = str(error) if isinstance(error, StartError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
