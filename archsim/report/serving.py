"""A serving run as tables for a terminal, and as HDF5 with one row a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.report.hdf5 import new_file, write_columns, write_summary
from archsim.report.json_text import plain
from archsim.serving.results import SERVING_SCHEMA, Distribution, ServingReport
from archsim.units import format_si

_COLUMNS = {
    "arrival_s": ("s", "arrival"),
    "first_scheduled_s": ("s", "start of the first iteration it took part in; NaN if rejected"),
    "first_token_s": ("s", "end of the iteration that made its first token; NaN if rejected"),
    "completed_s": ("s", "end of the iteration that made its last token; NaN if rejected"),
    "prompt_tokens": ("1", "tokens of the prompt"),
    "output_tokens": ("1", "tokens of the answer"),
    "tenant": ("1", "tenant, numbered in order of appearance"),
    "preemptions": ("1", "times its cache was dropped and recomputed, or swapped out"),
    "instance": ("1", "instance that made its last token, -1 if rejected"),
}
_LATENCIES = {
    "ttft_s": "time to first token",
    "tpot_s": "time per output token",
    "tbt_s": "time between tokens",
    "latency_s": "request latency",
    "normalised_latency_s": "latency per output token",
    "scheduling_delay_s": "scheduling delay",
}


def print_serving(report: ServingReport, console: Console) -> None:
    """Print throughput, latencies, cache use and cost of one run."""
    counts = report.counts
    console.print(
        f"[bold]{escape(report.model or 'a model')}[/] on [bold]{escape(report.system)}[/]: "
        f"{counts.requests} requests of {escape(report.trace)} under {escape(report.policy)}"
    )
    console.print(_latency_table(report))
    console.print(_totals(report))


def _latency_table(report: ServingReport) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("latency", no_wrap=True)
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, label in _LATENCIES.items():
        found: Distribution | None = getattr(report, name)
        if found is not None:
            numbers = (found.mean, found.p50, found.p90, found.p99, found.max)
            table.add_row(label, *(format_si(value, "s") for value in numbers))
    return table


def _totals(report: ServingReport) -> Table:
    counts, rates, cache, cost = report.counts, report.throughput, report.kv_cache, report.cost
    rows = [
        ("served", f"{counts.completed} of {counts.requests} requests", f"{counts.rejected} rejected: too long to fit"),
        ("throughput", f"{rates.output_tokens_per_s:,.4g} tokens/s", f"{rates.requests_per_s:,.4g} requests/s"),
        ("time", format_si(report.duration_s, "s"), f"busy {report.busy_fraction:.1%}, {counts.iterations} iterations"),
        ("KV cache", f"{cache.capacity_tokens:,} tokens",
         f"mean {cache.mean_fraction:.1%}, peak {cache.peak_fraction:.1%}, {counts.preemptions} preemptions"),
    ]  # fmt: skip
    if cost.usd_per_million_output_tokens is not None:
        per_hour = f"$ {cost.usd_per_hour:,.4g} /hour"
        rows.append(("cost", f"$ {cost.usd_per_million_output_tokens:,.4g} per million output tokens", per_hour))
    table = Table(box=None, pad_edge=False, show_header=False)
    for style in ("bold", "", "dim"):
        table.add_column(style=style, no_wrap=style != "dim")
    for row in rows:
        table.add_row(*row)
    return table


def write_serving_hdf5(path: Path, report: ServingReport, configuration: Mapping[str, Any] | None = None) -> None:
    """Write /summary (one row, a column per number, named by its JSON path) and /requests (one row a request)."""
    with new_file(path, SERVING_SCHEMA, configuration or {}) as file:
        summary: dict[str, Any] = plain(report)
        write_summary(file.create_group("summary"), summary)
        if report.requests is not None:
            columns = {name: (getattr(report.requests, name), *text) for name, text in _COLUMNS.items()}
            write_columns(file.create_group("requests"), columns, "request")
