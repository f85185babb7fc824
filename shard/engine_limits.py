"""What the TLS engine has against a set of settings.

The engine is asked itself, so that no list of names has to be kept in step with it, and so that
nothing is left for a worker to refuse.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from coordinator.errors import SettingsProblem, StartError
from shard.client_trust import ClientTrust
from shard.identity import Identity
from shard.settings import Settings

__all__ = ["engine_problems"]


def engine_problems(
    settings: Settings, identities: Sequence[Identity], trust: ClientTrust
) -> list[SettingsProblem]:
    """Every problem that the engine finds.

    :raises StartError: the engine cannot be loaded.
    """
    try:
        from shard._engine import TlsContext, VirtualHost
    except ImportError as error:
        raise StartError(
            f"the TLS engine cannot be loaded ({error}): install shardtls, or run `make` in a clone"
        ) from None
    tls = settings.tls
    problems = [
        *_unknown("tls.cipher_suites", tls.cipher_suites, TlsContext.CIPHER_SUITES),
        *_unknown("tls.groups", tls.groups, TlsContext.GROUPS),
    ]
    hosts = []
    for identity in identities:
        try:
            host = VirtualHost(
                names=identity.names, chain=identity.chain, key=identity.key, scope=bytes(32)
            )
        except ValueError as error:
            problems.append(SettingsProblem("certificate", f"{identity.source}: {error}"))
        else:
            hosts.append(host)
    if problems or not hosts:
        return problems
    try:
        TlsContext(
            hosts,
            min_version=tls.min_version,
            cipher_suites=tls.cipher_suites or None,
            groups=tls.groups or None,
            alpn=tls.alpn,
            resumption=settings.sessions.resumption != "off",
            tickets_per_connection=settings.sessions.tickets_per_connection,
            ticket_lifetime=int(settings.sessions.ttl),
            client_auth=trust.mode,
            client_ca=trust.authorities,
            crl=trust.crls,
            client_depth=trust.depth,
        )
    except ValueError as error:
        problems.append(SettingsProblem("tls", str(error)))
    return problems


def _unknown(path: str, named: Sequence[str], known: Sequence[str]) -> list[SettingsProblem]:
    found = []
    for name in named:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            remedy = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            found.append(SettingsProblem(path, f"the engine has no {name!r}: {remedy}"))
    return found
