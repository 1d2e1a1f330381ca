"""`archsim compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archsim.cli.options import Output, output_options, override_option, progress
from archsim.cli.request import request_options, split_overrides

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.report.comparison import Entry


@click.command()
@click.argument("workload")
@click.argument("systems", nargs=-1, required=True, metavar="SYSTEM SYSTEM...")
@request_options
@click.option("--baseline", metavar="SYSTEM", help="The machine that ratios refer to (default: the last one).")
@override_option
@output_options("json")
def compare(
    workload: str,
    systems: tuple[str, ...],
    batch: int | None,
    input_len: int,
    output_len: int,
    baseline: str | None,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """WORKLOAD on several machines side by side; with `--batch max` each at its own largest batch.

    Exit code 3 if one of the machines cannot run the workload; the others are still shown.
    """
    from archsim.config import load_model
    from archsim.errors import InfeasibleError, UsageError, unknown_name
    from archsim.report.comparison import Comparison, infeasible_lines, print_comparison

    if baseline is not None and baseline not in systems:
        raise UsageError(f"--baseline: {unknown_name('system', baseline, systems)}")
    reference = systems.index(baseline) if baseline is not None else len(systems) - 1
    of_system, of_workload = split_overrides(overrides)
    model = load_model(workload, of_workload)
    entries = []
    with progress("comparing", len(systems)) as advance:
        for done, system in enumerate(systems):
            entries.append(_evaluated(system, of_system, model, batch, (input_len, output_len)))
            advance(done + 1)
    comparison = Comparison(f"{model.name}, {input_len} tokens in, {output_len} out", tuple(entries), reference)
    output.emit(comparison, lambda console: print_comparison(comparison, console))
    failed = infeasible_lines(comparison.entries)
    if failed:
        raise InfeasibleError("; ".join(failed))


def _evaluated(system: str, overrides: list[str], model: Model, batch: int | None, lengths: tuple[int, int]) -> Entry:
    from archsim.config import load_system
    from archsim.cost.evaluation import evaluate
    from archsim.errors import InfeasibleError
    from archsim.report.comparison import Entry

    machine = load_system(system, overrides)
    try:
        report = evaluate(machine, model, batch=batch, input_len=lengths[0], output_len=lengths[1])
    except InfeasibleError as error:
        return Entry(machine.name, None, str(error))
    return Entry(machine.name, report)
