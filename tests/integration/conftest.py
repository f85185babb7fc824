"""What tests of applications share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.server import Server, running

NOTES = "notes.txt"


@pytest.fixture(scope="session")
def fastapi(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Server]:
    """One worker that serves the FastAPI application. Shared."""
    folder = tmp_path_factory.mktemp("fastapi")
    with running(
        folder,
        certificate=certificate,
        workers=1,
        arguments=["--app", "asgi:tests.applications.fastapi_app:app", "--access-log"],
        environment={"NOTES_OF_FASTAPI_APP": str(folder / NOTES)},
    ) as server:
        yield server


def notes(server: Server) -> list[str]:
    """What the application has written down."""
    file: Path = server.log.parent / NOTES
    return file.read_text().split("\n")[:-1] if file.exists() else []
