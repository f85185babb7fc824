"""Containers run without privileges, write nowhere, and show no secret to who looks at them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.compose.deployment import Deployment
from tests.compose.engine import Container, containers, run

SERVICES = ["coordinator", "worker", "balancer"]


@pytest.fixture(params=SERVICES)
def container(request: pytest.FixtureRequest, deployment: Deployment) -> Container:
    service: str = request.param
    return containers(deployment.project, service)[0]


def test_no_privilege_is_left(container: Container) -> None:
    status = container.execute("cat", "/proc/1/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["10001"] * 4
    assert fields["Gid"].split() == ["10001"] * 4
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"


def test_the_root_file_system_cannot_be_written(container: Container) -> None:
    found = container.inspect()
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert not found["HostConfig"]["Privileged"]
    mounts = container.execute("cat", "/proc/1/mounts").splitlines()
    options = {line.split()[1]: line.split()[3].split(",") for line in mounts}
    assert "ro" in options["/"]
    for mount in found["Mounts"]:
        assert not mount["RW"], mount["Destination"]


def test_ports_are_published_on_loopback_only(deployment: Deployment) -> None:
    published = {
        binding["HostIp"]
        for one in containers(deployment.project)
        for bindings in (one.inspect()["NetworkSettings"]["Ports"] or {}).values()
        for binding in bindings or []
    }
    assert published == {"127.0.0.1"}


def test_a_worker_cannot_read_the_coordinators_secret(deployment: Deployment) -> None:
    held = {
        service: set(containers(deployment.project, service)[0].execute(*LIST_KEYS).split())
        for service in ("coordinator", "worker")
    }
    assert held["worker"] == {"coordinator.pub", "supervisor.key", "worker.key"}
    assert held["coordinator"] == {
        *("admin.key", "allow.toml", "coordinator.key", "coordinator.pub"),
    }


def test_what_the_engine_shows_has_no_secret(deployment: Deployment) -> None:
    shown = deployment.logs()
    for one in containers(deployment.project):
        shown += run("docker", "inspect", one.id)
        if one.inspect()["State"]["Running"]:
            shown += run("docker", "top", one.id, "-eo", "pid,args")
    assert "worker" in shown
    found = list(secrets_of(deployment))
    assert len(found) >= 5
    for secret in found:
        assert secret not in shown


LIST_KEYS = ("ls", "/etc/shardtls/keys")


def secrets_of(deployment: Deployment) -> Iterator[str]:
    """Every secret CURVE key, and a line of the certificate's private key."""
    for service in ("coordinator", "worker"):
        container = containers(deployment.project, service)[0]
        for name in container.execute(*LIST_KEYS).split():
            if name.endswith(".key"):
                text = container.execute("cat", f"/etc/shardtls/keys/{name}")
                yield from re.findall(r"secret = ['\"](.{40})['\"]", text)
    worker = containers(deployment.project, "worker")[0]
    yield worker.execute("cat", "/etc/shardtls/tls/key.pem").splitlines()[1]
