"""The boundaries that the design draws, read from the sources: who imports whom, what is pure, how
long a file is, which names are public.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PACKAGES = ("coordinator", "shard")
LONGEST = 400
"""Lines of a file."""
LONGEST_STUB = 450
"""Of the engine's, which says all of one compiled module and cannot be split."""

SHARD_MAY_IMPORT = {
    "coordinator.client",
    "coordinator.errors",
    "coordinator.lifeline",
    "coordinator.log",
    "coordinator.protocol",
    "coordinator.settings",
}
CLI_MAY_IMPORT = SHARD_MAY_IMPORT | {"coordinator.process"}

IMPURE = {
    "asyncio",
    "http",
    "multiprocessing",
    "os",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "urllib",
    "zmq",
}
"""Modules that do I/O, wait, or read a clock."""

PURE = {
    "coordinator.bodies",
    "coordinator.calls",
    "coordinator.canary",
    "coordinator.control",
    "coordinator.entropy",
    "coordinator.health",
    "coordinator.lookups",
    "coordinator.orders",
    "coordinator.parking",
    "coordinator.protocol",
    "coordinator.purges",
    "coordinator.purging",
    "coordinator.quarantine",
    "coordinator.registry",
    "coordinator.remembered",
    "coordinator.seeding",
    "coordinator.sessions",
    "coordinator.source",
    "coordinator.stats",
    "coordinator.strikes",
    "coordinator.ticket_desk",
    "coordinator.ticket_keys",
    "coordinator.watermarks",
    "coordinator.wire",
    "shard.fleet",
    "shard.fleet_orders",
    "shard.interruptions",
    "shard.liveness",
    "shard.membership",
    "shard.post",
    "shard.put_queue",
    "shard.reseeding",
    "shard.resumption",
    "shard.ticket_keys",
    "shard.worker_settings",
}
"""Modules that must be pure: decisions live in them."""

LOG = "coordinator.log"
"""The one way out of a pure module: a line for the operator, on which nothing depends."""

PUBLIC = {
    "coordinator.errors": [
        "CommandRefusedError",
        "CoordinatorUnavailableError",
        "MessageError",
        "SettingsError",
        "SettingsProblem",
        "ShardError",
        "StartError",
    ],
    "shard": ["__version__"],
    "shard.apps": ["Factory", "Handler", "load"],
    "shard.connection": ["HIGH_WATER", "LOW_WATER", "Connection", "FlushQueue", "Home", "TlsInfo"],
}
"""What others may rely on, applications above all. A name that appears or goes is announced in
CHANGELOG.md and changed here.
"""


@cache
def modules() -> dict[str, Path]:
    """Every module of the two packages."""
    found = {}
    for package in PACKAGES:
        for file in sorted((TOP / package).rglob("*.py")):
            parts = file.relative_to(TOP).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def syntax(name: str) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse(modules()[name].read_text())


def for_types_only(node: ast.stmt) -> bool:
    """``if TYPE_CHECKING:``, which no running program enters."""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that a running program can reach, those in functions too."""
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.stmt) and for_types_only(child)):
            yield child
            yield from nodes(child)


@cache
def imports(name: str) -> frozenset[str]:
    """The modules that a module imports, by full name."""
    found = set()
    for node in nodes(syntax(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return frozenset(found)


def from_package(names: frozenset[str], package: str) -> set[str]:
    """Those of a package."""
    return {name for name in names if name == package or name.startswith(f"{package}.")}


def claims_purity(name: str) -> bool:
    """The module's docstring says that it is pure."""
    text = ast.get_docstring(syntax(name)) or ""
    return re.search(r"\bPure[.:]", text) is not None


def test_there_is_something_to_read() -> None:
    assert len(modules()) > 20
    assert "zmq" in imports("coordinator.broker")


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("coordinator")])
def test_the_coordinator_knows_nothing_of_workers(name: str) -> None:
    assert from_package(imports(name), "shard") == set()


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("shard")])
def test_workers_know_the_coordinator_by_its_client_and_protocol(name: str) -> None:
    allowed = CLI_MAY_IMPORT if name.startswith("shard.cli") else SHARD_MAY_IMPORT
    assert from_package(imports(name), "coordinator") <= allowed


def test_the_pure_modules_are_there_and_say_so() -> None:
    assert set(modules()) >= PURE
    silent = {name for name in PURE if not claims_purity(name) and name != "shard.worker_settings"}
    assert silent == set()


@pytest.mark.parametrize("name", sorted(PURE | {n for n in modules() if claims_purity(n)}))
def test_pure_modules_do_no_io_and_read_no_clock(name: str) -> None:
    """Nor does any module of ours that they import, at any remove."""
    seen: set[str] = set()
    waiting = {name}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        impure = {other.split(".")[0] for other in imports(module)} & IMPURE
        assert impure == set(), f"{module}, which {name} needs"
        waiting |= {other for other in imports(module) if other in modules()} - seen - {LOG}


def sources() -> list[Path]:
    """Every Python and Rust file of ours."""
    folders = [*PACKAGES, "tests"]
    return [
        file
        for folder in folders
        for pattern in ("*.py", "*.pyi", "*.rs")
        for file in sorted((TOP / folder).rglob(pattern))
        if "target" not in file.parts
    ]


def test_files_have_one_subject_each() -> None:
    lengths = {str(file.relative_to(TOP)): len(file.read_text().splitlines()) for file in sources()}
    allowed = {name: LONGEST_STUB if name.endswith(".pyi") else LONGEST for name in lengths}
    assert {name: length for name, length in lengths.items() if length > allowed[name]} == {}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_are_pinned(name: str) -> None:
    assert sorted(importlib.import_module(name).__all__) == sorted(PUBLIC[name])


@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith("__main__")])
def test_every_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "a module says what it is for"
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


def test_the_engine_is_as_its_stub_says() -> None:
    stub = ast.parse((TOP / "shard/_engine.pyi").read_text())
    promised = set()
    for node in stub.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            promised.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            promised.add(node.target.id)
    promised.discard("Effect")  # a name for types only
    engine = importlib.import_module("shard._engine")
    assert promised == {name for name in vars(engine) if not name.startswith("_")}
