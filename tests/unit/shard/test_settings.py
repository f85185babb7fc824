"""Settings: merging, parsing, and that every error is told with its path, value and remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from coordinator.errors import SettingsError
from shard.settings import Address, Settings, load
from shard.settings.schema import NOT_BUILT, SECTIONS, keys
from shard.settings.sources import variable
from shard.settings.values import parse_duration, parse_size

DOCUMENTED = Path(__file__).parents[3] / "docs" / "configuration.md"


def written(folder: Path, text: str) -> Path:
    """A settings file."""
    file = folder / "shardtls.toml"
    file.write_text(text)
    return file


def problems(**sources: Any) -> dict[str, str]:
    """What is wrong, by path; the last one of several with the same path."""
    with pytest.raises(SettingsError) as caught:
        load(**sources)
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (30, 30),
        (0.5, 0.5),
        ("30", 30),
        ("20ms", 0.02),
        ("1.5 h", 5400),
        ("2d", 172800),
        ("5M", 300),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"), [(65536, 65536), ("64MiB", 64 << 20), ("10 kb", 10_000), ("1.5KiB", 1536)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("wrong", [True, None, [], "", "12 parsecs", "-1", "1e3", "ms", "nan"])
def test_what_is_no_quantity(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration(wrong)
    with pytest.raises(ValueError, match=r"."):
        parse_size(wrong)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8443", "127.0.0.1", 8443),
        ("[::1]:0", "::1", 0),
        ("localhost:1", "127.0.0.1", 1),
        ("[2001:DB8::0]:443", "2001:db8::", 443),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "wrong",
    ["", "8443", ":8443", "::1:8443", "[127.0.0.1]:1", "a.b:1", "1.2.3.4:65536", "[::1]", 7],
)
def test_what_is_no_address(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Address.parse(wrong)


def test_an_address_reads_as_it_is_written() -> None:
    for text in ("127.0.0.1:8443", "[::1]:8443"):
        assert str(Address.parse(text)) == text


def test_defaults_need_no_source() -> None:
    settings = load()
    assert settings.server.bind == (Address("127.0.0.1", 8443),)
    assert settings.server.workers == 2
    assert settings.admin.bind == Address("127.0.0.1", 9080)
    assert settings.sessions.max_bytes == 64 * 1024 * 1024


def test_flags_outrank_the_environment_which_outranks_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "[sessions]\nttl = 1\nlookup_timeout = 0.1\n[server]\nworkers = 3\n")
    environ = {"SHARDTLS_SESSIONS_TTL": "2h", "SHARDTLS_SERVER_WORKERS": "4"}
    settings = load(config=file, environ=environ, flags={"server.workers": "5"})
    assert settings.sessions.lookup_timeout == 0.1
    assert settings.sessions.ttl == 7200
    assert settings.server.workers == 5


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    file = written(tmp_path, "[server]\nworkers = 7\n")
    assert load(environ={"SHARDTLS_CONFIG": str(file)}).server.workers == 7


def test_every_setting_can_be_given_in_the_environment() -> None:
    samples: dict[str, str] = {}
    for path, _, field in keys():
        default = field.get_default(call_default_factory=True)
        if path.startswith("certificate."):
            samples[path] = "a.pem,b.pem"
        elif path == "coordinator.key_dir" or default is None:
            samples[path] = f"/x/{path}"
        elif isinstance(default, tuple):
            samples[path] = ",".join(str(item) for item in default)
        else:
            samples[path] = str(default)
    samples["coordinator.sessions"] = "ipc:///x/s"
    samples["coordinator.control"] = "ipc:///x/c"
    settings = load(environ={variable(path): text for path, text in samples.items()})
    assert [pair.key for pair in settings.certificate] == [Path("a.pem"), Path("b.pem")]
    assert settings.server.runtime_dir == Path("/x/server.runtime_dir")
    assert settings.tls.alpn == ("http/1.1",)


def test_names_of_flags_and_variables_are_unique() -> None:
    table = list(keys())
    assert len({key.flag for _, key, _ in table}) == len(table)
    assert len({variable(path) for path, _, _ in table}) == len(table)
    assert {path.partition(".")[0] for path, _, _ in table} == set(SECTIONS)


def test_every_error_is_told_at_once_by_the_name_it_was_given_under(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [server]
        wrokers = 3
        backlog = "many"
        bind = ["127.0.0.1:99999"]
        [sesions]
        [sessions]
        ttl = "12 parsecs"
        [[certificate]]
        cert = "c.pem"
        """,
    )
    found = problems(
        config=file,
        environ={"SHARDTLS_LOG_LEVEL": "loud", "SHARDTLS_SESSION_TTL": "1"},
        flags={"server.readers": "0"},
    )
    assert "'server.workers'" in found["server.wrokers"]
    assert "'sessions'" in found["sesions"]
    assert "'SHARDTLS_SESSIONS_TTL'" in found["SHARDTLS_SESSION_TTL"]
    assert "'many'" in found["server.backlog"]
    assert "from 1 to 65535" in found["server.backlog"]
    assert "127.0.0.1:99999" in found["server.bind"]
    assert "12h" not in found["sessions.ttl"]
    assert "12 parsecs" in found["sessions.ttl"]
    assert '"debug"' in found["SHARDTLS_LOG_LEVEL"]
    assert "from 1 to 64" in found["--readers"]
    assert "certificate.0.key" in found
    assert len(found) == 9


def test_a_key_in_the_wrong_table_is_pointed_to_the_right_one(tmp_path: Path) -> None:
    assert (
        "'sessions.ttl'" in problems(config=written(tmp_path, "[server]\nttl = 5\n"))["server.ttl"]
    )


@pytest.mark.parametrize("text", ["[server", "workers = 3\n", "server = 3\n", "certificate = 3\n"])
def test_what_is_no_table(tmp_path: Path, text: str) -> None:
    assert problems(config=written(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert "cannot be read" in problems(config=missing)[str(missing)]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe")
    assert "is not TOML" in problems(config=file)[str(file)]


def test_what_is_not_built_is_refused_rather_than_ignored(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [tls]
        early_data = true
        [sessions]
        store = "redis://127.0.0.1"
        """,
    )
    found = problems(config=file)
    assert set(found) == {
        "tls.early_data",
        "sessions.store",
    }
    assert all("not available" in message for message in found.values())


def test_saying_what_holds_anyway_is_no_error(tmp_path: Path) -> None:
    text = '[tls]\nearly_data = false\n[sessions]\nstore = "memory"\n'
    assert load(config=written(tmp_path, text)) == load()
    assert not set(NOT_BUILT) & {path for path, _, _ in keys()}


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    text = '[[certificate]]\ncert = "c.pem"\nkey = "/abs/k.pem"\n[coordinator]\nkey_dir = "keys"\n'
    text += '[tls]\nclient_ca = "ca.pem"\ncrl = ["a.crl", "/abs/b.crl"]\n'
    settings = load(config=written(tmp_path, text))
    assert settings.tls.client_ca == tmp_path / "ca.pem"
    assert settings.tls.crl == (tmp_path / "a.crl", Path("/abs/b.crl"))
    assert settings.certificate[0].cert == tmp_path / "c.pem"
    assert settings.certificate[0].key == Path("/abs/k.pem")
    assert settings.coordinator.key_dir == tmp_path / "keys"
    flagged = load(flags={"certificate.cert": ("c.pem",), "certificate.key": ("k.pem",)})
    assert flagged.certificate[0].cert == Path("c.pem")


def test_certificates_on_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    text = '[[certificate]]\ncert = "1"\nkey = "1"\n[[certificate]]\ncert = "2"\nkey = "2"\n'
    flags = {"certificate.cert": ("c",), "certificate.key": ("k",)}
    settings = load(config=written(tmp_path, text), flags=flags)
    assert [pair.cert for pair in settings.certificate] == [Path("c")]


def test_a_certificate_without_its_key() -> None:
    found = problems(flags={"certificate.cert": ("a", "b"), "certificate.key": ("a",)})
    assert "2 and 1 given" in found["--cert and --key"]


@pytest.mark.parametrize(
    ("coordinator", "path"),
    [
        ({"sessions": "tcp://10.0.0.1:1", "control": "tcp://10.0.0.1:2"}, "--sessions-endpoint"),
        ({"sessions": "tcp://127.0.0.1:1", "control": "tcp://127.0.0.1:2"}, "--control-endpoint"),
        ({"sessions": "ipc:///run/s"}, "coordinator.control"),
        ({"sessions": "ipc:///run/s", "control": "ipc:///run/s"}, "--control-endpoint"),
        ({"sessions": "inproc://s", "control": "ipc:///run/s"}, "--sessions-endpoint"),
        ({"sessions": "ipc://relative", "control": "ipc:///run/s"}, "--sessions-endpoint"),
        (
            {"sessions": "ipc:///s", "control": "tcp://127.0.0.1:1", "key_dir": "k"},
            "--control-endpoint",
        ),
        ({"lease_timeout": "0.6"}, "--lease-timeout"),
        ({"park": "20ms"}, "--park"),
    ],
)
def test_what_only_several_values_tell(coordinator: dict[str, str], path: str) -> None:
    flags = {f"coordinator.{name}": value for name, value in coordinator.items()}
    assert path in problems(flags=flags)


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_an_application_with_one_event_loop_has_one_reader(kind: str) -> None:
    flags = {"server.app": f"{kind}:main:app", "server.readers": "2"}
    assert "raise server.workers" in problems(flags=flags)["--readers"]
    assert load(flags={"server.app": "main:App", "server.readers": "2"}).server.readers == 2


@pytest.mark.parametrize("app", ["asgi:main", "asgi:main:", "wsgi::app", "asgi:a b:c", "rsgi:a:b"])
def test_what_is_no_application(app: str) -> None:
    assert "expected" in problems(flags={"server.app": app})["--app"]


@pytest.mark.parametrize("path", ["api", "/api/", "/", "/\u00fc"])
def test_what_is_no_root_path(path: str) -> None:
    assert "not a path" in problems(flags={"asgi.root_path": path})["--root-path"]
    assert load(flags={"asgi.root_path": "/api"}).asgi.root_path == "/api"


def test_what_kubernetes_says_of_a_service_of_our_name_is_no_setting() -> None:
    environ = {"SHARDTLS_PORT": "tcp://x", "SHARDTLS_SERVICE_HOST": "x", "SHARDTLS_PORT_1_TCP": "x"}
    assert load(environ=environ) == load()


def test_a_long_value_is_not_repeated_whole() -> None:
    assert len(problems(flags={"server.workers": "9" * 10_000 + "x"})["--workers"]) < 200


def test_the_documented_file_is_the_defaults(tmp_path: Path) -> None:
    """Every setting is in the annotated example, with its default or as a comment."""
    (example,) = re.findall(r"```toml\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    settings = load(config=written(tmp_path, example))
    named = re.findall(r"^#? ?(\w+) = |^#? ?\[+(\w+)\]+$", example, re.MULTILINE)
    section, paths = "", set()
    for key, table in named:
        section = table or section
        paths.add(f"{section}.{key}" if key else "")
    assert paths - {""} == {path for path, _, _ in keys()}
    assert settings.model_copy(update={"certificate": ()}) == Settings()


@pytest.mark.parametrize(
    ("sources", "word"),
    [
        ("getrandom,dice", "'dice' is none of"),
        (["file:/dev/a", "file:/dev/a@2"], "named twice"),
        (["command:x"], "absolute path"),
        ("", "expected any of"),
    ],
)
def test_entropy_sources_that_are_wrong(sources: object, word: str) -> None:
    flags = {"entropy.sources": sources}
    assert word in problems(flags=flags)["--entropy-sources"]


def test_entropy_sources_in_every_spelling(tmp_path: Path) -> None:
    wanted = ("getrandom", "file:/dev/a@0.5", "command:/bin/x -n 3@2")
    text = f"[entropy]\nsources = {list(wanted)}\n"
    assert load(config=written(tmp_path, text)).entropy.sources == wanted
    environ = {"SHARDTLS_ENTROPY_SOURCES": ",".join(wanted)}
    assert load(environ=environ).entropy.sources == wanted
    assert load(flags={"entropy.sources": ",".join(wanted)}).entropy.sources == wanted
