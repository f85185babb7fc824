"""The servers that are compared. Each runs in a session of its own with two workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.bench.ticks import tree_seconds
from tests.certificates import Certificate
from tests.ports import free_port
from tests.server import running
from tests.waiting import eventually

__all__ = ["DEFAULT", "SUBJECTS", "Subject", "nginx", "shardtls"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A server that runs.

    :ivar pid: root of its process tree.
    :ivar version: what it says it is.
    """

    name: str
    pid: int
    host: str
    port: int
    version: str

    def cpu_seconds(self) -> float:
        """What its processes have used so far, user and system."""
        return tree_seconds(self.pid)


NGINX_CONFIGURATION = """\
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_timeout 60s;
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096{deferred};
    ssl_certificate {certificate.cert};
    ssl_certificate_key {certificate.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ecdh_curve X25519:prime256v1;
    ssl_session_cache shared:sessions:64m;
    ssl_session_timeout 1h;
    ssl_session_tickets {tickets};
    ssl_conf_command NumTickets 2;
    return 200 "0123456789abcdef";
  }}
}}
"""
"""Sessions shared by the workers, as shardtls has them, and as many tickets."""


@contextmanager
def nginx(
    folder: Path,
    certificate: Certificate,
    workers: int,
    *,
    deferred: bool = False,
    tickets: bool = False,
) -> Iterator[Subject]:
    """Start nginx; stop it at the end.

    :param deferred: accept a connection once its ClientHello is there (TCP_DEFER_ACCEPT), as
        shardtls always does and nginx on request.
    :param tickets: sessions sealed into tickets; else the clients hold ids of stored ones.
    """
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        NGINX_CONFIGURATION.format(
            folder=folder,
            port=port,
            workers=workers,
            certificate=certificate,
            deferred=" deferred" if deferred else "",
            tickets="on" if tickets else "off",
        )
    )
    process = subprocess.Popen(
        [program, "-c", str(configuration), "-e", str(folder / "error.log")],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: _accepts(port), within=10, what="nginx to listen")
        version = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
        name = f"nginx{'-deferred' * deferred}{'-tickets' * tickets}"
        yield Subject(name, process.pid, "127.0.0.1", port, version.split(":")[-1].strip())
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def shardtls(
    folder: Path, certificate: Certificate, workers: int, *, arguments: Sequence[str] = ()
) -> Iterator[Subject]:
    """Start supervisor, coordinator and workers; stop them at the end.

    :param arguments: more flags of ``shardtls up``.
    """
    with running(folder, certificate=certificate, workers=workers, arguments=arguments) as server:
        version = f"shardtls/{server.status()['version']}"
        yield Subject(folder.name, server.pid, server.host, server.port, version)


SEALED: Final = ("--resumption", "tickets")
SUBJECTS: Final[dict[str, Callable[[Path, Certificate, int], AbstractContextManager[Subject]]]] = {
    "shardtls": shardtls,
    "shardtls-tickets": partial(shardtls, arguments=SEALED),
    "shardtls-once": partial(shardtls, arguments=[*SEALED, "--ticket-single-use"]),
    "nginx": nginx,
    "nginx-deferred": partial(nginx, deferred=True),
    "nginx-tickets": partial(nginx, tickets=True),
}
DEFAULT: Final = ("shardtls", "nginx")


def _accepts(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
