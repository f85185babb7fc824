"""The command itself: its groups, and what every error looks like.

Exit codes: 0; 1 a running server refused or did not answer; 2 usage or settings; 3 a server failed
to start.
"""

from __future__ import annotations

from typing import Any, Final

import click

from coordinator.errors import (
    CommandRefusedError,
    CoordinatorUnavailableError,
    MessageError,
    SettingsError,
    ShardError,
    StartError,
)
from shard import __version__
from shard.cli import (
    certificates,
    checking,
    demo,
    entropy,
    keys,
    orders,
    running,
    status,
    top,
)

__all__ = ["main"]

EXIT_REFUSED: Final = 1
EXIT_SETTINGS: Final = 2
EXIT_START: Final = 3


class _Failure(click.ClickException):
    """An error of ours, as click shows and exits with it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self._exit_code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click has a class variable
        """The process's."""
        return self._exit_code

    def show(self, file: Any = None) -> None:
        """One line, or the list of all problems."""
        click.echo(f"shardtls: {self.message}", file=file, err=True)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Turn every error that a user can cause into its line and its exit code."""
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise _Failure(_problems(error), EXIT_SETTINGS) from None
        except StartError as error:
            raise _Failure(str(error), EXIT_START) from None
        except CoordinatorUnavailableError as error:
            raise _Failure(f"{error}: is it running?", EXIT_REFUSED) from None
        except (CommandRefusedError, MessageError) as error:
            raise _Failure(f"refused: {error.detail or error.code}", EXIT_REFUSED) from None
        except ShardError as error:
            raise _Failure(str(error), EXIT_REFUSED) from None
        except BrokenPipeError:
            raise  # click's: whoever read our output has seen enough
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise _Failure(f"{where}{error.strerror or error}", EXIT_START) from None


def _problems(error: SettingsError) -> str:
    lines = [str(problem) for problem in error.problems]
    if len(lines) == 1:
        return lines[0]
    return "\n".join([f"{len(lines)} settings are wrong:", *(f"  {line}" for line in lines)])


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="shardtls")
def main() -> None:
    """A TLS server that spreads over many processes and behaves as one."""


for command in (
    running.up,
    running.coordinator,
    running.worker,
    orders.scale,
    orders.drain,
    orders.reload,
    orders.rotate,
    orders.purge,
    status.status,
    top.top,
    entropy.entropy,
    checking.check,
    certificates.cert,
    keys.keys,
    demo.demo,
):
    main.add_command(command)
