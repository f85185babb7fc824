from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator import log


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger(log.ROOT)
    handlers, level, propagate = root.handlers[:], root.level, root.propagate
    root.handlers.clear()
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    root.propagate = propagate


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_text_is_one_line_with_fields(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("info", "text", str(path), "worker a-0")
    log.get_logger("test").info("worker lost", worker="a-0.1", seconds=0.25, reason="no lease")
    (line,) = lines(path)
    assert ' INFO "worker a-0"[' in line
    assert line.endswith('] worker lost worker=a-0.1 seconds=0.25 reason="no lease"')


def test_a_librarys_lines_go_where_ours_go(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("warning", "text", str(path), "a-0.1")
    library = logging.getLogger("library_of_test_log")
    log.lend(library)
    library.info("not said")
    logging.getLogger("library_of_test_log.part").warning("said\nin one line")
    (line,) = lines(path)
    assert line.endswith("] said\\nin one line")


def test_no_value_can_forge_a_line_or_a_field(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("info", "text", str(path), "p")
    log.get_logger("test").info(
        "x", a="1\n2026-01-01T00:00:00Z INFO forged", b="v c=2", d="\x1b[2J"
    )
    (line,) = lines(path)
    assert "\\n2026" in line
    assert 'b="v c=2"' in line
    assert "\x1b" not in line


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("debug", "json", str(path), "coordinator")
    log.get_logger("broker").debug("started", pid="not the process's", name="a\nb")
    (line,) = lines(path)
    entry = json.loads(line)
    assert entry["level"] == "debug"
    assert entry["process"] == "coordinator"
    assert entry["logger"] == "broker"
    assert entry["event"] == "started"
    assert entry["name"] == "a\nb"
    assert isinstance(entry["pid"], int)


def test_levels_below_the_configured_one_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("warning", "text", str(path), "p")
    logger = log.get_logger("test")
    logger.info("quiet")
    logger.error("loud")
    assert [line.split()[-1] for line in lines(path)] == ["loud"]


def test_reopen_follows_a_rotated_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("info", "text", str(path), "p")
    logger = log.get_logger("test")
    logger.info("first")
    path.rename(tmp_path / "log.1")
    logger.info("second")
    log.reopen()
    logger.info("third")
    assert [line.split()[-1] for line in lines(tmp_path / "log.1")] == ["first", "second"]
    assert [line.split()[-1] for line in lines(path)] == ["third"]


def test_a_failed_reopen_keeps_the_old_file(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log.configure("info", "text", str(directory / "log"), "p")
    directory.rename(tmp_path / "moved")
    log.reopen()
    log.get_logger("test").info("still here")
    text = (tmp_path / "moved" / "log").read_text(encoding="utf-8")
    assert "log file not reopened" in text
    assert "still here" in text


def test_the_log_file_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("info", "text", str(path), "p")
    assert path.stat().st_mode & 0o077 == 0


def test_a_contained_defect_has_its_traceback_in_the_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.configure("info", "text", str(path), "p")
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        log.get_logger("test").exception("defect contained", error)
    (line,) = lines(path)
    assert "defect contained" in line
    assert "RuntimeError: boom" in line


@pytest.mark.parametrize(("level", "format_"), [("loud", "text"), ("info", "xml")])
def test_unknown_levels_and_formats_are_refused(level: str, format_: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        log.configure(level, format_, None, "p")
