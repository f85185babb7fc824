"""``python -m shard`` is ``shardtls``."""

from shard.cli import main

main()
