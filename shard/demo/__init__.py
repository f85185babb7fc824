"""Demonstrations of what the design promises, run by ``shardtls demo``."""
