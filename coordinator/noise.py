"""Noise sources: where raw samples come from. The only I/O of the entropy service.

The broker reads the immediate one itself when it needs a seed; the others belong to the entropy
thread (:mod:`coordinator.gathering`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, Protocol

from coordinator.command_source import CommandSource
from coordinator.jitter import JitterSource
from coordinator.log import get_logger
from coordinator.settings import EntropySource
from coordinator.source import SourceSpec

__all__ = [
    "READ_BYTES",
    "FileSource",
    "NoiseSource",
    "SystemRandomSource",
    "WorkersSource",
    "available_sources",
]

READ_BYTES: Final = 64
THRESHOLD: Final = 32
HARDWARE_GENERATOR: Final = "/dev/hwrng"
HARDWARE_CLAIM: Final = 4.0
"""Half of what is read: what such a device really does is its maker's word."""

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
        """Some samples; empty if there are none yet. After an error it may be called again.

        :raises OSError: the source is broken.
        """
        ...

    def close(self) -> None:
        """Give back what it holds of the system."""
        ...


class SystemRandomSource:
    """getrandom(2): the kernel's generator. It waits once, until the kernel has been seeded."""

    spec = SourceSpec("getrandom", claim=8.0, threshold=THRESHOLD)
    immediate = True

    def read(self) -> bytes:
        return os.getrandom(READ_BYTES)

    def close(self) -> None:
        pass


class WorkersSource:
    """Bytes that workers send back with their requests for seeds; they come by message.

    Nothing is credited: they may be known to whoever knows the worker.
    """

    spec = SourceSpec("workers", claim=0.0, threshold=0)
    immediate = False

    def read(self) -> bytes:
        return b""

    def close(self) -> None:
        pass


class FileSource:
    """A character device, a FIFO or a file. Opened at the first read, and anew after an error."""

    immediate = False

    def __init__(self, name: str, path: str, claim: float) -> None:
        """
        :param claim: bits of min-entropy a byte.
        """
        self.spec = SourceSpec(name, claim, THRESHOLD)
        self._path = path
        self._fd: int | None = None

    def read(self) -> bytes:
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            return os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def available_sources(texts: Sequence[str]) -> list[NoiseSource]:
    """The sources that these settings name and this machine has.

    ``hwrng`` is left out where there is none, or where only root may read it. An operator's own is
    always there: one that cannot be read is quarantined, and shown.

    :raises ValueError: a setting is wrong.
    """
    found = [_source(EntropySource.parse(text)) for text in texts]
    return [source for source in found if source is not None]


def _source(named: EntropySource) -> NoiseSource | None:
    match named.kind:
        case "getrandom":
            return SystemRandomSource()
        case "jitter":
            return JitterSource()
        case "workers":
            return WorkersSource()
        case "file":
            return FileSource(named.name, named.arguments[0], named.claim)
        case "command":
            return CommandSource(named.name, named.arguments, named.claim)
    hardware = FileSource(named.name, HARDWARE_GENERATOR, HARDWARE_CLAIM)
    try:
        # The device node exists on many machines that have no hardware behind it.
        hardware.read()
    except OSError as error:
        _log.debug("entropy source absent", source=named.name, reason=error.strerror)
        return None
    return hardware
