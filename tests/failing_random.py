"""A kernel that gives no randomness any more, for processes that a test starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["failing_random"]

_GETRANDOM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t getrandom(void *out, size_t length, unsigned flags)
{
    static ssize_t (*real)(void *, size_t, unsigned);
    const char *trigger = getenv("TEST_RANDOM_FAILS");
    if (trigger && access(trigger, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    if (!real)
        real = (ssize_t (*)(void *, size_t, unsigned))dlsym(RTLD_NEXT, "getrandom");
    return real(out, length, flags);
}
"""
"""Until a file appears it is the C library's own."""


def failing_random(folder: Path) -> tuple[dict[str, str], Path]:
    """An environment in which the C library's ``getrandom`` fails from the moment when a file
    exists, and that file. Only the engine calls it; Python makes the system call itself.
    """
    source, shim, trigger = (folder / name for name in ("random.c", "random.so", "fails"))
    source.write_text(_GETRANDOM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(shim), "TEST_RANDOM_FAILS": str(trigger)}, trigger
