"""A serving run as tables for a terminal, as HDF5 with a row for each request and batch, and as a timeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.report.hdf5 import new_file, write_columns, write_summary
from archsim.report.json_text import plain
from archsim.report.perfetto import write_perfetto
from archsim.results import Timeline
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
_BATCHES = {
    "start": ("ns", "start of its first iteration"),
    "end": ("ns", "end of its last iteration"),
    "instance": ("1", "instance that ran it"),
    "steps": ("1", "iterations it ran unchanged"),
    "prefills": ("1", "prompts or chunks in it"),
    "decodes": ("1", "decodes in it"),
    "new_tokens": ("1", "prompt tokens in it"),
    "waiting": ("1", "requests that waited when it started"),
    "blocks": ("1", "blocks of the KV cache in use"),
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
    rows += _further(report)
    table = Table(box=None, pad_edge=False, show_header=False)
    for style in ("bold", "", "dim"):
        table.add_column(style=style, no_wrap=style != "dim")
    for row in rows:
        table.add_row(*row)
    return table


def _further(report: ServingReport) -> list[tuple[str, str, str]]:
    """Energy, limits, fairness and instances, where there is something to say."""
    rows = []
    if report.energy is not None:
        each = f"{format_si(report.energy.j_per_output_token, 'J')} per output token"
        rows.append(("energy", each, f"{format_si(report.energy.joules, 'J')} in all iterations"))
    if report.slo is not None:
        slo = report.slo
        single = f"first token {slo.ttft_attainment:.1%}, per token {slo.tpot_attainment:.1%}"
        rows.append(("limits", f"{slo.attainment:.1%} of requests keep them", single))
    if report.fairness is not None:
        fair = report.fairness
        apart = f"service differs by {fair.difference_max:,.0f} at most in {fair.window_s:g} s"
        rows.append(("fairness", f"Jain index {fair.jain_index:.3f}", apart))
    if len(report.instances) > 1:
        for index, use in enumerate(report.instances):
            share = f"busy {use.busy_fraction:.1%}, mean decode batch {use.mean_decode_batch:.3g}"
            rows.append((f"instance {index}", use.role, f"{share}, KV peak {use.peak_kv_fraction:.1%}"))
    if report.interrupted:
        rows.append(("interrupted", "results so far", "requests still in service are not in the latencies"))
    return rows


def serving_timeline(report: ServingReport) -> Timeline:
    """One track an instance, one slice a batch; empty if the run kept no batches."""
    log = report.timeline if report.timeline is not None else np.zeros(0, dtype=[("start", "i8"), ("end", "i8")])
    names, phases, tracks = [], [], []
    for row in log:
        prompts, decodes = int(row["prefills"]), int(row["decodes"])
        names.append(f"{prompts} prompts, {int(row['new_tokens'])} tokens" if prompts else f"{decodes} decodes")
        phases.append("mixed" if prompts and decodes else "prefill" if prompts else "decode")
        tracks.append(f"instance {int(row['instance'])}")
    none = np.full(len(log), -1, dtype=np.int64)
    return Timeline(tuple(names), tuple(tracks), tuple(phases), none, log["start"] * 1e-9, log["end"] * 1e-9)


def write_serving_perfetto(path: Path, report: ServingReport) -> None:
    """Write the timeline of a run for ui.perfetto.dev."""
    write_perfetto(path, serving_timeline(report))


def write_serving_hdf5(path: Path, report: ServingReport, configuration: Mapping[str, Any] | None = None) -> None:
    """Write /summary (one row, a column per number, named by its JSON path), /requests and, if kept, /batches."""
    with new_file(path, SERVING_SCHEMA, configuration or {}) as file:
        summary: dict[str, Any] = plain(report)
        write_summary(file.create_group("summary"), summary)
        if report.requests is not None:
            columns = {name: (getattr(report.requests, name), *text) for name, text in _COLUMNS.items()}
            write_columns(file.create_group("requests"), columns, "request")
        if report.timeline is not None:
            batches = {name: (report.timeline[name], *text) for name, text in _BATCHES.items()}
            write_columns(file.create_group("batches"), batches, "batch")
