"""`archsim validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archsim.cli.options import Output, log, output_options

if TYPE_CHECKING:
    from archsim.validation import ValidationReport


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option("--kind", "kinds", multiple=True, help="Only datasets of this kind; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), help="About this many rows of each dataset, drawn at random.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of --limit.")
@click.option("--max-ape", type=click.FloatRange(min=0), metavar="PCT", help="Fail if an error exceeds PCT percent.")
@click.option(
    "--max-skipped", type=click.IntRange(min=0), metavar="N", help="Fail if a dataset skips more than N rows."
)
@output_options("json")
def validate(
    folders: tuple[str, ...],
    kinds: tuple[str, ...],
    limit: int | None,
    seed: int,
    max_ape: float | None,
    max_skipped: int | None,
    output: Output,
) -> None:
    """Compare archsim with the reference data in each DIR, which its manifest.yaml describes.

    Exit code 1 only if a threshold that was asked for is missed.
    """
    from archsim.errors import CheckFailedError
    from archsim.validation import validate as run
    from archsim.validation.table import print_validation

    report = run(folders, kinds or None, limit, seed, advance=log)
    output.emit(report, lambda console: print_validation(report, console))
    failures = missed(report, max_ape, max_skipped)
    if failures:
        raise CheckFailedError("; ".join(failures))


def missed(report: ValidationReport, max_ape: float | None, max_skipped: int | None) -> list[str]:
    """The thresholds that the report misses, one text each."""
    failures = []
    for dataset in report.datasets:
        if max_skipped is not None and dataset.skipped > max_skipped:
            failures.append(f"{dataset.kind}: {dataset.skipped} rows skipped, allowed are {max_skipped}")
        for name, column in dataset.columns.items():
            worst = column.max_ape_pct
            if max_ape is not None and worst is not None and worst > max_ape:
                failures.append(f"{dataset.kind} {name}: error up to {worst:.3g} %, allowed are {max_ape:g} %")
    return failures
