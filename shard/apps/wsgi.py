"""``wsgi:module:attr``: Flask, Django and their like, by a2wsgi on top of ASGI.

A request occupies one thread of a bounded pool from its first byte to its answer's last; more
requests than threads wait.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coordinator.errors import StartError
from shard.apps.asgi import Asgi
from shard.worker_settings import AsgiSettings

__all__ = ["wsgi"]


def wsgi(name: str, application: Any, settings: AsgiSettings) -> Asgi:
    """The WSGI application as an ASGI one.

    :raises StartError: a library is missing.
    """
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError as error:
        raise StartError(
            f"app {name!r} needs a2wsgi ({error}): pip install 'shardtls[wsgi]'"
        ) from error
    bridged = WSGIMiddleware(application, workers=settings.threads)
    return Asgi(name, bridged, replace(settings, lifespan="off", websocket="none"))
