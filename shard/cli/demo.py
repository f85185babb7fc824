"""``shardtls demo``: what the design promises, shown on this machine."""

from __future__ import annotations

import click

from shard.demo.sharing import Outcome, experiments

__all__ = ["demo"]

EXIT_REPEATED = 1


@click.group()
def demo() -> None:
    """Demonstrations."""


@demo.command()
@click.option(
    "--blocks",
    type=click.IntRange(1, 10**8),
    default=10**7,
    show_default=True,
    metavar="N",
    help="Blocks of 16 bytes that threads draw from our generator; 40 bytes of memory each.",
)
@click.pass_context
def sharing(ctx: click.Context, blocks: int) -> None:
    """Share a random generator between threads, forked processes and clones of a memory image.

    Once it is a textbook CTR_DRBG without a guard, as PolarSSL 1.3 had it, and once the one of
    shardtls. Blocks that came before are counted. Exit code 1 if ours repeats any.
    """
    done = experiments(blocks)
    click.echo(f"{'one generator, shared by':<30}{'textbook, no guard':<30}shardtls")
    for experiment in done:
        columns = (experiment.sharers, _words(experiment.textbook), _words(experiment.ours))
        click.echo("{:<30}{:<30}{}".format(*columns))
    if any(experiment.ours.repeated for experiment in done):
        click.echo("shardtls: its generator repeated itself", err=True)
        ctx.exit(EXIT_REPEATED)


def _words(outcome: Outcome) -> str:
    count = f"{outcome.repeated:,}" if outcome.repeated else "none"
    return f"{count} of {outcome.drawn:,} repeated"
