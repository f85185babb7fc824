"""The ``shardtls`` command. One file per group of commands."""

from __future__ import annotations

from shard.cli.command import main

__all__ = ["main"]
