"""Logging of all shardtls processes: one line per event that an operator acts on, with fields.

Standard library logging underneath, so that a host application can route it. Nothing is logged per
connection above DEBUG, and no secret is ever a field.

::

    log = get_logger("supervisor")
    log.info("worker replaced", worker="a-0.2", after_seconds=0.31)

Text: ``2026-01-31T10:00:00.123Z INFO supervisor[4242] worker replaced worker=a-0.2 …``.
JSON: one object a line with ``time``, ``level``, ``process``, ``pid``, ``logger``, ``event`` and
the fields.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

__all__ = [
    "AUDIT",
    "FORMATS",
    "LEVELS",
    "EventLogger",
    "configure",
    "get_logger",
    "lend",
    "reopen",
]

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
ROOT: Final = "shardtls"
AUDIT: Final = "audit"
"""The logger for what administrators do; see :func:`configure`."""

_PLAIN: Final = re.compile(r"[!-~]+")
_FIELDS: Final = "shardtls_fields"


class EventLogger:
    """Writes events with fields. Any thread."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: Any) -> None:
        """For whoever looks for a fault; off by default."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something an operator wants to find in the log afterwards."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Service goes on, but somebody should look."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something was lost or refused."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, error: BaseException, **fields: Any) -> None:
        """A defect that was contained: the event, and the traceback in the field ``traceback``."""
        if self._logger.isEnabledFor(logging.ERROR):
            self._logger.error(event, exc_info=error, extra={_FIELDS: fields})

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={_FIELDS: fields})


def get_logger(name: str) -> EventLogger:
    """The logger of one part of a process, such as ``broker``."""
    return EventLogger(logging.getLogger(f"{ROOT}.{name}"))


def configure(level: str, format: str, file: str | None, process: str) -> None:  # noqa: A002
    """Set up this process's logging; once, before its threads start. A second call replaces it.

    :param level: one of :data:`LEVELS`.
    :param format: one of :data:`FORMATS`.
    :param file: where to append; None for standard error.
    :param process: name in every line, such as ``coordinator`` or a worker's id.
    :raises OSError: the file cannot be opened.
    :raises ValueError: the level or format is unknown.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise ValueError(f"log format {format!r} is none of {', '.join(FORMATS)}")
    handler: logging.StreamHandler[TextIO]
    handler = logging.StreamHandler(sys.stderr) if file is None else _ReopenableFile(Path(file))
    handler.setFormatter(_JsonFormatter(process) if format == "json" else _TextFormatter(process))
    root = logging.getLogger(ROOT)
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    # What administrators did is recorded whatever the level.
    logging.getLogger(f"{ROOT}.{AUDIT}").setLevel(logging.INFO)
    root.propagate = False


def reopen() -> None:
    """Open the log file again after it was rotated (SIGUSR1). Any thread.

    If that fails the old file stays in use, and an error line in it says so.
    """
    for handler in logging.getLogger(ROOT).handlers:
        if isinstance(handler, _ReopenableFile):
            handler.reopen()


def lend(logger: logging.Logger) -> None:
    """Have a library's logger write where :func:`configure` said, in its form and from its level
    on.
    """
    root = logging.getLogger(ROOT)
    logger.handlers = list(root.handlers)
    logger.setLevel(root.level)
    logger.propagate = False


class _ReopenableFile(logging.StreamHandler[TextIO]):
    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(self._open())

    def _open(self) -> TextIO:
        # 0600 at creation: events name peers and servers.
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(fd, "a", encoding="utf-8", errors="backslashreplace")

    def reopen(self) -> None:
        try:
            fresh = self._open()
        except OSError as error:
            get_logger("log").error("log file not reopened", file=self._path, reason=str(error))
            return
        old = self.setStream(fresh)
        if old is not None:
            old.close()

    def close(self) -> None:
        super().close()
        self.stream.close()


class _TextFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._source = f"{_printable(process)}[{os.getpid()}]"

    def format(self, record: logging.LogRecord) -> str:
        words = [
            _timestamp(record.created),
            record.levelname,
            self._source,
            _single_line(record.getMessage()),
        ]
        words += [f"{key}={_printable(value)}" for key, value in _fields(record, self).items()]
        return " ".join(words)


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process
        self._pid = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": self._pid,
            "logger": record.name.removeprefix(f"{ROOT}."),
            "event": record.getMessage(),
        }
        for key, value in _fields(record, self).items():
            line.setdefault(key, value)
        return json.dumps(line, default=str, ensure_ascii=True)


def _fields(record: logging.LogRecord, formatter: logging.Formatter) -> dict[str, Any]:
    fields: dict[str, Any] = dict(getattr(record, _FIELDS, {}))
    if record.exc_info:
        fields["traceback"] = formatter.formatException(record.exc_info)
    return fields


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _single_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _printable(value: object) -> str:
    """A value as one word: quoted when it could be taken for anything else, so that no peer can
    forge a line or a field.
    """
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if _PLAIN.fullmatch(text) and not any(char in text for char in '="\\'):
        return text
    return json.dumps(text, ensure_ascii=True)
