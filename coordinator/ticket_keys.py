"""The ring of ticket keys: which epochs there are, and which one seals. Pure.

An *epoch* is a key with its name and its time. It is made and told to the workers before it seals
(``next``), it seals (``active``) only once every live worker has acknowledged it, as a ticket of
one worker must open on every other, and then it opens tickets for as long as it promised
(``decrypting``); after that it is overwritten. For the broker's thread only.

Every change has a *serial*; workers say which one they have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "KEY_BYTES",
    "MAX_EPOCHS",
    "NAME_BYTES",
    "SEALED_ENOUGH",
    "Epoch",
    "EpochState",
    "KeyRing",
]

NAME_BYTES: Final = 16
KEY_BYTES: Final = 32
MAX_EPOCHS: Final = 64
"""Epochs at a time; only rotations on command can come near it."""
SEALED_ENOUGH: Final = 2**31
"""Tickets under one key, of all workers together, after which it is replaced early: half of the
2^32 that SP 800-38D §8.3 allows with random nonces, so that the last ones do not matter."""

_LEAD: Final = 60.0
"""Seconds by which an epoch is told to the workers before it is to seal, if that is not long."""


class EpochState(StrEnum):
    """What an epoch is good for."""

    NEXT = "next"
    ACTIVE = "active"
    DECRYPTING = "decrypting"


@dataclass(slots=True)
class Epoch:
    """A key and its time, in seconds of the clock that the ring is given.

    :ivar serial: of the change that made it; a worker that has a later one knows it.
    :ivar activate_at: it seals no earlier.
    :ivar decrypt_until: it opens nothing later.
    :ivar sealed: tickets sealed under it, by worker, as reported.
    """

    name: bytes
    key: bytearray = field(repr=False)
    serial: int
    activate_at: float
    decrypt_until: float
    state: EpochState = EpochState.NEXT
    made_at: float = 0.0
    sealed: dict[str, int] = field(default_factory=dict, repr=False)

    def wipe(self) -> None:
        """Overwrite the key."""
        self.key[:] = bytes(len(self.key))


class KeyRing:
    """The epochs, oldest first.

    :ivar serial: of the latest change; 0 before the first.
    :ivar rotations: how often an epoch became active.
    """

    def __init__(self, *, rotate_every: float, keep: int, random: Callable[[int], bytes]) -> None:
        """
        :param rotate_every: seconds for which an epoch seals.
        :param keep: for how many such spans it opens tickets, the one in which it seals included.
        :param random: gives so many random bytes.
        """
        self.rotate_every = rotate_every
        self.keep = keep
        self._random = random
        self._epochs: list[Epoch] = []
        self._names: set[bytes] = set()
        self.serial = 0
        self.rotations = 0

    def __len__(self) -> int:
        return len(self._epochs)

    @property
    def active(self) -> Epoch | None:
        """The one that seals."""
        return self._find(EpochState.ACTIVE)

    @property
    def next(self) -> Epoch | None:
        """The one that is to."""
        return self._find(EpochState.NEXT)

    def start(self, now: float, settle: float) -> None:
        """Make the first epoch, if there is none.

        :param settle: seconds until it may seal: for workers that have a ring of another
            coordinator's and have not come here yet.
        """
        if not self._epochs:
            self._make(now, now + settle)

    def rotate(self, now: float) -> Epoch:
        """Have a new epoch seal as soon as every live worker has it.

        :raises ValueError: there are too many.
        """
        epoch = self.next
        if epoch is None:
            if len(self._epochs) >= MAX_EPOCHS:
                raise ValueError(
                    f"there are {MAX_EPOCHS} ticket keys already: wait for some to end"
                )
            epoch = self._make(now, now)
        epoch.activate_at = min(epoch.activate_at, now)
        return epoch

    def advance(self, now: float, acknowledged: Collection[int]) -> bool:
        """What follows from time and from what the workers have.

        :param acknowledged: the serial that each live worker has.
        :returns: whether anything changed that they must be told.
        """
        before = self.serial
        self._drop([epoch for epoch in self._epochs if epoch.decrypt_until <= now])
        active, next_ = self.active, self.next
        started = self.serial > 0
        if next_ is None and started and self._replacement_due(active, now):
            next_ = self._make(now, now if active is None else self._replaced_at(active, now))
        if (
            next_ is not None
            and next_.activate_at <= now
            and all(serial >= next_.serial for serial in acknowledged)
        ):
            if active is not None:
                active.state = EpochState.DECRYPTING
            next_.state = EpochState.ACTIVE
            self.rotations += 1
            self.bump()
        return self.serial != before

    def forget(self) -> None:
        """Drop what only opens old tickets: none of them is accepted any more."""
        self._drop([epoch for epoch in self._epochs if epoch.state is EpochState.DECRYPTING])
        self.bump()

    def report(self, worker: str, sealed: int) -> None:
        """What a worker that has the latest change has sealed under the active epoch."""
        active = self.active
        if active is not None:
            active.sealed[worker] = sealed

    def bump(self) -> int:
        """Something changed that workers must be told; the change's serial."""
        self.serial += 1
        return self.serial

    def message(self, now: float) -> dict[str, Any]:
        """The ring as workers are told it. It has the keys."""
        active = self.active
        return {
            "serial": self.serial,
            "epochs": [
                [epoch.name, bytes(epoch.key), epoch.decrypt_until - now] for epoch in self._epochs
            ],
            "active": None if active is None else active.name,
        }

    def view(self, now: float, acknowledged: Collection[int]) -> list[dict[str, Any]]:
        """For the status: no key, and no more of a name than tells it from others."""
        return [
            {
                "name": epoch.name[:4].hex(),
                "state": str(epoch.state),
                "age_seconds": round(now - epoch.made_at, 3),
                "activates_in_seconds": (
                    round(max(0.0, epoch.activate_at - now), 3)
                    if epoch.state is EpochState.NEXT
                    else None
                ),
                "decrypts_for_seconds": round(epoch.decrypt_until - now, 3),
                "sealed": sum(epoch.sealed.values()),
                "acknowledged": sum(serial >= epoch.serial for serial in acknowledged),
                "workers": len(acknowledged),
            }
            for epoch in self._epochs
        ]

    def _find(self, state: EpochState) -> Epoch | None:
        return next((epoch for epoch in self._epochs if epoch.state is state), None)

    def _replacement_due(self, active: Epoch | None, now: float) -> bool:
        if active is None:
            return True  # it ended while no worker acknowledged another
        lead = min(_LEAD, self.rotate_every / 4)
        worn = sum(active.sealed.values()) >= SEALED_ENOUGH
        return worn or now >= active.activate_at + self.rotate_every - lead

    def _replaced_at(self, active: Epoch, now: float) -> float:
        worn = sum(active.sealed.values()) >= SEALED_ENOUGH
        return now if worn else active.activate_at + self.rotate_every

    def _make(self, now: float, activate_at: float) -> Epoch:
        name, key = bytes(NAME_BYTES), bytes(KEY_BYTES)
        # All zeros is what a key looks like that was never made (CVE-2020-13777).
        while not any(name) or name in self._names:
            name = self._random(NAME_BYTES)
        while not any(key):
            key = self._random(KEY_BYTES)
        self._names.add(name)
        epoch = Epoch(
            name=name,
            key=bytearray(key),
            serial=self.bump(),
            activate_at=activate_at,
            decrypt_until=activate_at + self.keep * self.rotate_every,
            made_at=now,
        )
        self._epochs.append(epoch)
        return epoch

    def _drop(self, epochs: list[Epoch]) -> None:
        for epoch in epochs:
            epoch.wipe()
            self._epochs.remove(epoch)
