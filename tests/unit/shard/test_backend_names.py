"""Names of backends, and the settings that hold them."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import SettingsError
from shard.settings import load
from shard.settings.backend import BackendName, parse_backends
from shard.worker_settings import ProxySettings, RouteSettings, WorkerSettings
from tests.certificates import Certificate
from tests.engine.reading import worker_settings


@pytest.mark.parametrize(
    ("text", "name", "is_address"),
    [
        ("127.0.0.1:80", BackendName("127.0.0.1", 80), True),
        ("[2001:DB8::0]:65535", BackendName("2001:db8::", 65535), True),
        ("Backend-1.example.org:8080", BackendName("backend-1.example.org", 8080), False),
        ("localhost:1", BackendName("localhost", 1), False),
        ("unix:/run/app.sock", BackendName(path="/run/app.sock"), True),
    ],
)
def test_names(text: str, name: BackendName, is_address: bool) -> None:
    assert BackendName.parse(text) == name
    assert name.is_address == is_address
    assert BackendName.parse(str(name)) == name


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "80",
        ":80",
        "host",
        "host:0",
        "host:65536",
        "::1:80",
        "[127.0.0.1]:80",
        "[host]:80",
        "ho st:80",
        "-x:80",
        "a..b:80",
        "x" * 254 + ":80",
        "unix:",
        "unix:relative",
        "unix:/",
        "unix:/" + "x" * 107,
        "http://host:80",
        7,
    ],
)
def test_what_is_none(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        BackendName.parse(wrong)


def test_several() -> None:
    assert [str(name) for name in parse_backends("a:1, [::1]:2,unix:/s")] == [
        "a:1",
        "[::1]:2",
        "unix:/s",
    ]
    for wrong in ("", ",", "a:1,a:1", "a:1,b"):
        with pytest.raises(ValueError, match=r"."):
            parse_backends(wrong)


def problems(folder: Path, text: str) -> dict[str, str]:
    file = folder / "shardtls.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(config=file)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_routes(tmp_path: Path) -> None:
    file = tmp_path / "shardtls.toml"
    file.write_text(
        """
        [server]
        app = "proxy:127.0.0.1:80"
        proxy_protocol_from = ["10.0.0.0/8", "::1"]
        [[route]]
        server_name = "API.example.org"
        backend = ["10.0.0.1:80", "10.0.0.2:80"]
        [[route]]
        server_name = "*.example.org"
        backend = "unix:/run/app.sock"
        """
    )
    settings = load(config=file)
    assert [(route.server_name, route.backend) for route in settings.route] == [
        ("api.example.org", "10.0.0.1:80,10.0.0.2:80"),
        ("*.example.org", "unix:/run/app.sock"),
    ]
    assert settings.server.proxy_protocol_from == ("10.0.0.0/8", "::1/128")


def test_wrong_routes_are_told_with_their_number_and_what_is_expected(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        [server]
        app = "proxy:nowhere"
        proxy_protocol_from = ["10.0.0.1/8"]
        [[route]]
        server_name = "*"
        backend = ["10.0.0.1"]
        [[route]]
        backends = []
        """,
    )
    assert "'nowhere'" in found["server.app"]
    assert "10.0.0.0/8" in found["server.proxy_protocol_from"]
    assert "*.example.org" in found["route.0.server_name"]
    assert "no port" in found["route.0.backend"]
    assert "*.example.org" in found["route.1.server_name"]
    assert "no such setting" in found["route.1.backends"]


def test_a_route_needs_a_proxy_and_stands_alone(tmp_path: Path) -> None:
    route = '[[route]]\nserver_name = "a.org"\nbackend = ["b:1"]\n'
    found = problems(tmp_path, route + route)
    assert "--app proxy:" in found["route"]
    assert "twice" in found["route.1.server_name"]


def test_backends_are_no_more_than_the_status_holds(tmp_path: Path) -> None:
    many = ", ".join(f'"10.0.0.1:{port}"' for port in range(1, 258))
    text = f'[server]\napp = "proxy:a:1"\n[[route]]\nserver_name = "a.org"\nbackend = [{many}]\n'
    assert "256" in problems(tmp_path, text)["route"]


def test_a_worker_is_told_all_of_it(certificate: Certificate) -> None:
    proxy = ProxySettings(retries=7, routes=(RouteSettings(server_name="a", backends="b:1,c:2"),))
    settings = worker_settings(certificate, proxy=proxy, proxy_protocol_from=("10.0.0.0/8",))
    assert WorkerSettings.from_frame(settings.to_frame()) == settings
