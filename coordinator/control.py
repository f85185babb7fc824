"""What happens to a message of the *control* endpoint. Pure: messages in, messages out.

It decides for the registry, the orders, the entropy service and the session cache; it opens no
socket and reads no clock. For the broker's thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from coordinator import bodies
from coordinator.calls import Call, Outgoing, identity
from coordinator.entropy import EntropyAccumulator, RepeatedSeedError
from coordinator.errors import MessageError
from coordinator.log import get_logger
from coordinator.lookups import SessionDesk
from coordinator.orders import MAX_PENDING, OrderBook, Outcome
from coordinator.permissions import Peer
from coordinator.protocol import (
    ERROR_ABSENT,
    ERROR_ENTROPY,
    ERROR_REFUSED,
    FIRST_OUTPUT_BYTES,
    MAX_FIRST_OUTPUTS,
    MAX_LEDGER_LINES,
    MAX_NOISE_BYTES,
    Ack,
    decode_control,
    encode_error,
    encode_order,
    encode_reply,
)
from coordinator.purging import Purge, PurgeDesk, read_filter
from coordinator.quarantine import QuarantineDesk
from coordinator.registry import (
    Member,
    MemberState,
    Registry,
    Role,
    read_registration,
    read_state,
)
from coordinator.seeding import SeedDesk
from coordinator.stats import SupervisorStats, WorkerStats
from coordinator.status import Process, server_view, sessions_view, worker_view
from coordinator.ticket_desk import TicketDesk, Waiting
from coordinator.traffic import Traffic
from coordinator.watermarks import TicketFilter

__all__ = ["ControlDesk", "Outgoing"]

MAX_WORKERS: Final = 4096
MAX_ORDER_SECONDS: Final = 3600.0
STATUS_LEDGER_LINES: Final = 16


_log = get_logger("control")


class ControlDesk:
    """Everything that the *control* endpoint does."""

    def __init__(
        self,
        *,
        process: Process,
        registry: Registry,
        orders: OrderBook,
        entropy: EntropyAccumulator,
        sessions: SessionDesk,
        tickets: TicketDesk,
        gather: Callable[[], None],
        traffic: Traffic,
        heartbeat: float,
        order_timeout: float,
    ) -> None:
        """
        :param gather: reads the immediate noise sources into `entropy` until a seed is possible.
        :param heartbeat: seconds, told to whoever registers.
        :param order_timeout: seconds, for orders whose request names none.
        """
        self.process = process
        self.registry = registry
        self.orders = orders
        self.sessions = sessions
        self.purges = PurgeDesk(sessions)
        self.tickets = tickets
        self._seeds = SeedDesk(entropy, gather)
        self._quarantine = QuarantineDesk(registry, orders)
        self._traffic = traffic
        self._heartbeat_seconds = heartbeat
        self._order_timeout = order_timeout
        self._handlers: dict[str, Callable[[Call], list[Outgoing]]] = {
            "register": self._register,
            "heartbeat": self._heartbeat,
            "goodbye": self._goodbye,
            "seed": self._seed,
            "ping": self._ping,
            "status": self._status,
            "entropy": self._entropy,
            "scale": self._scale,
            "drain": self._drain,
            "reload": self._reload,
            "rotate": self._rotate,
            "purge": self._purge,
        }

    def handle(
        self, routing: bytes, peer: Peer, frame: bytes, now: float, wall: float
    ) -> list[Outgoing]:
        """Carry out one message.

        :param routing: routing id of its sender.
        :param now: seconds of the broker's clock.
        :param wall: Unix time in seconds.
        :returns: what is to be sent: replies, errors, orders.
        """
        request: int | None = None
        try:
            message = decode_control(frame)
            if isinstance(message, Ack):
                peer.require("ack")
                return self._acknowledge(routing, message)
            request = message.request
            peer.require(message.type)
            call = Call(routing, peer, message.request, message.body, now, wall)
            return self._handlers[message.type](call)
        except MessageError as error:
            return [self.refuse(routing, request, error)]

    def refuse(self, routing: bytes, request: int | None, error: MessageError) -> Outgoing:
        """Count an error, and the reply that says so."""
        self._traffic.errors[error.code] += 1
        return routing, encode_error(request, error.code, error.detail)

    def tick(self, now: float) -> list[Outgoing]:
        """What follows from time alone: leases that ended, orders that expired."""
        outgoing: list[Outgoing] = []
        lost, dropped = self.registry.sweep(now)
        for member in lost:
            _log.warning("member lost", **identity(member), silent_seconds=now - member.seen_at)
            outgoing += self._answers(self.orders.gone(member.id))
        for member in dropped:
            _log.info("lost member dropped", **identity(member))
        outgoing += self._quarantine.tick(now)
        return outgoing + self._answers(self.orders.expire(now)) + self.tickets.tick(now)

    def advance_purges(self, now: float, wall: float) -> list[Outgoing]:
        """Go on with what administrators want purged: a short piece of it, and who is done."""
        outgoing: list[Outgoing] = []
        for done, count in self.purges.advance(now):
            if self.tickets.in_use:
                outgoing += self._purge_tickets(done, {"sessions": count}, now, wall)
            else:
                reply = encode_reply(done.request, {"ok": True, "sessions": count})
                outgoing.append((done.asker, reply))
        return outgoing

    def status(self, now: float, wall: float) -> dict[str, Any]:
        """The status object of ``/status.json``."""
        process = self.process
        return {
            "version": process.version,
            "deployment": process.deployment,
            "time": round(wall, 3),
            "server": server_view(self.registry, now),
            "coordinator": {
                "pid": process.pid,
                "started": round(process.started, 3),
                "uptime_seconds": round(wall - process.started, 3),
                "boot": process.boot,
                "sessions": sessions_view(self.sessions, self.purges),
                "entropy": self._seeds.view(now, STATUS_LEDGER_LINES),
                "ticket_keys": self.tickets.view(now),
                "orders_pending": len(self.orders),
                **self._traffic.view(),
            },
            "workers": [worker_view(member, now) for member in self.registry.workers()],
        }

    # ---- members ----

    def _register(self, call: Call) -> list[Outgoing]:
        registration = read_registration(call.body, call.peer.key, call.routing)
        if registration.role is Role.SUPERVISOR:
            call.peer.require("register-supervisor")
        returned = self.registry.get(registration.id) is not None
        member = self.registry.register(registration, call.now)
        _log.info(
            "member registered",
            **identity(member),
            key=call.peer.name or "local",
            returned=returned,
        )
        body: dict[str, Any] = {
            "boot": self.process.boot,
            "heartbeat": self._heartbeat_seconds,
            "lease": self.registry.lease,
        }
        if registration.role is Role.WORKER:
            body |= self.tickets.registered(registration.id, call.body, call.now)
        return [call.reply(body)]

    def _heartbeat(self, call: Call) -> list[Outgoing]:
        state = read_state(call.body)
        member = self.registry.member(bodies.text(call.body, "id"), call.peer.key)
        # Read before anything changes: a refused heartbeat renews nothing.
        stats = bodies.optional_map(call.body, "stats")
        marks = bodies.byte_strings(
            call.body, "first_outputs", FIRST_OUTPUT_BYTES, MAX_FIRST_OUTPUTS
        )
        if member.registration.role is Role.WORKER:
            member.worker = WorkerStats.read(stats)
        else:
            member.supervisor = SupervisorStats.read(stats)
        was = member.state
        self.registry.renew(member, call.routing, state, call.now)
        if was is not state:
            _log.info("member state", **identity(member), was=str(was))
        outgoing: list[Outgoing] = [call.reply({"boot": self.process.boot})]
        earlier = self._seeds.watch(member.id, marks)
        if earlier is not None:
            outgoing += self._quarantine.begin(
                (earlier, member.id), "a first output came twice", call.now
            )
        return outgoing + self.tickets.heard(member, call.now)

    def _goodbye(self, call: Call) -> list[Outgoing]:
        outgoing: list[Outgoing] = [call.reply({})]
        member = self.registry.goodbye(bodies.text(call.body, "id"), call.peer.key)
        if member is not None:
            _log.info("member left", **identity(member))
            outgoing += self._answers(self.orders.gone(member.id))
        return outgoing

    def _seed(self, call: Call) -> list[Outgoing]:
        requester = bodies.text(call.body, "id")
        purpose = bodies.text(call.body, "purpose")
        if self.registry.get(requester) is not None:
            # The ledger must not say that one peer got what another did.
            self.registry.member(requester, call.peer.key)
        self._seeds.mix(bodies.optional_bytes(call.body, "noise", MAX_NOISE_BYTES), call.now)
        try:
            seed = self._seeds.give(requester, purpose, call.now, call.wall)
        except RepeatedSeedError as error:
            refusal = MessageError(ERROR_ENTROPY, f"{error}: a seed came twice")
            return [
                self.refuse(call.routing, call.request, refusal),
                *self._quarantine.begin((error.earlier, requester), "a seed came twice", call.now),
            ]
        return [call.reply({"seed": seed})]

    def _ping(self, call: Call) -> list[Outgoing]:
        return [call.reply({"boot": self.process.boot})]

    def _acknowledge(self, routing: bytes, ack: Ack) -> list[Outgoing]:
        for member in self.registry:
            if member.routing == routing:
                outcome = self.orders.acknowledge(ack.order, member.id, ack.body)
                if outcome is not None:
                    return self._answers([outcome])
        # Late, or of a peer that is no member: nobody waits for it.
        return []

    # ---- administrators ----

    def _status(self, call: Call) -> list[Outgoing]:
        body = {"status": self.status(call.now, call.wall)}
        return [call.reply(body)]

    def _entropy(self, call: Call) -> list[Outgoing]:
        lines = MAX_LEDGER_LINES
        if "limit" in call.body:
            lines = bodies.count(call.body, "limit", MAX_LEDGER_LINES)
        return [call.reply({"entropy": self._seeds.view(call.now, lines)})]

    def _scale(self, call: Call) -> list[Outgoing]:
        workers = bodies.count(call.body, "workers", MAX_WORKERS)
        supervisors = self._live_supervisors()
        if "supervisor" in call.body:
            wanted = bodies.text(call.body, "supervisor")
            supervisors = [member for member in supervisors if member.id == wanted]
            if not supervisors:
                raise MessageError(ERROR_REFUSED, f"no supervisor {wanted!r} is registered")
        elif len(supervisors) > 1:
            names = ", ".join(sorted(member.id for member in supervisors))
            raise MessageError(ERROR_REFUSED, f"name one of the supervisors: {names}")
        return self._order(call, supervisors, {"do": "scale", "workers": workers})

    def _drain(self, call: Call) -> list[Outgoing]:
        id_ = bodies.text(call.body, "worker")
        worker = self.registry.get(id_)
        if worker is None or worker.registration.role is not Role.WORKER:
            raise MessageError(ERROR_REFUSED, f"there is no worker {id_!r}")
        supervisors = [
            member for member in self._live_supervisors() if member.id == worker.registration.group
        ]
        if not supervisors:
            raise MessageError(ERROR_REFUSED, f"the supervisor of {id_!r} is not registered")
        return self._order(call, supervisors, {"do": "drain", "worker": id_})

    def _reload(self, call: Call) -> list[Outgoing]:
        return self._order(call, self._live_supervisors(), {"do": "reload"})

    def _rotate(self, call: Call) -> list[Outgoing]:
        if call.body.get("drbg") is not True:
            if not self.tickets.in_use:
                text = "no worker issues sealed tickets: there are no ticket keys to rotate"
                raise MessageError(ERROR_REFUSED, text)
            return self.tickets.rotate(self._waiting(call), call.now)
        workers = self.registry.workers()
        if not workers:
            raise MessageError(ERROR_ABSENT, "no worker is registered")
        outgoing = self._order(call, workers, {"do": "reseed"})
        # Sent to those as well, who may come back; but nobody shall wait for them.
        for worker in workers:
            if worker.state is MemberState.LOST:
                outgoing += self._answers(self.orders.gone(worker.id, "it is lost"))
        return outgoing

    def _purge(self, call: Call) -> list[Outgoing]:
        what = read_filter(call.body)
        if what.client is not None and self.tickets.in_use:
            text = "a sealed ticket does not tell its client: purge by another condition"
            raise MessageError(ERROR_REFUSED, text)
        by = call.peer.name or "local"
        waiting = self._waiting(call)
        self.purges.ask(Purge(waiting.asker, waiting.request, what, by, call.wall, waiting.timeout))
        return []

    def _purge_tickets(
        self, done: Purge, extra: Mapping[str, Any], now: float, wall: float
    ) -> list[Outgoing]:
        """The sessions are purged; now the tickets that are sealed, which clients keep."""
        what = done.what
        which = TicketFilter(what.scope, what.server_name, what.certificate, what.worker)
        older_than = what.older_than or 0.0
        waiting = Waiting(done.asker, done.request, done.timeout)
        try:
            return self.tickets.purge(
                waiting, which, extra, now=now, wall=wall, older_than=older_than
            )
        except MessageError as error:
            return [self.refuse(done.asker, done.request, error)]

    def _waiting(self, call: Call) -> Waiting:
        timeout = bodies.seconds(call.body, "timeout", self._order_timeout, MAX_ORDER_SECONDS)
        return Waiting(call.routing, call.request, timeout)

    def _live_supervisors(self) -> list[Member]:
        supervisors = self.registry.supervisors(live=True)
        if not supervisors:
            raise MessageError(ERROR_ABSENT, "no supervisor of workers is registered")
        return supervisors

    def _order(
        self,
        call: Call,
        members: Iterable[Member],
        order: Mapping[str, Any],
    ) -> list[Outgoing]:
        timeout = bodies.seconds(call.body, "timeout", self._order_timeout, MAX_ORDER_SECONDS)
        if len(self.orders) >= MAX_PENDING:
            raise MessageError(ERROR_REFUSED, f"{MAX_PENDING} orders are under way already")
        targets = list(members)
        ids = [member.id for member in targets]
        number = self.orders.issue(call.routing, call.request, ids, timeout, call.now)
        _log.info("order", **order, to=",".join(ids))
        frame = encode_order(number, order)
        return [(member.routing, frame) for member in targets]

    def _answers(self, outcomes: Iterable[Outcome]) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        for outcome in outcomes:
            if outcome.error is None:
                frame = encode_reply(outcome.request, outcome.body)
                outgoing.append((outcome.asker, frame))
            else:
                error = MessageError(outcome.error, outcome.detail)
                outgoing.append(self.refuse(outcome.asker, outcome.request, error))
        return outgoing
