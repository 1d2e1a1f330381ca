"""`archsim replicate`."""

from __future__ import annotations

import click

from archsim.cli.options import Output, output_options


@click.command()
@click.argument("paper")
@output_options("json")
def replicate(paper: str, output: Output) -> None:
    """Published claims of PAPER beside what archsim finds, with the configuration used (`archsim list papers`)."""
    from archsim.report.claims import print_replication
    from archsim.validation.papers import replicate as run

    found = run(paper)
    output.emit(found, lambda console: print_replication(found, console))
