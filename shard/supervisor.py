"""The supervisor: the parent of a server's processes.

One loop on the main thread: wait for a signal, a word from a child, a message from the coordinator
or a deadline; hand it to the :class:`~shard.fleet.Fleet`; carry out what that says. It holds the
listening sockets, so that no connection is lost between a worker and its successor.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import zmq

from coordinator import log as logging
from coordinator.errors import SettingsError, StartError
from shard import __version__
from shard.children import Child, Programs, how_it_ended, reap
from shard.control_link import ControlLink, supervisor_identity, wait_until
from shard.departure import Departure
from shard.fleet import COORDINATOR, Fleet
from shard.fleet_actions import Action, Done, Finish, Kill, Serving, Spawn, Tell
from shard.listeners import Listeners
from shard.liveness import Liveness
from shard.membership import Ordered
from shard.plan import Plan, changes_that_need_a_restart
from shard.runtime_dir import RunningServer, RuntimeDir
from shard.settings import Address
from shard.signal_inbox import SignalInbox
from shard.spawning import spawn

__all__ = ["Announcement", "Supervisor"]

SIGNALS: Final = (
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
)

_log = logging.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What people are told once the server serves."""

    bound: tuple[Address, ...]
    admin: str | None
    workers: int
    app: str


@dataclass(frozen=True, slots=True)
class _Order:
    """Who waits for an order's end: the coordinator (`number`), or nobody (a signal)."""

    what: str
    number: int | None


class Supervisor:
    """For the main thread, which its signals come to."""

    def __init__(
        self,
        plan: Plan,
        runtime: RuntimeDir,
        *,
        reload: Callable[[], Plan],
        announce: Callable[[Announcement], None],
        programs: Programs | None = None,
    ) -> None:
        """
        :param reload: reads the settings again; raises SettingsError or StartError.
        :param announce: called when every worker is ready for the first time.
        """
        self._plans = {0: plan}
        self._runtime = runtime
        self._reload = reload
        self._announce = announce
        self._programs = programs or Programs()
        self._host = socket.gethostname()
        # Unique among all supervisors of a deployment, in containers with one host name too.
        self.group = f"{self._host.partition('.')[0][:40]}-{os.urandom(2).hex()}"
        self._fleet = Fleet(
            self.group, plan.workers, plan.settings.server.drain_timeout, plan.has_coordinator
        )
        self._listeners = Listeners()
        self._liveness = Liveness(plan.settings.coordinator.lease_timeout)
        self._departure: Departure | None = None
        self._children: dict[str, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._link: ControlLink | None = None
        self._admin: str | None = None
        self._exit: Finish | None = None
        self._refusal: str | None = None

    @property
    def _plan(self) -> Plan:
        return self._plans[self._fleet.generation]

    def run(self) -> int:
        """Bind, start, and serve until told to stop.

        :returns: the exit code: 0, or 3 if the processes do not start.
        :raises StartError: an address cannot be bound, or nothing can be started.
        """
        self._listeners.open(self._plan.bind, self._plan.settings.server.backlog)
        try:
            with SignalInbox(SIGNALS) as inbox:
                self._selector.register(inbox, selectors.EVENT_READ)
                if not self._plan.has_coordinator:
                    self._link = self._new_link()
                self._publish()
                self._carry_out(self._fleet.start(time.monotonic()))
                while self._exit is None:
                    self._turn(inbox)
        finally:
            self._close()
        if self._exit.reason is not None:
            _log.error("stopped", reason=self._exit.reason)
            raise StartError(self._exit.reason)
        _log.info("stopped")
        return self._exit.code

    def _close(self) -> None:
        # Whatever brought us here, closing the lifelines ends every child that is left.
        for child in self._children.values():
            child.ended(0)
        if self._link is not None:
            # Our own coordinator is gone by now; another one should not wait for our lease's end.
            self._link.close(goodbye=not self._plan.has_coordinator)
        self._context.term()
        self._selector.close()
        self._listeners.close()

    def _turn(self, inbox: SignalInbox) -> None:
        now = time.monotonic()
        link = self._link
        leaving = self._departure
        dues = [
            self._fleet.deadline(),
            link.due if link else None,
            leaving.due if leaving else None,
            self._liveness.due,
        ]
        timeout = wait_until(dues, now)
        ready = self._selector.select(timeout)
        now = time.monotonic()
        for key, _ in ready:
            if isinstance(key.data, Child):
                # One that was reaped a moment ago, in this very turn, has been heard to its end.
                if self._children.get(key.data.name) is key.data:
                    self._hear(key.data, now)
            elif key.fileobj is inbox:
                for number in inbox.take():
                    self._signal(number, now)
        if self._departure is not None and self._departure.step(now):
            self._carry_out(self._fleet.terminate(now))
        self._carry_out(self._fleet.tick(now))
        self._watch(now)
        if self._link is not None and self._exit is None:
            self._converse(self._link, now)

    def _watch(self, now: float) -> None:
        liveness = self._liveness
        liveness.watch(self._fleet.ready_workers(), now)  # some may just have been reaped
        if now >= liveness.due:
            asked, hung = liveness.look(now)
            for name in asked:
                self._children[name].tell("ping")
            for name in hung:
                reason = f"no sign of life for {liveness.patience:g} s"
                self._carry_out(self._fleet.hung(name, reason, now))

    # -- What happens ---------------------------------------------------------------------------

    def _signal(self, number: signal.Signals, now: float) -> None:
        fleet = self._fleet
        if number is signal.SIGCHLD:
            self._reap(now)
            return
        _log.info("signal", signal=number.name)
        if number is signal.SIGTERM:
            if self._departure is None and self._plan.workers:
                self._departure = Departure(self._listeners, now)
            else:
                self._carry_out(fleet.terminate(now))
        elif number in (signal.SIGINT, signal.SIGQUIT):
            self._carry_out(fleet.stop(now))
        elif number is signal.SIGHUP:
            self._start_reload(None, now)
        elif number is signal.SIGUSR1:
            logging.reopen()
            for child in self._children.values():
                child.tell("reopen_logs")
        else:
            step = 1 if number is signal.SIGTTIN else -1
            order = _Order(number.name, None)
            self._carry_out(fleet.scale(fleet.wanted + step, order, now))

    def _reap(self, now: float) -> None:
        by_pid = {child.pid: child for child in self._children.values()}
        for pid, status in reap():
            child = by_pid.get(pid)
            if child is None:
                continue  # an orphan that came to us as PID 1
            self._hear(child, now)
            self._forget(child)
            how = how_it_ended(status)
            child.ended(status)
            report = _log.info if status == 0 else _log.warning
            report("process ended", child=child.name, pid=pid, how=how)
            if child.name != COORDINATOR and status != 0 and self._link is not None:
                self._link.worker_gone(child.name)
            self._carry_out(self._fleet.exited(child.name, how, now))

    def _hear(self, child: Child, now: float) -> None:
        frames, alive = child.heard()
        for frame in frames:
            kind = frame.get("type")
            self._liveness.heard(child.name, now)
            if kind == "ready":
                if child.name == COORDINATOR:
                    self._coordinator_ready(str(frame.get("admin") or ""))
                _log.info("process ready", child=child.name, pid=child.pid)
                self._carry_out(self._fleet.ready(child.name, now))
            elif kind == "leaving":
                reason = str(frame.get("reason", "it gave no reason"))
                _log.warning("worker leaves", child=child.name, pid=child.pid, reason=reason)
                self._carry_out(self._fleet.leaving(child.name, reason, now))
            elif kind == "failed":
                reason = str(frame.get("reason", "it gave no reason"))
                _log.error("process failed", child=child.name, pid=child.pid, reason=reason)
                self._fleet.failed(child.name, reason)
        if not alive:
            self._unregister(child)

    def _coordinator_ready(self, admin: str) -> None:
        self._admin = admin or None
        self._publish()
        if not self._plan.workers:
            return  # there is nothing here that it could order
        if self._link is None:
            self._link = self._new_link()
        else:
            self._selector.unregister(self._link)
            self._link.reconnect()
            self._selector.register(self._link, selectors.EVENT_READ)

    def _converse(self, link: ControlLink, now: float) -> None:
        link.change_state(self._fleet.state, now)
        stats = {"workers_wanted": self._fleet.wanted, "restarts": self._fleet.restarts}
        for order in link.exchange(stats, now):
            self._order(order, now)
        if link.refused != self._refusal:
            self._refusal = link.refused
            if self._refusal is not None:
                _log.error("coordinator refuses this supervisor", reason=self._refusal)

    def _order(self, order: Ordered, now: float) -> None:
        ticket = _Order(order.do, order.order)
        workers, worker = order.body.get("workers"), order.body.get("worker")
        if order.do == "scale" and isinstance(workers, int) and not isinstance(workers, bool):
            self._carry_out(self._fleet.scale(workers, ticket, now))
        elif order.do == "drain" and isinstance(worker, str):
            self._carry_out(self._fleet.drain(worker, ticket, now))
        elif order.do == "reload":
            self._start_reload(order.order, now)
        else:
            self._conclude(Done(ticket, ok=False, detail="a supervisor cannot do this"))

    def _start_reload(self, number: int | None, now: float) -> None:
        ticket = _Order("reload", number)
        try:
            plan = self._reload()
            problems = changes_that_need_a_restart(self._plan, plan)
            if problems:
                raise SettingsError(problems)
            self._listeners.open(plan.bind, plan.settings.server.backlog)
        except (SettingsError, StartError) as error:
            for line in str(error).splitlines():
                _log.error("reload refused", problem=line)
            self._conclude(Done(ticket, ok=False, detail="; ".join(str(error).splitlines())))
            return
        if not plan.workers:
            self._conclude(Done(ticket, ok=True, detail="nothing changed"))
            return
        for warning in plan.warnings:
            _log.warning("certificate or key", problem=warning)
        before = self._plan
        actions = self._fleet.roll(ticket, plan.settings.server.drain_timeout, now)
        self._plans.setdefault(self._fleet.generation, plan)
        self._carry_out(actions)
        # What `scale` did since the last start or reload stays, unless the setting changed.
        if plan.workers != before.workers:
            self._carry_out(self._fleet.scale(plan.workers, _Order("scale", None), now))

    # -- What is to be done ---------------------------------------------------------------------

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Spawn():
                    self._spawn(action)
                case Tell(name, order):
                    if name in self._children:
                        self._children[name].tell(order)
                case Kill(name, reason):
                    _log.warning("process killed", child=name, reason=reason)
                    if name in self._children:
                        self._children[name].kill()
                case Serving():
                    self._serving()
                case Done():
                    self._conclude(action)
                case Finish():
                    self._exit = action

    def _spawn(self, action: Spawn) -> None:
        try:
            child = spawn(
                action,
                self._plans[action.generation],
                self._programs,
                group=self.group,
                listeners=self._listeners,
                runtime=self._runtime,
            )
        except StartError as error:
            _log.error("process not started", child=action.name, reason=str(error))
            now = time.monotonic()
            self._carry_out(self._fleet.exited(action.name, str(error), now))
            return
        self._children[child.name] = child
        self._selector.register(child, selectors.EVENT_READ, child)
        _log.info("process started", child=child.name, pid=child.pid)

    def _serving(self) -> None:
        self._publish()
        bound = self._listeners.bound(self._plan.bind)
        count, app = self._fleet.wanted, self._plan.settings.server.app
        _log.info("serving", bind=",".join(map(str, bound)), workers=count)
        self._announce(Announcement(bound, self._admin, count, app))

    def _conclude(self, done: Done) -> None:
        order = done.ticket
        if not isinstance(order, _Order):
            return
        report = _log.info if done.ok else _log.error
        report("order done" if done.ok else "order failed", order=order.what, detail=done.detail)
        if order.number is not None and self._link is not None:
            self._link.acknowledge(order.number, done.ok, done.detail)
        if order.what == "reload":
            kept = self._fleet.generations()
            self._plans = {key: plan for key, plan in self._plans.items() if key in kept}
            binds = [address for plan in self._plans.values() for address in plan.bind]
            self._listeners.keep_only(binds)

    # -- Bookkeeping ----------------------------------------------------------------------------

    def _new_link(self) -> ControlLink:
        identity = supervisor_identity(self.group, self._host)
        endpoint = self._plan.endpoints.to_connect().control
        link = ControlLink(self._context, identity, endpoint, self._plan.supervisor_curve)
        self._selector.register(link, selectors.EVENT_READ)
        return link

    def _publish(self) -> None:
        key_dir = self._plan.settings.coordinator.key_dir
        self._runtime.publish(
            RunningServer(
                pid=os.getpid(),
                version=__version__,
                control=self._plan.endpoints.to_connect().control,
                key_dir=None if key_dir is None else str(key_dir.absolute()),
                urls=tuple(str(address) for address in self._listeners.bound(self._plan.bind)),
                admin=self._admin,
            )
        )

    def _unregister(self, child: Child) -> None:
        if child.fileno() in self._selector.get_map():
            self._selector.unregister(child)

    def _forget(self, child: Child) -> None:
        self._unregister(child)
        del self._children[child.name]
