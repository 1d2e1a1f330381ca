"""`archsim area`."""

from __future__ import annotations

import click

from archsim.cli.options import Output, output_options, override_option


@click.command()
@click.argument("system")
@override_option
@output_options("json")
def area(system: str, overrides: tuple[str, ...], output: Output) -> None:
    """Silicon of SYSTEM: dies as its bills state them, parts of NPUs as modelled, DRAM dies and their compute units."""
    from archsim.config import load_system
    from archsim.cost.area import machine_area
    from archsim.report.area import print_area

    found = machine_area(load_system(system, overrides))
    output.emit(found, lambda console: print_area(found, console))
