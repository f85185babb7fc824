"""The README's example of an application of one's own works as it stands there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, client_context
from tests.server import PATIENT, running

README = Path(__file__).parents[2] / "README.md"
MARK = "<!-- run by tests/integration/test_readme_example.py -->"


def example() -> str:
    """The Python block after the mark."""
    found = re.search(re.escape(MARK) + r"\s*```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, f"README.md has no Python block after {MARK}"
    return found.group(1)


def test_it_is_short() -> None:
    assert len(example().splitlines()) <= 25


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_it_serves(tmp_path: Path, certificate: Certificate, version: str) -> None:
    (tmp_path / "shout.py").write_text(example())
    search = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with running(
        tmp_path / "server",
        certificate=certificate,
        workers=2,
        arguments=["--app", "shout:Shout", *PATIENT],
        environment={"PYTHONPATH": search},
    ) as server:
        context = client_context(certificate, version)
        with TlsStream(server.address, context) as stream, stream.tls.makefile("rwb") as lines:
            assert lines.readline().decode() == f"{version}, first visit\n"
            lines.write(b"hello\nwor")
            lines.flush()
            assert lines.readline() == b"HELLO\n"
            lines.write(b"ld\n")
            lines.flush()
            assert lines.readline() == b"WORLD\n"
            session = stream.tls.session
        with (
            TlsStream(server.address, context, session=session) as stream,
            stream.tls.makefile("rb") as lines,
        ):
            assert lines.readline().decode() == f"{version}, back again\n"
