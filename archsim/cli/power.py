"""`archsim power`."""

from __future__ import annotations

import click

from archsim.cli.options import Output, output_options, override_option
from archsim.cli.request import request_options, split_overrides


@click.command()
@click.argument("system")
@click.argument("workload")
@request_options
@click.option("--top", type=click.IntRange(1), default=12, show_default=True, help="Operators shown (--json has all).")
@click.option("--check", is_flag=True, help="Exit 1 if a unit draws more than its design power.")
@override_option
@output_options("json")
def power(
    system: str,
    workload: str,
    batch: int | None,
    input_len: int,
    output_len: int,
    top: int,
    check: bool,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Energy of WORKLOAD on SYSTEM by operator and component, watts of every unit over time and against its limit.

    One prefill and the decode step at the middle length; --json has the power of every unit as a series over time.
    """
    from archsim.config import load_model, load_system
    from archsim.errors import CheckFailedError
    from archsim.execution.power import power_report
    from archsim.report.power import print_power

    of_system, of_workload = split_overrides(overrides)
    machine, model = load_system(system, of_system), load_model(workload, of_workload)
    found = power_report(machine, model, batch, input_len, output_len)
    output.emit(found, lambda console: print_power(found, console, top))
    above = [unit for unit in found.units if unit.exceeds]
    if check and above:
        worst = max(above, key=lambda unit: unit.peak_w / (unit.limit_w or 1.0))
        raise CheckFailedError(
            f"{worst.unit} draws {worst.peak_w:.0f} W in {worst.peak_operator} ({worst.phase}), design power is "
            f"{worst.limit_w:.0f} W"
        )
