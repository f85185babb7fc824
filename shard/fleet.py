"""Which processes should run, and what to do about those that do. Pure.

What happened goes in with the time, what to do comes out: a test is a script of both. The loop in
:mod:`shard.supervisor` carries it out and knows nothing of slots, back-off or generations.

Each *slot* is served by one worker at a time. A worker that is to go is replaced first: its
*successor* starts beside it, and only when that is ready is the old one told to drain. A
*generation* is one set of settings; a roll brings the slots to the newest one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from shard.fleet_actions import Action, Done, Finish, Kill, Serving, Spawn, Tell, Ticket
from shard.fleet_orders import Roll, Scale
from shard.post import BOOT_FAILURES, Member, Post, State

__all__ = ["COORDINATOR", "Fleet"]

COORDINATOR: Final = "coordinator"
"""The coordinator's name among the processes."""

BOOT_TIMEOUT: Final = 30.0
"""Seconds until a process that is not ready is given up."""
DRAIN_GRACE: Final = 2.0
STOP_GRACE: Final = 2.0
"""Seconds beyond its deadline after which a process is killed."""
EXIT_START_FAILED: Final = 3


class _Phase(Enum):
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(slots=True)
class Fleet:
    """The state of all processes of one supervisor. For its thread only. Times are monotonic
    seconds.

    :ivar group: the supervisor's id, with which every worker's id begins.
    :ivar wanted: number of workers, 0 where only a coordinator runs.
    :ivar drain_timeout: seconds, for workers spawned from now on.
    :ivar has_coordinator: whether the coordinator is ours to run.
    :ivar restarts: processes started in the place of one that died.
    """

    group: str
    wanted: int
    drain_timeout: float
    has_coordinator: bool
    generation: int = 0
    restarts: int = 0
    _phase: _Phase = _Phase.RUNNING
    _members: dict[str, Member] = field(default_factory=dict)
    _slots: dict[int, Post] = field(default_factory=dict)
    _coordinator: Post = field(default_factory=lambda: Post(None))
    _serials: dict[int, int] = field(default_factory=dict)
    _boot_failures: dict[str, list[str]] = field(default_factory=dict)
    _generations: int = 0
    _roll: Roll | None = None
    _scale: Scale | None = None
    _served: bool = False
    _finished: bool = False
    _exit: Finish = field(default_factory=lambda: Finish(0, None))

    @property
    def state(self) -> str:
        """As the coordinator's register knows it: ``starting``, ``ready`` or ``draining``."""
        if self._phase is not _Phase.RUNNING:
            return "draining"
        return "ready" if self._served else "starting"

    def ready_workers(self) -> list[str]:
        """Names of the workers that serve."""
        members = self._members.values()
        return [m.name for m in members if m.slot is not None and m.state is State.READY]

    def start(self, now: float) -> list[Action]:
        """Begin."""
        return self._settle(now)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: :meth:`deadline` did, for one."""
        return self._settle(now)

    def ready(self, name: str, now: float) -> list[Action]:
        """A process serves."""
        member = self._members.get(name)
        if member is None or member.state is not State.STARTING:
            return []
        member.state, member.ready_at, member.deadline = State.READY, now, float("inf")
        self._post(member).filled_before = True
        self._boot_failures.pop(_kind(member), None)
        return self._settle(now)

    def failed(self, name: str, reason: str) -> None:
        """A process says why it is about to exit."""
        member = self._members.get(name)
        if member is not None:
            member.reason = reason

    def leaving(self, name: str, reason: str, now: float) -> list[Action]:
        """A worker cannot go on. It finishes what it can and exits; its place is filled at once."""
        member = self._members.get(name)
        if member is None or member.state is not State.READY or self._phase is not _Phase.RUNNING:
            return []
        self._count(self._post(member), member, reason, now)
        member.state = State.LEAVING
        member.deadline = now + member.drain_timeout + DRAIN_GRACE
        return self._vacate(member) + self._settle(now)

    def hung(self, name: str, reason: str, now: float) -> list[Action]:
        """A worker that was ready gives no sign of life."""
        member = self._members.get(name)
        if member is None or member.state is not State.READY:
            return []
        member.reason, member.deadline = reason, now
        return self._settle(now)

    def exited(self, name: str, how: str, now: float) -> list[Action]:
        """A process is gone.

        :param how: such as ``exit status 1`` or ``killed by SIGKILL``.
        """
        member = self._members.pop(name, None)
        if member is None:
            return []
        if member.state is not State.LEAVING and self._phase is _Phase.RUNNING:
            self._count(self._post(member), member, member.reason or how, now)
        return self._vacate(member) + self._settle(now)

    def scale(self, wanted: int, ticket: Ticket, now: float) -> list[Action]:
        """Run so many workers from now on; 1 or more."""
        if self._phase is not _Phase.RUNNING:
            return [Done(ticket, ok=False, detail="the server is stopping")]
        if self.wanted == 0:
            return [Done(ticket, ok=False, detail="no workers run here")]
        if wanted < 1:
            return [Done(ticket, ok=False, detail="at least one worker has to stay")]
        out: list[Action] = []
        if self._scale is not None:
            out.append(Done(self._scale.ticket, ok=False, detail="superseded by a later scale"))
        self._scale = Scale(ticket, range(self.wanted, wanted))
        self.wanted = wanted
        return out + self._settle(now)

    def drain(self, worker: str, ticket: Ticket, now: float) -> list[Action]:
        """Replace a worker: start its successor, then let it finish and leave."""
        member = self._members.get(worker)
        if self._phase is not _Phase.RUNNING:
            detail = "the server is stopping"
        elif member is None or member.slot is None:
            detail = f"no worker {worker} runs here"
        elif member.state is not State.READY:
            detail = f"worker {worker} is {member.state.value}"
        elif self._post(member).replace is not None:
            detail = f"worker {worker} is being drained already"
        else:
            post = self._post(member)
            post.replace = ticket
            post.forgive(now)
            return self._settle(now)
        return [Done(ticket, ok=False, detail=detail)]

    def roll(self, ticket: Ticket, drain_timeout: float, now: float) -> list[Action]:
        """Bring every slot to a new generation, whose number is then :attr:`generation`."""
        if self._phase is not _Phase.RUNNING:
            return [Done(ticket, ok=False, detail="the server is stopping")]
        out: list[Action] = []
        before = self.generation
        if self._roll is not None:
            before = self._roll.before
            out.append(Done(self._roll.ticket, ok=False, detail="superseded by a later reload"))
        self._generations += 1
        self.generation, self.drain_timeout = self._generations, drain_timeout
        self._roll = Roll(ticket, before, self.generation)
        for post in self._slots.values():
            post.forgive(now)
        return out + self._settle(now)

    def terminate(self, now: float) -> list[Action]:
        """Drain all workers, then stop the coordinator. A second call stops at once."""
        if self._phase is not _Phase.RUNNING:
            return self.stop(now)
        self._phase = _Phase.DRAINING
        return self._abandon_orders() + self._settle(now)

    def stop(self, now: float, code: int = 0, reason: str | None = None) -> list[Action]:
        """Stop all processes now."""
        if self._phase is not _Phase.STOPPING:
            self._phase = _Phase.STOPPING
            self._exit = Finish(code, reason)
        return self._abandon_orders() + self._settle(now)

    def generations(self) -> set[int]:
        """Those that a process may yet be started of."""
        return {self.generation} | ({self._roll.before} if self._roll else set())

    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do at the latest."""
        times = [member.deadline for member in self._members.values()]
        if self._phase is _Phase.RUNNING:
            times += [post.retry_at for post in self._waiting_posts()]
        earliest = min(times, default=float("inf"))
        return None if earliest == float("inf") else earliest

    def _settle(self, now: float) -> list[Action]:
        out: list[Action] = []
        # One step can be the reason for the next: a slot that was rolled makes way for another.
        while self._phase is _Phase.RUNNING and (step := list(self._fill(now))):
            out += step
        if self._phase is not _Phase.RUNNING:  # filling may have found that it is hopeless
            out += self._leave(now)
        out += self._enforce(now)
        return out

    def _fill(self, now: float) -> Iterator[Action]:
        for what, reasons in self._boot_failures.items():
            if len(reasons) >= BOOT_FAILURES:
                self._phase = _Phase.STOPPING
                self._exit = Finish(EXIT_START_FAILED, f"{what} does not start: {reasons[-1]}")
                yield from self._abandon_orders()
                return
        if self.has_coordinator:
            yield from self._fill_post(self._coordinator, now)
            if not self._coordinator.filled_before:
                return  # workers are seeded by it, so the first ones wait
        for slot in range(self.wanted):
            post = self._slots.setdefault(slot, Post(slot))
            yield from self._fill_post(post, now)
        for slot in sorted(slot for slot in self._slots if slot >= self.wanted):
            yield from self._dismiss(self._slots.pop(slot), now)
        yield from self._conclude_orders()
        if not self._served and all(post.ready() for post in self._slots.values()):
            self._served = True
            yield Serving()

    def _fill_post(self, post: Post, now: float) -> Iterator[Action]:
        if post.current is None and post.successor is not None:
            post.current, post.successor = post.successor, None
        if post.current is None:
            if now >= post.retry_at:
                self.restarts += post.filled_before
                post.current = self._member(post, now)
                yield Spawn(post.current.name, post.slot, post.current.generation)
            return
        if post.successor is not None:
            if post.successor.state is State.READY:
                old, post.current, post.successor = post.current, post.successor, None
                yield self._tell(old, "drain", now)
                if post.replace is not None:
                    yield Done(post.replace, ok=True, detail=f"{post.current.name} replaces it")
                    post.replace = None
        elif self._outdated(post) and now >= post.retry_at:
            post.successor = self._member(post, now)
            yield Spawn(post.successor.name, post.slot, post.successor.generation)

    def _outdated(self, post: Post) -> bool:
        """Whether a successor should start now. A roll takes one slot at a time, so that the
        machine carries one worker more than it has to, not twice as many.
        """
        if not post.ready() or post.slot is None:
            return False
        if post.replace is not None:
            return True
        behind = [
            slot
            for slot, other in sorted(self._slots.items())
            if other.current is not None and not other.serves(self.generation)
        ]
        return behind[:1] == [post.slot]

    def _member(self, post: Post, now: float) -> Member:
        if post.slot is None:
            name = COORDINATOR
        else:
            serial = self._serials[post.slot] = self._serials.get(post.slot, 0) + 1
            name = f"{self.group}-{post.slot}.{serial}"
        member = Member(name, post.slot, self.generation, self.drain_timeout, now + BOOT_TIMEOUT)
        self._members[name] = member
        return member

    def _dismiss(self, post: Post, now: float) -> Iterator[Action]:
        for member in (post.current, post.successor):
            if member is not None:
                order = "drain" if member.state is State.READY else "stop"
                yield self._tell(member, order, now)
        if post.replace is not None:
            yield Done(post.replace, ok=True, detail="its slot was scaled away")

    def _tell(self, member: Member, order: str, now: float) -> Tell:
        patience = member.drain_timeout + DRAIN_GRACE if order == "drain" else STOP_GRACE
        member.state, member.deadline = State.LEAVING, now + patience
        return Tell(member.name, order)

    def _leave(self, now: float) -> Iterator[Action]:
        workers = [member for member in self._members.values() if member.slot is not None]
        rest = [member for member in self._members.values() if member.slot is None]
        for member in workers or rest:
            if member.state is State.LEAVING:
                hurry = self._phase is _Phase.STOPPING and member.deadline > now + STOP_GRACE
                if hurry and not member.killed:
                    yield self._tell(member, "stop", now)
                continue
            drains = self._phase is _Phase.DRAINING and member.slot is not None
            order = "drain" if drains and member.state is State.READY else "stop"
            yield self._tell(member, order, now)
        if not self._members and not self._finished:
            self._finished = True
            yield self._exit

    def _enforce(self, now: float) -> Iterator[Action]:
        for member in self._members.values():
            if now >= member.deadline:
                member.deadline, member.killed = float("inf"), True
                what = "ready" if member.state is State.STARTING else "gone"
                member.reason = member.reason or f"not {what} in time"
                yield Kill(member.name, member.reason)

    def _vacate(self, member: Member) -> list[Action]:
        post = self._post(member)
        out: list[Action] = []
        if post.current is member:
            post.current = None
            if post.replace is not None:
                out.append(Done(post.replace, ok=True, detail="it ended by itself"))
                post.replace = None
        elif post.successor is member:
            post.successor = None
        return out

    def _count(self, post: Post, member: Member, reason: str, now: float) -> None:
        post.died(member, reason, now)
        of_this_kind = [post] if member.slot is None else self._slots.values()
        ever = any(one.filled_before for one in of_this_kind)
        if member.state is State.STARTING and not ever:
            self._boot_failures.setdefault(_kind(member), []).append(reason)

    def _conclude_orders(self) -> Iterator[Action]:
        if self._scale is not None and (done := self._scale.conclude(self._slots)) is not None:
            self._scale = None
            yield done
        if self._roll is not None and (done := self._roll.conclude(self._slots)) is not None:
            if not done.ok:
                # Back to what worked: slots that were rolled already are rolled back in turn.
                self.generation = self._roll.before
            self._roll = None
            yield done
        for post in self._slots.values():
            if post.replace is not None and post.failures >= BOOT_FAILURES:
                ticket, post.replace = post.replace, None
                detail = f"no successor starts ({post.last_reason}); the old one stays"
                yield Done(ticket, ok=False, detail=detail)

    def _abandon_orders(self) -> list[Action]:
        tickets = [order.ticket for order in (self._scale, self._roll) if order is not None]
        tickets += [post.replace for post in self._slots.values() if post.replace is not None]
        self._scale = self._roll = None
        for post in self._slots.values():
            post.replace = None
        return [Done(ticket, ok=False, detail="the server is stopping") for ticket in tickets]

    def _post(self, member: Member) -> Post:
        if member.slot is None:
            return self._coordinator
        # A slot that was scaled away has no post any more; its last workers still leave.
        return self._slots.get(member.slot) or Post(member.slot)

    def _waiting_posts(self) -> Iterator[Post]:
        if self.has_coordinator and self._coordinator.current is None:
            yield self._coordinator
        for post in self._slots.values():
            if post.current is None or (post.successor is None and self._outdated(post)):
                yield post


def _kind(member: Member) -> str:
    return "the coordinator" if member.slot is None else "a worker"
