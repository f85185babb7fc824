"""What shard/apps/asgi.py uses of uvicorn is there, in the version that is installed: a version
that changes it is found here before a user finds it.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from uvicorn.config import HTTP_PROTOCOLS, LIFESPAN, WS_PROTOCOLS, Config
from uvicorn.importer import import_from_string
from uvicorn.server import ServerState

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
OPTIONS = {
    "app",
    "http",
    "ws",
    "lifespan",
    "log_config",
    "access_log",
    "proxy_headers",
    "forwarded_allow_ips",
    "root_path",
    "timeout_keep_alive",
}
PROTOCOLS = {
    "httptools": HTTP_PROTOCOLS["httptools"],
    "websockets": WS_PROTOCOLS["websockets"],
    "websockets-sansio": WS_PROTOCOLS["websockets-sansio"],
    "wsproto": WS_PROTOCOLS["wsproto"],
    "http2": "uvicorn.protocols.http.zttp_h2_impl:ZttpH2Protocol",
}
CALLBACKS = {
    "connection_made",
    "data_received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
    "shutdown",
}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Never called."""


def test_the_installed_version_is_a_supported_one() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    (supported,) = (line for line in extras["asgi"] if line.startswith("uvicorn"))
    bounds = re.fullmatch(r"uvicorn>=0\.(\d+),<0\.(\d+)", supported)
    assert bounds
    assert int(bounds[1]) <= int(version("uvicorn").split(".")[1]) < int(bounds[2])
    assert supported in extras["wsgi"]
    assert supported in extras["dev"]


def test_config_knows_the_options() -> None:
    assert set(inspect.signature(Config).parameters) >= OPTIONS


def test_config_gives_classes_and_a_wrapped_application() -> None:
    config = Config(application, log_config=None, http="httptools", proxy_headers=False)
    config.load()
    assert config.loaded_app is application
    assert config.http_protocol_class is import_from_string(HTTP_PROTOCOLS["httptools"])
    assert config.lifespan_class is import_from_string(LIFESPAN["auto"])
    assert (b"server", b"uvicorn") in config.encoded_headers


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_made_and_called_as_here(name: str) -> None:
    protocol = import_from_string(PROTOCOLS[name])
    parameters = inspect.signature(protocol).parameters
    assert {"config", "server_state", "app_state"} <= set(parameters)
    needed = [p for p in parameters.values() if p.default is p.empty]
    assert {p.name for p in needed} == {"config", "server_state", "app_state"}
    assert [callback for callback in CALLBACKS if not hasattr(protocol, callback)] == []
    # Its scopes have a copy of the state, which is how they are known again.
    assert "app_state.copy()" in inspect.getsource(inspect.getmodule(protocol) or protocol)


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_lifespan_has_its_steps_and_a_state(mode: str) -> None:
    config = Config(application, log_config=None, lifespan="on" if mode == "on" else "off")
    config.load()
    lifespan: Any = config.lifespan_class(config)
    assert inspect.iscoroutinefunction(lifespan.startup)
    assert inspect.iscoroutinefunction(lifespan.shutdown)
    assert (lifespan.should_exit, lifespan.state) == (False, {})


def test_the_servers_state_has_tasks_and_headers() -> None:
    state = ServerState()
    assert (state.tasks, state.default_headers) == (set(), [])
