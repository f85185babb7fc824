"""The settings of a server: what they are (:mod:`.schema`), how they are written (:mod:`.values`),
and where they come from (:mod:`.sources`).
"""

from __future__ import annotations

from shard.settings.schema import Settings
from shard.settings.sources import load
from shard.settings.values import Address

__all__ = ["Address", "Settings", "load"]
