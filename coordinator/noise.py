"""Noise sources: where raw samples come from. The only I/O of the entropy service.

:class:`NoiseGatherer` runs the slow sources on the entropy thread; the broker reads the quick one
itself when it needs a seed.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from coordinator.entropy import SourceSpec
from coordinator.health import STARTUP_SAMPLES
from coordinator.log import get_logger

__all__ = [
    "DeviceSource",
    "NoiseGatherer",
    "NoiseSource",
    "SystemRandomSource",
    "available_sources",
    "fill",
]

READ_BYTES: Final = 64
GATHER_SECONDS: Final = 1.0

_log = get_logger("entropy")


class NoiseSource(Protocol):
    """Something that gives raw samples of a byte each."""

    @property
    def spec(self) -> SourceSpec: ...
    @property
    def immediate(self) -> bool:
        """Whether :meth:`read` never waits, so that the broker may call it."""
        ...

    def read(self) -> bytes:
        """Some samples; empty if there are none yet.

        :raises OSError: the source is broken.
        """
        ...

    def close(self) -> None:
        """Give its descriptor back."""
        ...


class SystemRandomSource:
    """getrandom(2): the kernel's generator. It waits once, until the kernel has been seeded."""

    spec = SourceSpec("getrandom", claim=8.0, threshold=32)
    immediate = True

    def read(self) -> bytes:
        return os.getrandom(READ_BYTES)

    def close(self) -> None:
        pass


class DeviceSource:
    """A hardware generator behind a character device.

    Its claim is half of what is read: what such a device really does is its maker's word.
    """

    immediate = False

    def __init__(self, name: str, path: str) -> None:
        """
        :raises OSError: the device cannot be opened for reading.
        """
        self.spec = SourceSpec(name, claim=4.0, threshold=32)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self) -> bytes:
        try:
            return os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            # Some drivers never report readiness; a bounded wait costs this thread nothing.
            select.select([self._fd], [], [], GATHER_SECONDS)
            return b""

    def close(self) -> None:
        os.close(self._fd)


def available_sources(names: Sequence[str]) -> list[NoiseSource]:
    """The sources of these names that this machine has and lets us read.

    ``getrandom`` is always there; ``hwrng`` is ``/dev/hwrng``, mostly readable by root only.

    :raises ValueError: a name is unknown.
    """
    sources: list[NoiseSource] = []
    for name in names:
        if name == "getrandom":
            sources.append(SystemRandomSource())
        elif name == "hwrng":
            try:
                device = DeviceSource(name, "/dev/hwrng")
            except OSError as error:
                _log.debug("entropy source absent", source=name, reason=error.strerror)
                continue
            try:
                device.read()
            except OSError as error:
                # The device node exists on many machines that have no hardware behind it.
                _log.debug("entropy source absent", source=name, reason=error.strerror)
                device.close()
                continue
            sources.append(device)
        else:
            raise ValueError(f"entropy source {name!r} is none of getrandom, hwrng")
    return sources


class NoiseGatherer:
    """The entropy thread: reads slow sources and hands their samples on.

    :meth:`start` and :meth:`stop` belong to the main thread.
    """

    def __init__(
        self,
        sources: Sequence[NoiseSource],
        deliver: Callable[[str, bytes], None],
        failed: Callable[[str, str], None],
    ) -> None:
        """
        :param deliver: gets a source's name and samples; called on the entropy thread.
        :param failed: gets a source's name and the reason; likewise.
        """
        self._sources = [source for source in sources if not source.immediate]
        self._deliver = deliver
        self._failed = failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="entropy", daemon=True)

    def start(self) -> None:
        """Start the thread, if there is a slow source."""
        if self._sources:
            self._thread.start()

    def stop(self) -> None:
        """Stop it; waits for at most a read in progress, or a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(GATHER_SECONDS)

    # ---- entropy thread ----

    def _run(self) -> None:
        delivered = dict.fromkeys((source.spec.name for source in self._sources), 0)
        while not self._stop.is_set():
            eager = False
            for source in self._sources:
                name = source.spec.name
                try:
                    samples = source.read()
                except OSError as error:
                    self._failed(name, error.strerror or "not readable")
                    continue
                if samples:
                    self._deliver(name, samples)
                    delivered[name] += len(samples)
                # Through the start-up test without a pause, then a little every second.
                eager = eager or (bool(samples) and delivered[name] < STARTUP_SAMPLES + READ_BYTES)
            if not eager:
                self._stop.wait(GATHER_SECONDS)


def fill(
    sources: Sequence[NoiseSource],
    enough: Callable[[], bool],
    deliver: Callable[[str, bytes], object],
    failed: Callable[[str, str], object],
) -> None:
    """Read the immediate sources until there is enough, in a bounded number of rounds.

    As PolarSSL's ``entropy_gather_internal``, bounded like its ``ENTROPY_MAX_LOOP``.
    """
    rounds = 2 + STARTUP_SAMPLES // READ_BYTES
    immediate = [source for source in sources if source.immediate]
    while rounds and not enough():
        rounds -= 1
        for source in immediate:
            try:
                deliver(source.spec.name, source.read())
            except OSError as error:
                failed(source.spec.name, error.strerror or "not readable")
