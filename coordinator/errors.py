"""The root of the exception tree.

::

    ShardError
    ├── SettingsError            a setting is wrong: every problem, each with its path and remedy
    ├── MessageError             a message breaks the wire contract (:mod:`coordinator.protocol`)
    ├── CoordinatorUnavailableError   no answer from the coordinator in time
    ├── CommandRefusedError           the coordinator or a supervisor answered with an error
    ├── StartError               a process could not start; the reason is for the operator
    └── ConnectionClosedError    (:mod:`shard.errors`) why a TLS connection ended
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CommandRefusedError",
    "CoordinatorUnavailableError",
    "MessageError",
    "SettingsError",
    "SettingsProblem",
    "ShardError",
    "StartError",
]


class ShardError(Exception):
    """Root of every exception that shardtls raises on purpose."""


@dataclass(frozen=True, slots=True)
class SettingsProblem:
    """One thing wrong with the settings.

    :ivar path: where: a TOML path (``sessions.ttl``), a flag or a variable.
    :ivar message: what is wrong, with the value unless it is secret, and the remedy.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SettingsError(ShardError):
    """Settings were refused as a whole.

    :ivar problems: every problem found, in the order of the file.
    """

    def __init__(self, problems: list[SettingsProblem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class MessageError(ShardError):
    """A message breaks the wire contract.

    :ivar code: one of the ``ERROR_*`` codes of :mod:`coordinator.protocol`.
    :ivar detail: what was wrong, without any of the message's own bytes.
    """

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


class CoordinatorUnavailableError(ShardError):
    """The coordinator did not answer in time.

    :ivar endpoint: where it was asked.
    :ivar waited: seconds waited.
    """

    def __init__(self, endpoint: str, waited: float) -> None:
        self.endpoint = endpoint
        self.waited = waited
        super().__init__(f"no answer from the coordinator at {endpoint} within {waited:g} s")


class CommandRefusedError(ShardError):
    """The server answered a command with an error.

    :ivar code: one of the ``ERROR_*`` codes of :mod:`coordinator.protocol`.
    :ivar detail: for the operator.
    """

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(detail or code)


class StartError(ShardError):
    """A process could not start. The text is one line for the operator, with the remedy."""
