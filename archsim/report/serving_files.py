"""The files of a serving run: requests and time series as CSV, everything as HDF5, batches as a timeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.report.atomic import replacing
from archsim.report.hdf5 import new_file, write_columns, write_summary
from archsim.report.json_text import plain
from archsim.report.perfetto import write_perfetto
from archsim.results import Timeline
from archsim.serving.metrics import tpot_s
from archsim.serving.results import SERVING_SCHEMA, ServingReport

_COLUMNS = {
    "arrival_s": ("s", "arrival"),
    "first_scheduled_s": ("s", "start of the first iteration it took part in; NaN if rejected"),
    "first_token_s": ("s", "end of the iteration that made its first token; NaN if rejected"),
    "completed_s": ("s", "end of the iteration that made its last token; NaN if rejected"),
    "prompt_tokens": ("1", "tokens of the prompt"),
    "output_tokens": ("1", "tokens of the answer"),
    "tenant": ("1", "tenant, numbered in order of appearance"),
    "preemptions": ("1", "times its cache was dropped and recomputed, or swapped out"),
    "adapter": ("1", "adapter, numbered in order of appearance; -1: none"),
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
    "tokens": ("1", "output tokens it made"),
    "first_blocks": ("1", "blocks of the KV cache in use in its first iteration"),
    "joules": ("J", "energy; 0 where the machine's is unknown"),
}
_SERIES = {
    "start_s": ("s", "start of the bin"),
    "in_system": ("1", "requests that arrived and are not complete, mean of the bin"),
    "queued": ("1", "requests never scheduled yet"),
    "running": ("1", "requests in iterations in flight"),
    "kv_fraction": ("1", "blocks of the KV caches in use during iterations, as share of all"),
    "busy_fraction": ("1", "share of the instances that run an iteration"),
    "prompt_tokens_per_s": ("1/s", "prompt tokens processed"),
    "output_tokens_per_s": ("1/s", "output tokens made"),
    "power_w": ("W", "energy of iterations over time; 0 where the machine's is unknown"),
}


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
    """Write /summary (one row, a column per number, named by its JSON path), /requests and what else was kept."""
    with new_file(path, SERVING_SCHEMA, configuration or {}) as file:
        summary: dict[str, Any] = plain(report)
        summary.pop("series", None)
        write_summary(file.create_group("summary"), summary)
        if report.requests is not None:
            columns = {name: (getattr(report.requests, name), *text) for name, text in _COLUMNS.items()}
            write_columns(file.create_group("requests"), columns, "request")
        if report.series is not None:
            series = {name: (values, *_SERIES[name]) for name, values in report.series.columns().items()}
            write_columns(file.create_group("series"), series, "bin")
        if report.timeline is not None:
            batches = {name: (report.timeline[name], *text) for name, text in _BATCHES.items()}
            write_columns(file.create_group("batches"), batches, "batch")


def write_requests_csv(path: Path, report: ServingReport) -> None:
    """One line a request, with the columns of /requests and its latencies; cells of what never happened are empty."""
    table = report.requests
    assert table is not None
    columns: dict[str, NDArray[Any]] = {"request": np.arange(len(table.arrival_s))}
    columns |= {name: getattr(table, name) for name in _COLUMNS}
    columns["ttft_s"] = table.first_token_s - table.arrival_s
    columns["tpot_s"] = tpot_s(table, report.tpot_over)
    columns["latency_s"] = table.completed_s - table.arrival_s
    _write_csv(path, columns)


def write_series_csv(path: Path, report: ServingReport) -> None:
    """One line a bin of the time series; the unit is in each column's name."""
    assert report.series is not None
    _write_csv(path, report.series.columns())


def _write_csv(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of numbers, whole or not at all; NaN is an empty cell."""
    cells = [["" if value != value else repr(value) for value in values.tolist()] for values in columns.values()]
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(columns) + "\n")
        file.writelines(",".join(row) + "\n" for row in zip(*cells, strict=True))
