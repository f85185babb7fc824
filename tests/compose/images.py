"""The images of the tests, made from this machine's packages: no registry is asked."""

from __future__ import annotations

from dataclasses import dataclass

from tests.compose.engine import TOP, run

__all__ = ["Images", "build"]

BUILD_TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Images:
    """Names of images.

    :ivar base: Debian with Python; the balancer's too, as it has haproxy.
    :ivar product: what users deploy.
    """

    base: str
    product: str


def build() -> Images:
    """Make what is missing or out of date; a second without changes takes a few seconds."""
    base = run(str(TOP / "deploy/base-image.sh"), timeout=BUILD_TIMEOUT).strip()
    version = run(
        *("docker", "run", "--rm", "--network=none", base),
        *("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"),
    ).strip()
    run(str(TOP / "deploy/wheelhouse.sh"), version, timeout=BUILD_TIMEOUT)
    product = "shardtls-test"
    run(
        *("docker", "build", "--quiet", "--tag", product, "--file", "deploy/Dockerfile"),
        *("--build-arg", f"BASE_IMAGE={base}", "--build-arg", "WHEELS=dist/wheelhouse", "."),
        timeout=BUILD_TIMEOUT,
    )
    return Images(base, product)
