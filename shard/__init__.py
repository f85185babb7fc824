"""shardtls: a TLS server that spreads over many processes and behaves as one."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
