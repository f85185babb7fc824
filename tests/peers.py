"""Programs of other makers that tests talk to. A missing one skips the test, but not in CI."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["peer"]

_PACKAGES = {
    "openssl": "openssl",
    "gnutls-cli": "gnutls-bin",
    "curl": "curl",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "strace": "strace",
}


def peer(program: str) -> str:
    """The program's path. Skips the test if it is not installed; with ``CI=true`` it fails."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is not None:
        return found
    missing = f"{program} is not installed (Debian: apt-get install {_PACKAGES[program]})"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
