"""A worker's membership in its deployment: what it says to the *control* endpoint, and when.

Pure: frames and `now` (seconds of a monotonic clock) in, frames and events out. It registers,
sends heartbeats, registers again when the coordinator is a new one or has forgotten it, asks for
seeds, and passes orders on. At most one register or heartbeat is under way, so a long silence
leaves no pile of them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from coordinator.errors import MessageError
from coordinator.protocol import (
    ERROR_UNREGISTERED,
    MAX_FIRST_OUTPUTS,
    SEED_BYTES,
    Order,
    Refusal,
    decode_from_coordinator,
    encode_ack,
    encode_request,
)

__all__ = [
    "ANSWER_WITHIN",
    "HEARTBEAT",
    "Answering",
    "Event",
    "Identity",
    "Membership",
    "Ordered",
    "Registered",
    "SeedGiven",
    "SeedRefused",
]

HEARTBEAT: Final = 0.5
"""Seconds between heartbeats until the coordinator names another interval."""
ANSWER_WITHIN: Final = 1.0
"""Seconds after which a request is given up and made again."""
SEED_RETRY: Final = 2.0
"""Seconds between requests for a seed that was refused."""

_HEARTBEAT_BOUNDS: Final = (0.05, 10.0)
_REMEMBERED: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a worker, or its supervisor, registers with.

    :ivar worker: the id; a supervisor's is its group.
    :ivar slot: None for a supervisor.
    :ivar role: ``worker`` or ``supervisor``.
    """

    worker: str
    pid: int
    host: str
    group: str
    slot: int | None
    version: str
    role: str = "worker"


@dataclass(frozen=True, slots=True)
class Answering:
    """The coordinator answered.

    :ivar returned: it was silent before, or it is a new one.
    """

    returned: bool


@dataclass(frozen=True, slots=True)
class Registered:
    """The coordinator took this worker in.

    :ivar boot: which coordinator it is.
    :ivar body: the whole reply, unchecked. It may hold keys, so it is kept out of the repr.
    """

    boot: str
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class SeedGiven:
    """A seed, for one use. Kept out of the repr."""

    seed: bytes

    def __repr__(self) -> str:
        return f"SeedGiven(<{len(self.seed)} bytes>)"


@dataclass(frozen=True, slots=True)
class SeedRefused:
    """No seed: refused, or no answer in time.

    :ivar reason: one word or two: ``no answer``, ``malformed``, or the code of the coordinator's
        error.
    :ivar detail: what the coordinator says beside it.
    """

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order; answer it with :meth:`Membership.acknowledge`.

    :ivar body: the whole order, unchecked. It may hold keys, so it is kept out of the repr.
    """

    order: int
    do: str
    body: Mapping[str, Any] = field(repr=False)


Event: TypeAlias = Answering | Registered | SeedGiven | SeedRefused | Ordered


class Membership:
    """Link thread only.

    :ivar due: when :meth:`frames` next has something to send or :meth:`overdue` to tell.
    :ivar registered: whether the coordinator knows this worker, as far as this worker knows.
    :ivar malformed: messages that could not be read, or hold what was not asked for.
    :ivar refusals: requests that the coordinator refused.
    """

    def __init__(
        self,
        identity: Identity,
        noise: Callable[[], bytes] = bytes,
        about: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """
        :param noise: gives what goes back to the coordinator with a request for a seed.
        :param about: what a registration says beside the identity; asked for each.
        """
        self._identity = identity
        self._noise = noise
        self._about = about or dict
        self._first_outputs: deque[bytes] = deque(maxlen=MAX_FIRST_OUTPUTS)
        self._number = 0
        self._kinds: dict[int, str] = {}
        self._awaited: tuple[int, float] | None = None
        self._seed: tuple[int, float] | None = None
        self._seed_purpose: str | None = None
        self._seed_at = 0.0
        self._next_at = 0.0
        self._heartbeat = HEARTBEAT
        self._boot: str | None = None
        self._silent = True
        self.state = "starting"
        self.registered = False
        self.malformed = 0
        self.refusals = 0
        self.refused: str | None = None

    @property
    def due(self) -> float:
        """See the class."""
        times = [self._awaited[1] if self._awaited else self._next_at]
        if self._seed:
            times.append(self._seed[1])
        elif self._seed_purpose:
            times.append(self._seed_at)
        return min(times, default=math.inf)

    def change_state(self, state: str, now: float) -> None:
        """Tell the coordinator of a new state (``ready``, ``draining``) now."""
        self.state = state
        self._awaited = None
        self._next_at = now

    def want_seed(self, purpose: str, now: float) -> None:
        """Ask for a seed until one is given. Each answer, or its want, is an event.

        :param purpose: for the coordinator's ledger; takes the place of an earlier one.
        """
        if self._seed_purpose is None:
            self._seed_at = max(self._seed_at, now)
        self._seed_purpose = purpose

    def note_first_output(self, mark: bytes) -> None:
        """Tell the coordinator's canary, with the next heartbeat; 32 bytes."""
        self._first_outputs.append(mark)

    def overdue(self, now: float) -> list[Event]:
        """What did not come in time."""
        if self._awaited and now >= self._awaited[1]:
            self._awaited = None
            self._silent = True
        if self._seed and now >= self._seed[1]:
            return [self._no_seed("no answer", "", now, now)]
        return []

    def frames(self, stats: Mapping[str, Any], now: float) -> list[bytes]:
        """What to send now.

        :param stats: for a heartbeat.
        """
        frames = []
        identity = self._identity
        if self._awaited is None and now >= self._next_at:
            if self.registered:
                body: dict[str, Any] = {"id": identity.worker, "state": self.state}
                body["stats"] = dict(stats)
                if self._first_outputs:
                    # Each is said once: a second time would be a repetition.
                    body["first_outputs"] = list(self._first_outputs)
                    self._first_outputs.clear()
                number, frame = self._request("heartbeat", body)
            else:
                number, frame = self._request("register", self._registration())
            self._awaited = (number, now + ANSWER_WITHIN)
            self._next_at = now + self._heartbeat
            frames.append(frame)
        if self._seed_purpose and self._seed is None and now >= self._seed_at:
            body = {"id": identity.worker, "purpose": self._seed_purpose}
            if noise := self._noise():
                body["noise"] = noise
            number, frame = self._request("seed", body)
            self._seed = (number, now + ANSWER_WITHIN)
            frames.append(frame)
        return frames

    def goodbye(self) -> bytes:
        """The last request."""
        return self._request("goodbye", {"id": self._identity.worker})[1]

    def acknowledge(self, order: int, problem: str | None = None, **facts: str) -> bytes:
        """The answer to an order: done, with `facts`, or the problem."""
        body: dict[str, Any] = {"ok": problem is None, **facts}
        if problem is not None:
            body["detail"] = problem
        return encode_ack(order, body)

    def received(self, frame: bytes, now: float) -> list[Event]:
        """What a frame from the coordinator means. It may be anything."""
        try:
            message = decode_from_coordinator(frame)
        except MessageError:
            self.malformed += 1
            return []
        if isinstance(message, Order):
            return [Ordered(message.order, str(message.body.get("do", "")), message.body)]
        if message.request is None or (kind := self._kinds.pop(message.request, None)) is None:
            return []
        if self._awaited and self._awaited[0] == message.request:
            self._awaited = None
        if isinstance(message, Refusal):
            return [self._answering(False), *self._refusal(kind, message, now)]
        new_boot = self._boots(kind, message.body, now)
        events: list[Event] = [self._answering(new_boot)]
        if kind == "register":
            events.append(Registered(self._boot or "", message.body))
        if kind == "seed":
            events.append(self._seed_answer(message.body, now))
        return events

    def _registration(self) -> dict[str, Any]:
        identity = self._identity
        return {
            "role": identity.role,
            "id": identity.worker,
            "pid": identity.pid,
            "host": identity.host,
            "group": identity.group,
            "slot": identity.slot,
            "version": identity.version,
            "state": self.state,
            **self._about(),
        }

    def _request(self, kind: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        self._number += 1
        self._kinds[self._number] = kind
        while len(self._kinds) > _REMEMBERED:
            del self._kinds[next(iter(self._kinds))]
        return self._number, encode_request(kind, self._number, body)

    def _answering(self, new_boot: bool) -> Answering:
        returned = self._silent or new_boot
        self._silent = False
        return Answering(returned)

    def _boots(self, kind: str, body: Mapping[str, Any], now: float) -> bool:
        """Take in which coordinator answered; True if it is another than before."""
        if kind not in ("register", "heartbeat"):
            return False
        boot = str(body.get("boot", ""))
        if kind == "register":
            self.refused = None
            changed = self._boot not in (None, boot)
            self._boot = boot
            self.registered = True
            heartbeat = body.get("heartbeat")
            if isinstance(heartbeat, (int, float)):
                low, high = _HEARTBEAT_BOUNDS
                self._heartbeat = min(max(float(heartbeat), low), high)
            # The first heartbeat carries the statistics: at once.
            self._next_at = now
            return changed
        if boot != self._boot:
            self.registered = False
            self._next_at = now
            return True
        return False

    def _refusal(self, kind: str, refusal: Refusal, now: float) -> list[Event]:
        self.refusals += 1
        if refusal.code == ERROR_UNREGISTERED and kind != "register":
            self.registered = False
            self._next_at = now
        elif kind in ("register", "heartbeat"):
            self.refused = f"{refusal.code}: {refusal.detail}"
        if kind == "seed":
            unregistered = refusal.code == ERROR_UNREGISTERED
            retry_at = now + (self._heartbeat if unregistered else SEED_RETRY)
            return [self._no_seed(refusal.code, refusal.detail, now, retry_at)]
        return []

    def _seed_answer(self, body: Mapping[str, Any], now: float) -> Event:
        seed = body.get("seed")
        if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
            self.malformed += 1
            return self._no_seed("malformed", "not 48 bytes", now, now + SEED_RETRY)
        self._seed = None
        self._seed_purpose = None
        self._seed_at = now
        return SeedGiven(seed)

    def _no_seed(self, reason: str, detail: str, now: float, retry_at: float) -> SeedRefused:
        self._seed = None
        self._seed_at = max(now, retry_at)
        return SeedRefused(reason, detail)
