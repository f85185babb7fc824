"""The README's example of an application of one's own: it is shown as it is run here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.certificates import Certificate
from tests.client import TlsStream, client_context
from tests.server import running

README = Path(__file__).parents[2] / "README.md"
EXAMPLE = Path(__file__).with_name("shout.py")


def test_the_readme_shows_it() -> None:
    assert f"```python\n{EXAMPLE.read_text()}```" in README.read_text()


@pytest.mark.parametrize("version", ["TLSv1.3", "TLSv1.2"])
def test_it_serves(tmp_path: Path, certificate: Certificate, version: str) -> None:
    shutil.copy(EXAMPLE, tmp_path)
    search = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    with running(
        tmp_path / "server",
        certificate=certificate,
        workers=2,
        arguments=["--app", "shout:Shout"],
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
