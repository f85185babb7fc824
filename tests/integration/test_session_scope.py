"""A session is resumed where it was made, and nowhere else: every crossing of two hosts, client
authorities, verification modes and certificates, with a reload between any two.
"""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import pytest

from tests.certificates import Certificate, issue
from tests.client import VERSIONS, client_context, visit
from tests.client_certificates import ClientAuthority
from tests.server import Server, running
from tests.waiting import eventually

ALONE: Final = ("--lookup-timeout", "1", "--park", "0.005")
"""For one worker, which has nobody to wait for."""
HOSTS: Final = ("a.example", "b.example")
AUTHORITIES: Final = {name: ClientAuthority.root(name) for name in ("first", "second")}


@dataclass(frozen=True, slots=True)
class Place:
    """What a server is reloaded into.

    :ivar known: authorities of clients.
    :ivar names: of the first host's certificate.
    """

    mode: str
    known: tuple[str, ...]
    names: tuple[str, ...] = HOSTS[:1]


BOTH: Final = ("first", "second")
PLACES: Final = (
    Place("off", BOTH),
    Place("optional", BOTH),
    Place("required", BOTH),
    Place("required", ("first",)),
    Place("required", ("second",)),
    Place("required", BOTH, names=("a.example", "more.example")),
)


@dataclass(frozen=True, slots=True)
class Client:
    """It trusts every certificate of the test, shows its own, and speaks one version.

    :ivar authority: that of its certificate.
    """

    authority: str
    version: str
    context: ssl.SSLContext

    def enters(self, place: Place) -> bool:
        """Whether it is let in."""
        return place.mode == "off" or self.authority in place.known


@dataclass(frozen=True, slots=True)
class Session:
    """What a client was given, and where."""

    place: Place
    host: str
    client: Client
    given: ssl.SSLSession


class Scene:
    """A server of one worker with two hosts, and its files."""

    def __init__(self, server: Server, folder: Path, sets: dict[str, Certificate]) -> None:
        self.server = server
        self.place = PLACES[0]
        self.offered = 0
        self._folder = folder
        self._sets = sets

    def reload(self, place: Place, certificate: str) -> None:
        """Bring the server to a place, with one of the first host's certificates."""
        self.place = place
        self.offered = 0
        write(self._folder, place)
        source, target = self._sets[certificate], self.server.certificate
        shutil.copy(source.cert, target.cert)
        shutil.copy(source.key, target.key)
        done = self.server.command("reload")
        assert done.returncode == 0, done.stderr

    def make(self, host: str, client: Client) -> Session:
        """A full handshake."""
        made = self._visit(host, client, None)
        assert made is not None
        assert not made[0]
        return Session(self.place, host, client, made[1])

    def offer(self, session: Session, host: str) -> bool:
        """Whether the session is resumed at a host. One that does not enter is not."""
        self.offered += 1
        done = self._visit(host, session.client, session.given)
        return done is not None and done[0]

    def _visit(
        self, host: str, client: Client, session: ssl.SSLSession | None
    ) -> tuple[bool, ssl.SSLSession] | None:
        address = self.server.address
        try:
            done = visit(address, client.context, session, server_name=host)
        except ssl.SSLError as error:
            if client.enters(self.place) or error.reason != "TLSV1_ALERT_UNKNOWN_CA":
                raise
            return None
        assert client.enters(self.place)
        assert done.resumed == done.facts["resumed"]
        asked = self.place.mode != "off"
        assert done.facts["client"] == (f"CN={client.authority}-client" if asked else None)
        assert done.session is not None
        return done.resumed, done.session


def write(folder: Path, place: Place) -> None:
    """The server's settings and its authorities of clients."""
    text = f'[tls]\nclient_auth = "{place.mode}"\nclient_ca = "ca.pem"\n'
    (folder / "shardtls.toml").write_text(text)
    (folder / "ca.pem").write_bytes(b"".join(AUTHORITIES[name].pem for name in place.known))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[Scene, list[Client]]]:
    """The server in the first place, and four clients."""
    first, second = issue(tmp_path / "a", HOSTS[0]), issue(tmp_path / "b", HOSTS[1])
    sets = {
        "made": issue(tmp_path / "made", HOSTS[0]),
        "renewed": issue(tmp_path / "renewed", HOSTS[0]),
        "more": issue(tmp_path / "more", *PLACES[-1].names),
    }
    clients = []
    for name, version in product(AUTHORITIES, VERSIONS):
        context = ssl.create_default_context()
        for certificate in (first, second, *sets.values()):
            context.load_verify_locations(certificate.authority)
        # The same session is offered to another host: that is what is to be tested.
        context.check_hostname = False
        context.minimum_version = context.maximum_version = VERSIONS[version]
        context.load_cert_chain(AUTHORITIES[name].client(tmp_path, f"{name}-client").file)
        clients.append(Client(name, version, context))
    write(tmp_path, PLACES[0])
    with running(
        tmp_path,
        certificate=first,
        workers=1,
        config=(tmp_path / "shardtls.toml").read_text(),
        arguments=["--cert", str(second.cert), "--key", str(second.key), *ALONE],
    ) as server:
        yield Scene(server, tmp_path, sets), clients


def test_every_crossing_is_a_full_handshake_and_home_is_a_resumption(
    scene: tuple[Scene, list[Client]],
) -> None:
    world, clients = scene
    made: dict[Place, list[Session]] = {}
    # The second lap takes each place's sessions to those before it, and then home: that they are
    # resumed there, under a renewed certificate even, shows that nothing else was wrong with them.
    for lap, place in [(lap, place) for lap in ("made", "renewed") for place in PLACES]:
        world.reload(place, lap if len(place.names) == 1 else "more")
        for session in made.pop(place, []):
            assert world.offer(session, session.host), (lap, session)
        for session in [one for sessions in made.values() for one in sessions]:
            assert not world.offer(session, session.host), (lap, place, session)
        if lap == "renewed":
            continue
        entering = [client for client in clients if client.enters(place)]
        made[place] = [world.make(HOSTS[0], client) for client in entering]
        for session in made[place]:
            assert not world.offer(session, HOSTS[1]), session
            there = world.make(HOSTS[1], session.client)
            assert not world.offer(there, HOSTS[0]), session
            assert world.offer(there, HOSTS[1]), session
    session = world.make(HOSTS[1], clients[0])
    assert not world.offer(session, HOSTS[0])
    # The client did offer it: it was looked up, as all the others were.
    eventually(lambda: lookups(world.server) == world.offered, within=5, what="all looked up")


def lookups(server: Server) -> int:
    """Sessions that clients have offered to the workers."""
    counts = [worker["lookups"] for worker in server.workers()]
    return sum(one["hits"] + sum(one["misses"].values()) for one in counts)


@pytest.mark.parametrize("version", VERSIONS)
def test_another_application_protocol_is_a_full_handshake(hello: Server, version: str) -> None:
    context = client_context(hello.certificate, version)
    spoken, none = ["http/1.1"], list[str]()
    for before, after in ((spoken, none), (none, spoken)):
        context.set_alpn_protocols(before)
        first, second = (visit(hello.address, context).session for _ in range(2))
        context.set_alpn_protocols(after)
        assert not visit(hello.address, context, first).resumed
        context.set_alpn_protocols([*before, "other"] if before else before)
        assert visit(hello.address, context, second).resumed
    eventually(
        lambda: any("alpn" in worker["lookups"]["misses"] for worker in hello.workers()),
        within=5,
        what="the reason is counted",
    )
