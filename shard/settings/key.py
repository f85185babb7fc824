"""What every setting carries beside its type, and the base of every section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["Key", "Section"]


@dataclass(frozen=True, slots=True)
class Key:
    """What the command and the error texts need to know of a setting, beside its type.

    :ivar flag: the command's option.
    :ivar help: one line.
    :ivar expects: what a right value looks like; it ends every complaint about a wrong one.
    :ivar metavar: for ``--help``.
    :ivar restart: whether a running server keeps the old value until it is started anew.
    """

    flag: str
    help: str
    expects: str
    metavar: str = "N"
    restart: bool = False


class Section(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True
    )
