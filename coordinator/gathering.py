"""Reading the noise sources: the entropy thread, and the broker's own quick round."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from coordinator.entropy import ReadReason
from coordinator.health import STARTUP_SAMPLES
from coordinator.noise import READ_BYTES, NoiseSource

__all__ = ["NoiseGatherer", "fill"]

GATHER_SECONDS: Final = 1.0
EAGER_ROUNDS: Final = 2 * STARTUP_SAMPLES // READ_BYTES
"""Rounds without a pause: enough for a start-up test, or to fill the pool."""


class NoiseGatherer:
    """The entropy thread: reads the slow sources, and every source that is being tested.

    :meth:`start` and :meth:`stop` belong to the main thread.
    """

    def __init__(
        self,
        sources: Sequence[NoiseSource],
        ask: Callable[[], Mapping[str, ReadReason]],
        deliver: Callable[[str, bytes], object],
        failed: Callable[[str, str], object],
    ) -> None:
        """
        :param ask: which sources are to be read, by name; called on the entropy thread, as are:
        :param deliver: gets a source's name and samples.
        :param failed: gets a source's name and the reason.
        """
        self._sources = sources
        self._ask = ask
        self._deliver = deliver
        self._failed = failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="entropy", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop it; waits for at most a read in progress, or a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(GATHER_SECONDS)

    # ---- entropy thread ----

    def _run(self) -> None:
        rounds = 0
        while not self._stop.is_set():
            # Through a start-up test without a pause, then a little every second.
            rounds = rounds + 1 if self._round(self._ask()) else 0
            if rounds in (0, EAGER_ROUNDS):
                rounds = 0
                self._stop.wait(GATHER_SECONDS)

    def _round(self, wanted: Mapping[str, ReadReason]) -> bool:
        """Read each source once; whether the next round should follow at once."""
        again = False
        for source in self._sources:
            name = source.spec.name
            reason = wanted.get(name)
            if reason is None or (source.immediate and reason is not ReadReason.TEST):
                continue
            try:
                samples = source.read()
            except OSError as error:
                self._failed(name, error.strerror or "not readable")
                continue
            if samples:
                self._deliver(name, samples)
                again = again or reason is not ReadReason.ROUTINE
        return again


def fill(
    sources: Sequence[NoiseSource],
    enough: Callable[[], bool],
    deliver: Callable[[str, bytes], object],
    failed: Callable[[str, str], object],
) -> None:
    """Read the immediate sources, once and until there is enough, in a bounded number of rounds.

    As PolarSSL's ``entropy_gather_internal``, bounded like its ``ENTROPY_MAX_LOOP``. The first
    round is always made: a seed shall depend on noise that did not exist before it was asked for.
    """
    immediate = [source for source in sources if source.immediate]
    for _ in range(EAGER_ROUNDS):
        for source in immediate:
            try:
                deliver(source.spec.name, source.read())
            except OSError as error:
                failed(source.spec.name, error.strerror or "not readable")
        if enough():
            return
