"""What may import what: read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import coordinator

ROOT = Path(coordinator.__file__).parent
MODULES = {
    ".".join(("coordinator", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in ROOT.rglob("*.py")
}
PURE = [
    "bodies",
    "calls",
    "canary",
    "control",
    "entropy",
    "errors",
    "health",
    "lookups",
    "messages",
    "orders",
    "parking",
    "permissions",
    "protocol",
    "purges",
    "purging",
    "quarantine",
    "registry",
    "remembered",
    "seeding",
    "sessions",
    "settings",
    "source",
    "stats",
    "status",
    "strikes",
    "ticket_desk",
    "ticket_keys",
    "traffic",
    "watermarks",
    "wire",
    "admin.metrics",
]
IO = {"asyncio", "os", "select", "socket", "subprocess", "threading", "time", "zmq", "uvicorn"}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path.name}"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_coordinator_imports_nothing_of_the_worker(module: str) -> None:
    assert not {name for name in imports(MODULES[module]) if name.split(".")[0] == "shard"}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_io(module: str) -> None:
    path = MODULES.get(f"coordinator.{module}")
    assert path is not None, "the list above names a module that is gone"
    assert not {name for name in imports(path) if name.split(".")[0] in IO}


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_module_that_is_not(module: str) -> None:
    allowed = {f"coordinator.{name}" for name in PURE} | {"coordinator", "coordinator.log"}
    ours = {
        name
        for name in imports(MODULES[f"coordinator.{module}"])
        if name.split(".")[0] == "coordinator"
    }
    assert ours <= allowed


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_has_one_subject(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 420
