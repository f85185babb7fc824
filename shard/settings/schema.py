"""All settings, and what the command's options, the variables and the errors are made from. Pure.

A setting has one name in three spellings: ``sessions.ttl`` in the file, ``SHARDTLS_SESSIONS_TTL``
in the environment, and the flag that its :class:`Key` gives, ``--session-ttl``. The command's
options are made from this table, so a key cannot exist in one place only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from shard.settings.coordinator_sections import (
    AdminSection,
    CoordinatorSection,
    EntropySection,
    LogSection,
    SessionsSection,
    TicketKeysSection,
)
from shard.settings.key import Key
from shard.settings.proxy_sections import ProxySection, RouteSection
from shard.settings.worker_sections import (
    AsgiSection,
    CertificateSection,
    DrbgSection,
    ServerSection,
    TlsSection,
)

__all__ = ["NOT_BUILT", "SECTIONS", "Key", "Settings", "keys"]


class Settings(BaseModel):
    """All settings, validated. Immutable."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True
    )

    server: ServerSection = Field(default_factory=ServerSection)
    certificate: tuple[CertificateSection, ...] = ()
    route: tuple[RouteSection, ...] = ()
    tls: TlsSection = Field(default_factory=TlsSection)
    sessions: SessionsSection = Field(default_factory=SessionsSection)
    ticket_keys: TicketKeysSection = Field(default_factory=TicketKeysSection)
    asgi: AsgiSection = Field(default_factory=AsgiSection)
    proxy: ProxySection = Field(default_factory=ProxySection)
    drbg: DrbgSection = Field(default_factory=DrbgSection)
    coordinator: CoordinatorSection = Field(default_factory=CoordinatorSection)
    entropy: EntropySection = Field(default_factory=EntropySection)
    admin: AdminSection = Field(default_factory=AdminSection)
    log: LogSection = Field(default_factory=LogSection)

    def restart_values(self) -> dict[str, object]:
        """The settings that a running server keeps until it is started anew, by path."""
        found = {}
        for path, key, _ in keys():
            section, _, name = path.partition(".")
            if key.restart:
                found[path] = getattr(getattr(self, section), name)
        return found


SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "server": ServerSection,
    "certificate": CertificateSection,
    "tls": TlsSection,
    "sessions": SessionsSection,
    "ticket_keys": TicketKeysSection,
    "asgi": AsgiSection,
    "proxy": ProxySection,
    "drbg": DrbgSection,
    "coordinator": CoordinatorSection,
    "entropy": EntropySection,
    "admin": AdminSection,
    "log": LogSection,
}

NOT_BUILT: Final[dict[str, tuple[object, str]]] = {
    "tls.early_data": (False, "early data (0-RTT) is"),
    "sessions.store": ("memory", "any store but the coordinator's memory is"),
}
"""What the documentation of later versions names: the one value that says what holds here anyway,
and what is missing for any other."""


def keys() -> Iterator[tuple[str, Key, FieldInfo]]:
    """Every setting as (path, key, field), in the order of the file."""
    for section, model in SECTIONS.items():
        for name, field in model.model_fields.items():
            for item in field.metadata:
                if isinstance(item, Key):
                    yield f"{section}.{name}", item, field
