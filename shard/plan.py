"""From settings to what each process is told.

Here the files that the settings name are read and checked, all of them, so that a start or a reload
is refused as a whole. A :class:`Plan` is immutable; a reload makes a new one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

from coordinator.errors import SettingsError, SettingsProblem
from coordinator.settings import AllowedKey, CoordinatorSettings, ServerCurve
from shard import __version__
from shard.client_trust import ClientTrust, load_client_trust
from shard.curve_keys import ALLOW_LIST, load_allow_list, load_client, load_server
from shard.engine_limits import engine_problems
from shard.identity import Identity, expiry_warnings, load_identity, readable_by_others, scope
from shard.ocsp import load_staple
from shard.settings import Address, Settings
from shard.worker_settings import (
    AsgiSettings,
    CurveKeys,
    HostSettings,
    ProxySettings,
    RouteSettings,
    WorkerSettings,
)

__all__ = ["Endpoints", "Plan", "Role", "changes_that_need_a_restart", "prepare"]

Role: TypeAlias = Literal["up", "coordinator", "worker"]
"""What a supervisor runs: both, the coordinator alone, or workers alone."""

MAX_SOCKET_PATH: Final = 107
"""Bytes of a path in ``sockaddr_un`` on Linux, less the zero byte (unix(7))."""
_WILDCARD: Final = re.compile(r"^tcp://(\*|0\.0\.0\.0|\[::\]):")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Of the coordinator, as it binds them."""

    sessions: str
    control: str

    def to_connect(self) -> Endpoints:
        """As a process on the same machine reaches them."""
        return Endpoints(_reachable(self.sessions), _reachable(self.control))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is needed to run, checked.

    :ivar identities: the certificates, the default one first.
    :ivar trust: what is asked of clients.
    :ivar warnings: for the log at start.
    """

    role: Role
    settings: Settings
    endpoints: Endpoints
    identities: tuple[Identity, ...] = ()
    trust: ClientTrust = field(default_factory=ClientTrust)
    server_curve: ServerCurve | None = None
    worker_curve: CurveKeys | None = None
    supervisor_curve: CurveKeys | None = None
    allowed: tuple[AllowedKey, ...] = ()
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @property
    def has_coordinator(self) -> bool:
        """Whether the coordinator is ours to run."""
        return self.role != "worker"

    @property
    def workers(self) -> int:
        """How many to start with."""
        return 0 if self.role == "coordinator" else self.settings.server.workers

    @property
    def bind(self) -> tuple[Address, ...]:
        """Where to listen."""
        return () if self.role == "coordinator" else self.settings.server.bind

    def with_identity(self, identity: Identity) -> Plan:
        """The same with one certificate more."""
        return replace(self, identities=(*self.identities, identity))

    def coordinator_settings(self) -> CoordinatorSettings:
        """What the coordinator is told."""
        settings = self.settings
        return CoordinatorSettings(
            sessions_endpoint=self.endpoints.sessions,
            control_endpoint=self.endpoints.control,
            sessions_ttl=settings.sessions.ttl,
            sessions_max_bytes=settings.sessions.max_bytes,
            sessions_max_entries=settings.sessions.max_entries,
            ticket_rotate_every=settings.ticket_keys.rotate_every,
            ticket_keep=settings.ticket_keys.keep,
            lease_timeout=settings.coordinator.lease_timeout,
            heartbeat=settings.coordinator.heartbeat,
            park=settings.coordinator.park,
            curve=self.server_curve,
            allowed=self.allowed,
            admin_host=settings.admin.bind.host,
            admin_port=settings.admin.bind.port,
            entropy_sources=settings.entropy.sources,
            entropy_retest=settings.entropy.retest,
            log_level=settings.log.level,
            log_format=settings.log.format,
            log_file=self.log_file,
            version=__version__,
            deployment=settings.coordinator.deployment,
        )

    def worker_settings(
        self,
        *,
        worker: str,
        slot: int,
        group: str,
        listeners: Sequence[int],
        bound: Sequence[Address],
    ) -> WorkerSettings:
        """What one worker is told.

        :param listeners: descriptors that it inherits.
        :param bound: their addresses, which are part of the sessions' scope.
        """
        settings = self.settings
        server, tls = settings.server, settings.tls
        endpoints = self.endpoints.to_connect()
        return WorkerSettings(
            worker=worker,
            slot=slot,
            group=group,
            listeners=tuple(listeners),
            app=server.app,
            readers=server.readers,
            writers=server.writers,
            max_connections=server.max_connections,
            handshake_timeout=server.handshake_timeout,
            idle_timeout=server.idle_timeout,
            drain_timeout=server.drain_timeout,
            hosts=tuple(
                HostSettings(
                    names=identity.names,
                    chain=identity.chain,
                    key=identity.key,
                    ocsp=identity.ocsp,
                    not_after=identity.not_after.timestamp(),
                    scope=scope(
                        ports=[address.port for address in bound],
                        names=(*identity.names, *identity.addresses),
                        client_authorities=self.trust.authorities,
                        verify=self.trust.mode,
                        alpn=tls.alpn,
                        min_version=tls.min_version,
                    ),
                )
                for identity in self.identities
            ),
            min_version=tls.min_version,
            cipher_suites=tls.cipher_suites or None,
            groups=tls.groups or None,
            alpn=tls.alpn,
            client_auth=self.trust.mode,
            client_ca=self.trust.authorities,
            crl=self.trust.crls,
            client_depth=self.trust.depth,
            resumption=settings.sessions.resumption,
            tickets_per_connection=settings.sessions.tickets_per_connection,
            session_ttl=int(settings.sessions.ttl),
            single_use=settings.ticket_keys.single_use,
            lookup_timeout=settings.sessions.lookup_timeout,
            sessions_endpoint=endpoints.sessions,
            control_endpoint=endpoints.control,
            curve=self.worker_curve,
            drbg_reseed_requests=settings.drbg.reseed_requests,
            drbg_reseed_interval=settings.drbg.reseed_interval,
            log_level=settings.log.level,
            log_format=settings.log.format,
            log_file=self.log_file,
            asgi=AsgiSettings(
                root_path=settings.asgi.root_path,
                access_log=settings.asgi.access_log,
                lifespan=settings.asgi.lifespan,
                websocket=settings.asgi.websocket,
                keep_alive=settings.asgi.keep_alive,
                forwarded_allow_ips=settings.asgi.forwarded_allow_ips,
                http2="h2" in tls.alpn,
                threads=settings.asgi.threads,
            ),
            proxy_protocol_from=server.proxy_protocol_from,
            proxy=ProxySettings(
                **settings.proxy.model_dump(),
                routes=tuple(
                    RouteSettings(server_name=route.server_name, backends=route.backend)
                    for route in settings.route
                ),
            ),
        )

    @property
    def log_file(self) -> str | None:
        """Absolute, so that every process means the same file."""
        file = self.settings.log.file
        return None if file is None else str(file.absolute())


def prepare(
    settings: Settings,
    role: Role,
    runtime_dir: Path,
    *,
    engine: Callable[
        [Settings, Sequence[Identity], ClientTrust], list[SettingsProblem]
    ] = engine_problems,
) -> Plan:
    """Read and check every file that the settings name.

    A certificate of our own (``tls.self_signed``) is not made here: :meth:`Plan.with_identity`.

    :param runtime_dir: where the endpoints are unless they are set; it need not exist.
    :param engine: asks the TLS engine what it has against the settings.
    :raises SettingsError: every problem of every file.
    """
    problems: list[SettingsProblem] = []
    identities: list[Identity] = []
    warnings: list[str] = []
    trust = ClientTrust()
    if role != "coordinator":
        for number, pair in enumerate(settings.certificate):
            with _collecting(problems):
                label = f"certificate.{number}"
                identity = load_identity(pair.cert, pair.key, label, pair.password_file)
                warnings += expiry_warnings(identity)
                if pair.ocsp is not None:
                    staple, notes = load_staple(pair.ocsp, identity, f"{label}.ocsp")
                    identity = replace(identity, ocsp=staple)
                    warnings += notes
                identities.append(identity)
            secrets = [path for path in (pair.key, pair.password_file) if path is not None]
            warnings += [_open_to_others(path) for path in secrets if readable_by_others(path)]
        if not settings.certificate and not settings.tls.self_signed:
            remedy = "name one with --cert and --key, or use --self-signed for development"
            problems.append(SettingsProblem("certificate", f"there is none: {remedy}"))
        with _collecting(problems):
            trust, notes = load_client_trust(settings.tls)
            warnings += notes
        problems += engine(settings, identities, trust)
    plan = Plan(
        role=role,
        settings=settings,
        endpoints=_endpoints(settings, role, runtime_dir, problems),
        identities=tuple(identities),
        trust=trust,
        warnings=tuple(warnings),
    )
    if settings.coordinator.key_dir is not None:
        plan = _with_keys(plan, settings.coordinator.key_dir, problems)
    if problems:
        # Two roles may miss the same file.
        raise SettingsError(list(dict.fromkeys(problems)))
    return plan


def changes_that_need_a_restart(old: Plan, new: Plan) -> list[SettingsProblem]:
    """What a reload cannot change."""
    found = []
    before, after = old.settings.restart_values(), new.settings.restart_values()
    for path, value in after.items():
        if value != before[path]:
            message = (
                f"cannot change from {before[path]} to {value} by a reload: restart the server"
            )
            found.append(SettingsProblem(path, message))
    if not found and old.coordinator_settings() != new.coordinator_settings():
        message = "the keys or the allow-list changed: restart the coordinator"
        found.append(SettingsProblem("coordinator.key_dir", message))
    return found


def _endpoints(
    settings: Settings, role: Role, runtime_dir: Path, problems: list[SettingsProblem]
) -> Endpoints:
    coordinator = settings.coordinator
    if coordinator.sessions is not None and coordinator.control is not None:
        return Endpoints(coordinator.sessions, coordinator.control)
    if role == "worker":
        remedy = "name the coordinator's with --sessions-endpoint and --control-endpoint"
        problems += [
            SettingsProblem(f"coordinator.{name}", f"is missing: {remedy}")
            for name in ("sessions", "control")
        ]
    sockets = [runtime_dir.absolute() / f"{name}.sock" for name in ("sessions", "control")]
    if any(len(os.fsencode(path)) > MAX_SOCKET_PATH for path in sockets):
        message = (
            f"{runtime_dir} is too long: the path of a socket in it would exceed "
            f"{MAX_SOCKET_PATH} bytes; choose a shorter one with --runtime-dir"
        )
        problems.append(SettingsProblem("server.runtime_dir", message))
    return Endpoints(f"ipc://{sockets[0]}", f"ipc://{sockets[1]}")


def _with_keys(plan: Plan, folder: Path, problems: list[SettingsProblem]) -> Plan:
    label = "coordinator.key_dir"
    if not plan.endpoints.control.startswith("tcp://"):
        return plan  # CURVE is for tcp:// alone
    server = worker = supervisor = None
    allowed: tuple[AllowedKey, ...] = ()
    secrets = []
    if plan.has_coordinator:
        secrets.append("coordinator")
        with _collecting(problems):
            server = load_server(folder, label)
        named = plan.settings.coordinator.allow_list
        where = label if named is None else "coordinator.allow_list"
        with _collecting(problems):
            allowed = load_allow_list(named or folder / ALLOW_LIST, where)
    if plan.role != "coordinator":
        secrets += ["worker", "supervisor"]
        with _collecting(problems):
            worker = load_client(folder, "worker", label)
        with _collecting(problems):
            supervisor = load_client(folder, "supervisor", label)
    files = [folder / f"{name}.key" for name in secrets]
    return replace(
        plan,
        server_curve=server,
        worker_curve=worker,
        supervisor_curve=supervisor,
        allowed=allowed,
        warnings=(
            *plan.warnings,
            *(_open_to_others(file) for file in files if readable_by_others(file)),
        ),
    )


@contextmanager
def _collecting(problems: list[SettingsProblem]) -> Iterator[None]:
    """Go on after an error, so that all are found."""
    try:
        yield
    except SettingsError as error:
        problems += error.problems


def _open_to_others(key: Path) -> str:
    return f"{key}: other users can read this key; chmod 600 it"


def _reachable(endpoint: str) -> str:
    match = _WILDCARD.match(endpoint)
    if match is None:
        return endpoint
    host = "[::1]" if match[1] == "[::]" else "127.0.0.1"
    return f"tcp://{host}:{endpoint[match.end() :]}"
