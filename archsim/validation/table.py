"""Validation results as terminal tables."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.validation.statistics import ColumnStatistics, DatasetResult, ValidationReport

_SHOWN_GROUPS = 12


def print_validation(report: ValidationReport, console: Console) -> None:
    """Per dataset: one line a truth column, the reasons of skipped rows, the worst rows and the groups."""
    for dataset in report.datasets:
        results = dataset.results if isinstance(dataset.results, str) else ", ".join(dataset.results)
        head = f"[bold]{escape(dataset.kind)}[/] ({escape(dataset.reference)}: {escape(results)}): {dataset.rows} rows"
        console.print(head + (f", [bold]{dataset.skipped} skipped[/]" if dataset.skipped else ""))
        for reason, count in sorted(dataset.reasons.items(), key=lambda item: -item[1]):
            console.print(f"  {count} rows: {reason}", markup=False)
        if dataset.columns:
            console.print(_columns(dataset))
        for column, statistics in dataset.columns.items():
            _print_worst(column, statistics, console)
        for group in sorted(dataset.groups, key=lambda group: -(group.mape_pct or 0.0))[:_SHOWN_GROUPS]:
            by = ", ".join(f"{name}={value}" for name, value in group.by.items())
            line = f"  {by}: {group.rows} rows, mean error {_pct(group.mape_pct)}, bias {_pct(group.bias_pct)}"
            console.print(line, markup=False)
        if len(dataset.groups) > _SHOWN_GROUPS:
            console.print(f"  ... {len(dataset.groups) - _SHOWN_GROUPS} more groups (--json has all)")


def _columns(dataset: DatasetResult) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("truth column", no_wrap=True)
    for name in ("rows", "exact", "mean", "median", "p95", "max", "bias"):
        table.add_column(name, justify="right", no_wrap=True)
    for column, found in dataset.columns.items():
        errors = (found.mape_pct, found.median_ape_pct, found.p95_ape_pct, found.max_ape_pct, found.bias_pct)
        table.add_row(escape(column), str(found.rows), str(found.exact), *map(_pct, errors))
    return table


def _print_worst(column: str, statistics: ColumnStatistics, console: Console) -> None:
    for worst in statistics.worst[:1]:
        of = ", ".join(f"{name}={value}" for name, value in worst["of"].items())
        line = f"  worst {column}: row {worst['row']} of {worst['file']} ({of}): {_value(worst['predicted'])} "
        console.print(f"{line}for {worst['truth']}, {_pct(worst['ape_pct'])}", markup=False)


def _value(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _pct(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g} %" if abs(value) >= 1e-6 or value == 0 else "<1e-6 %"
