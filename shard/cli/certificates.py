"""``shardtls cert``: certificates for development."""

from __future__ import annotations

from pathlib import Path

import click

from shard.development_certificate import LOOPBACK, authority, issue
from shard.runtime_dir import write_private

__all__ = ["cert"]


@click.group()
def cert() -> None:
    """Certificates."""


@cert.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="DNS name or IP address; repeatable. Default: localhost, 127.0.0.1, ::1.",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
def dev(folder: Path, names: tuple[str, ...], force: bool) -> None:
    """Make an authority and a certificate for development in DIR.

    ca.pem is what clients trust, cert.pem the chain and key.pem the key for `shardtls up`. The
    authority's key is thrown away, so nothing else can be signed with it.
    """
    root = authority()
    leaf = issue(root, names or LOOPBACK)
    contents = {
        "ca.pem": root.cert_pem,
        "cert.pem": leaf.cert_pem + root.cert_pem,
        "key.pem": leaf.key_pem,
    }
    folder.mkdir(parents=True, exist_ok=True)
    existing = [str(folder / name) for name in contents if (folder / name).exists()]
    if existing and not force:
        raise click.UsageError(f"{', '.join(existing)} exist; replace them with --force")
    for name, content in contents.items():
        write_private(folder / name, content, replace=True)
        if name != "key.pem":
            (folder / name).chmod(0o644)
        click.echo(folder / name)
