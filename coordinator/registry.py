"""Who belongs to the deployment: workers and supervisors, each with a lease. Pure.

A member registers, renews its lease with heartbeats and says goodbye. One that falls silent for
longer than its lease is *lost*; it may come back, and is dropped when it has not for a while or
when a successor has taken its slot. Who did not listen does not judge: after a pause of its own the
register concludes nothing before a whole lease has passed. For the broker's thread only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from coordinator import bodies
from coordinator.errors import MessageError
from coordinator.protocol import ERROR_FORBIDDEN, ERROR_REFUSED, ERROR_SHAPE, ERROR_UNREGISTERED
from coordinator.stats import SupervisorStats, WorkerStats

__all__ = [
    "Member",
    "MemberState",
    "Quarantine",
    "Registration",
    "Registry",
    "Role",
    "read_registration",
    "read_state",
]

FORGET_SECONDS: Final = 30.0
_REPORTED: Final = ("starting", "ready", "draining")
MAX_MEMBERS: Final = 2048
"""Their status must fit into one message."""


class Role(StrEnum):
    """What a member is."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


class MemberState(StrEnum):
    """What a member does; ``LOST`` and ``QUARANTINED`` are never reported, only concluded."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    LOST = "lost"
    QUARANTINED = "quarantined"
    """A worker whose randomness repeated; see :attr:`Member.shown`."""


@dataclass(slots=True)
class Quarantine:
    """Why a worker is to be replaced.

    :ivar asked_at: when its supervisor was last told to.
    """

    reason: str
    asked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a member says when it registers.

    :ivar group: a worker's supervisor; a supervisor's own id.
    :ivar key: the public CURVE key it came with; None over ``ipc://``.
    :ivar routing: routing id of its connection.
    """

    role: Role
    id: str
    pid: int
    host: str
    group: str
    slot: int | None
    version: str
    state: MemberState
    key: str | None
    routing: bytes


def read_state(body: Mapping[str, Any]) -> MemberState:
    """The state that a member reports."""
    state = body.get("state")
    if not isinstance(state, str) or state not in _REPORTED:
        raise MessageError(ERROR_SHAPE, f"state is one of {', '.join(_REPORTED)}")
    return MemberState(state)


def read_registration(body: Mapping[str, Any], key: str | None, routing: bytes) -> Registration:
    """The body of ``register``.

    :param key: the peer's public CURVE key.
    :param routing: the routing id of its connection.
    """
    role = body.get("role")
    if role not in ("worker", "supervisor"):
        raise MessageError(ERROR_SHAPE, "role is worker or supervisor")
    id_ = bodies.text(body, "id")
    return Registration(
        role=Role(role),
        id=id_,
        pid=bodies.count(body, "pid", 2**31 - 1),
        host=bodies.text(body, "host"),
        group=id_ if role == "supervisor" and "group" not in body else bodies.text(body, "group"),
        slot=None if body.get("slot") is None else bodies.count(body, "slot", 2**31 - 1),
        version=bodies.text(body, "version"),
        state=read_state(body),
        key=key,
        routing=routing,
    )


@dataclass(slots=True, kw_only=True)
class Member:
    """A member with its lease. Times in seconds of the broker's clock.

    :ivar state: what it reports, or ``LOST``.
    :ivar quarantine: until it is gone, whatever it reports.
    """

    registration: Registration
    routing: bytes
    state: MemberState
    registered_at: float
    seen_at: float
    worker: WorkerStats = field(default_factory=WorkerStats)
    supervisor: SupervisorStats = field(default_factory=SupervisorStats)
    quarantine: Quarantine | None = None

    @property
    def shown(self) -> MemberState:
        """Its state as an operator is to see it."""
        serving = self.state in (MemberState.STARTING, MemberState.READY)
        return MemberState.QUARANTINED if serving and self.quarantine is not None else self.state

    @property
    def id(self) -> str:
        """Unique among all members of its role."""
        return self.registration.id


class Registry:
    """The members, in the order in which they registered."""

    def __init__(
        self, *, lease: float, forget: float = FORGET_SECONDS, max_members: int = MAX_MEMBERS
    ) -> None:
        """
        :param lease: seconds of silence after which a member is lost.
        :param forget: seconds after which a lost member is dropped.
        """
        self.lease = lease
        self.forget = forget
        self.max_members = max_members
        self._members: dict[str, Member] = {}
        self._swept_at = math.inf
        self._listening_since = -math.inf

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, id_: str) -> Member | None:
        """The member of this id."""
        return self._members.get(id_)

    def workers(self) -> list[Member]:
        """Every worker that exists or was lost lately."""
        return [m for m in self if m.registration.role is Role.WORKER]

    def supervisors(self, *, live: bool = False) -> list[Member]:
        """Every supervisor; with `live`, only those whose lease holds."""
        return [
            m
            for m in self
            if m.registration.role is Role.SUPERVISOR and not (live and m.state is MemberState.LOST)
        ]

    def register(self, registration: Registration, now: float) -> Member:
        """A member comes, or comes back on another connection.

        :raises MessageError: the id belongs to a peer with another key or role, or there are too
            many members.
        """
        known = self._members.get(registration.id)
        if known is not None:
            self._same_peer(known, registration.key)
            if known.registration.role is not registration.role:
                raise MessageError(ERROR_FORBIDDEN, "this id belongs to a member of another role")
        elif len(self._members) >= self.max_members:
            raise MessageError(ERROR_REFUSED, f"there are {self.max_members} members already")
        self._drop_predecessors(registration)
        member = Member(
            registration=registration,
            routing=registration.routing,
            state=registration.state,
            registered_at=now if known is None else known.registered_at,
            seen_at=now,
        )
        if known is not None:
            member.worker, member.supervisor = known.worker, known.supervisor
            member.quarantine = known.quarantine
        self._members[registration.id] = member
        return member

    def member(self, id_: str, key: str | None) -> Member:
        """The member of this id, for the peer that it is.

        :raises MessageError: ``unregistered``: it must register; ``forbidden``: the id is another
            peer's.
        """
        member = self._members.get(id_)
        if member is None:
            raise MessageError(ERROR_UNREGISTERED, "register first")
        self._same_peer(member, key)
        return member

    @staticmethod
    def renew(member: Member, routing: bytes, state: MemberState, now: float) -> None:
        """A heartbeat came: the lease begins anew, also of one that was lost."""
        member.routing = routing
        member.state = state
        member.seen_at = now

    def goodbye(self, id_: str, key: str | None) -> Member | None:
        """A member leaves, or its supervisor says that it is gone; its entry disappears.

        :returns: the member; None if there is none of this id.
        :raises MessageError: ``forbidden``: the id is another peer's.
        """
        member = self._members.get(id_)
        if member is None:
            return None
        supervisor = self._members.get(member.registration.group)
        by_supervisor = (
            supervisor is not None
            and supervisor.registration.role is Role.SUPERVISOR
            and supervisor.registration.key == key
        )
        if not by_supervisor:
            self._same_peer(member, key)
        del self._members[id_]
        return member

    def sweep(self, now: float) -> tuple[list[Member], list[Member]]:
        """Conclude from silence; several times a lease.

        :returns: those that were lost just now, and those that were dropped just now.
        """
        if now - self._swept_at > self.lease / 2:
            self._listening_since = now
        self._swept_at = now
        lost = []
        dropped = []
        for member in list(self._members.values()):
            silent = now - member.seen_at
            listened = now - max(member.seen_at, self._listening_since)
            if member.state is not MemberState.LOST and listened > self.lease:
                member.state = MemberState.LOST
                lost.append(member)
            if member.state is MemberState.LOST and (
                silent > self.lease + self.forget or self._has_successor(member)
            ):
                del self._members[member.id]
                dropped.append(member)
        return lost, dropped

    @staticmethod
    def _same_peer(member: Member, key: str | None) -> None:
        if member.registration.key != key:
            raise MessageError(ERROR_FORBIDDEN, "this id belongs to a peer with another key")

    def _has_successor(self, member: Member) -> bool:
        mine = member.registration
        return mine.slot is not None and any(
            other is not member
            and other.registration.group == mine.group
            and other.registration.slot == mine.slot
            and other.state is not MemberState.LOST
            for other in self.workers()
        )

    def _drop_predecessors(self, registration: Registration) -> None:
        if registration.slot is None:
            return
        for member in self.workers():
            if (
                member.state is MemberState.LOST
                and member.registration.group == registration.group
                and member.registration.slot == registration.slot
            ):
                del self._members[member.id]
