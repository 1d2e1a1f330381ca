"""`archsim explore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli.options import Output, output_options, progress

if TYPE_CHECKING:
    from rich.console import Console

    from archsim.explore import ExploreResult

_EXIT_INFEASIBLE, _EXIT_CHECK_FAILED = 3, 1


@click.command()
@click.argument("space")
@click.option(
    "--out", "out_dir", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Folder of the run [default: explore-NAME].",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Continue a run that was interrupted.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes [default: one per core].")
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler to use instead of processes.")
@output_options("json")
@click.pass_context
def explore(
    context: click.Context,
    space: str,
    out_dir: Path | None,
    resume: bool,
    workers: int | None,
    scheduler: str | None,
    output: Output,
) -> None:
    """Evaluate every point of the design space SPACE, a preset (`archsim list spaces`) or the path of a YAML file.

    Each finished point is stored at once: after a crash or Ctrl-C, --resume goes on. DIR/points.h5 holds all points.
    """
    from archsim.config import load
    from archsim.explore import explore as run

    if workers is not None and scheduler is not None:
        raise click.UsageError("--workers and --scheduler exclude each other")
    loaded = load("space", space)
    folder = out_dir or Path(f"explore-{loaded.name}")
    with progress(f"exploring {loaded.name}", loaded.size) as advance:
        result = run(loaded, folder, workers, resume, scheduler, progress=lambda done, _: advance(done))
    output.emit(result, lambda console: _show(console, result, folder))
    if not result.ok:
        context.exit(_EXIT_CHECK_FAILED if result.errors else _EXIT_INFEASIBLE)


def _show(console: Console, result: ExploreResult, folder: Path) -> None:
    from rich.table import Table

    from archsim.report.notes import print_notes

    console.print(
        f"{result.name}: {result.points} points, {result.ok} ok, {result.infeasible} infeasible, "
        f"{result.errors} errors, {result.outside_constraints} outside the constraints; all in {folder / result.hdf5}"
    )
    for reason, count in list(result.reasons.items())[:5]:
        console.print(f"  {count} x {reason}", markup=False)
    table = Table(title=f"Pareto front ({len(result.front)} points)", title_justify="left")
    all_parameters = result.front[0].parameters if result.front else {}
    parameters = [name for name in all_parameters if not name.startswith("request.")]
    for name in ("point", "system", "model", "batch", "input", "output", *map(_short, parameters)):
        table.add_column(name, overflow="fold")
    for name, sense in result.objectives.items():
        table.add_column(f"{_short(name)} ({sense})", justify="right", overflow="fold")
    for point in result.front:
        shape = (point.index, point.system, point.model, point.batch, point.input_len, point.output_len)
        settings = [str(point.parameters[name]) for name in parameters]
        table.add_row(*map(str, shape), *settings, *(f"{value:.5g}" for value in point.objectives.values()))
    console.print(table)
    print_notes(result.notes, console)


def _short(path: str) -> str:
    """The last two names of a dotted path."""
    return ".".join(path.split(".")[-2:])
