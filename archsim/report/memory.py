"""A DRAM run as text, JSON document and HDF5 (commands, requests, summary), and request traces from HDF5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.errors import InputError
from archsim.memory.dram.result import Latency, MemoryResult
from archsim.memory.dram.streams import Stream, from_arrays
from archsim.report.hdf5 import new_file, write_columns, write_summary
from archsim.report.hdf5_reader import open_result, read_columns
from archsim.report.json_text import plain
from archsim.units import format_si

_BAR = 40


def document_of(result: MemoryResult) -> dict[str, Any]:
    """The result without its traces, as plain values."""
    document: dict[str, Any] = plain(asdict(replace(result, trace=None, requests=None)))
    document.pop("trace", None)
    document.pop("requests", None)
    return document


def print_memory(result: MemoryResult, console: Console) -> None:
    """Print bandwidth, what bounds it, latencies, rows, commands and energy of one run."""
    channels = f", {result.channels} channels" if result.channels > 1 else ""
    console.print(
        f"[bold]{escape(result.stream)}[/] on [bold]{escape(result.device)}[/]{channels}: "
        f"{result.n_requests:,} requests of {result.tx_bytes} bytes ({result.n_writes:,} writes)"
    )
    console.print(
        f"{format_si(result.bandwidth_bytes_per_s, 'B/s')}, {result.share_of_peak:.2%} of {_peak(result)}; "
        f"{result.end_ticks:,} ticks, {format_si(result.time_s, 's')}"
    )
    if result.bandwidth_stack:
        console.print(_stack_table(result))
    console.print(_latency_table(result))
    total = max(1, result.row_hits + result.row_misses + result.row_conflicts)
    console.print(
        f"rows: {result.row_hits / total:.1%} hits, {result.row_misses / total:.1%} misses, "
        f"{result.row_conflicts / total:.1%} conflicts; {result.forwarded_reads:,} reads forwarded, "
        f"{result.merged_writes:,} writes merged"
    )
    console.print("commands: " + ", ".join(f"{name} {n:,}" for name, n in result.commands.items() if n))
    if result.energy_j:
        console.print(_energy_line(result))


def _stack_table(result: MemoryResult) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("share of peak", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for cause, share in result.bandwidth_stack.items():
        if share >= 0.00005:
            style = "bold" if cause == result.bound_by else ""
            table.add_row(escape(cause), f"{share:.2%}", "█" * round(share * _BAR), style=style)
    return table


def _latency_table(result: MemoryResult) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("latency", no_wrap=True)
    for name in ("mean", "p50", "p95", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, own in (("read", result.read_latency), ("write", result.write_latency)):
        if own.count:
            table.add_row(label, *(format_si(ticks * result.tick_s, "s") for ticks in _quantiles(own)))
    return table


def _quantiles(own: Latency) -> tuple[float, ...]:
    return own.mean_ticks, own.p50_ticks, own.p95_ticks, own.p99_ticks, own.max_ticks


def _energy_line(result: MemoryResult) -> str:
    parts = ", ".join(f"{name.replace('_', ' ')} {format_si(joules, 'J')}" for name, joules in result.energy_j.items())
    per_bit = "" if result.energy_pj_per_bit is None else f", {result.energy_pj_per_bit:.3g} pJ/bit"
    total = format_si(sum(result.energy_j.values()), "J")
    return f"energy: {total}{per_bit} ({parts}); {escape(result.energy_source)}"


def write_memory_hdf5(path: Path, result: MemoryResult, configuration: Mapping[str, Any]) -> None:
    """Write /summary, /commands/<channel> and /requests (the last two if the run kept them)."""
    with new_file(path, result.schema, configuration) as file:
        write_summary(file.create_group("summary"), document_of(result))
        trace = result.trace
        if trace is not None:
            for channel in range(result.channels):
                own = trace.channel == channel
                names = [trace.names[k] for k in trace.command[own]]
                columns: dict[str, Any] = {
                    "tick": (trace.tick[own], "1", "controller tick of the issue"),
                    "command": (names, "", "command"),
                    **{
                        level: (values[own], "1", f"{level}, -1: all of them")
                        for level, values in trace.coordinates.items()
                    },
                    "row": (trace.row[own], "1", "row of the request it serves, -1: none"),
                    "column": (trace.column[own], "1", "burst in the row, -1: none"),
                }
                write_columns(file.create_group(f"commands/{channel}"), columns, "command_index")
        if result.requests is not None:
            requests = result.requests
            table = {
                "address": (requests.address, "byte", "address"),
                "write": (requests.write, "1", "1: write"),
                "end_tick": (requests.end_tick, "1", "tick of the last data, -1: merged into an earlier write"),
            }
            write_columns(file.create_group("requests"), table, "request")


def read_hdf5_trace(path: Path) -> Stream:
    """The stream in /requests of an HDF5 file: `address`, and optionally `write` and `time_ticks`."""
    with open_result(path) as file:
        if "requests" not in file:
            raise InputError(f"{path}: no group /requests in it")
        columns = read_columns(file["requests"])
    if "address" not in columns:
        raise InputError(f"{path}: /requests has no column `address`")
    try:
        return from_arrays(columns["address"], columns.get("write"), columns.get("time_ticks"), name=path.name)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def write_hdf5_trace(path: Path, stream: Stream) -> None:
    """Save a stream so that `read_hdf5_trace` reads it."""
    import numpy as np

    parts = list(stream.chunks())
    table: dict[str, Any] = {
        "address": (np.concatenate([part.addresses for part in parts]), "byte", "address"),
        "write": (np.concatenate([part.writes for part in parts]), "1", "1: write"),
    }
    if parts[0].times is not None:
        times = [part.times for part in parts if part.times is not None]
        table["time_ticks"] = (np.concatenate(times), "1", "earliest tick")
    with new_file(path, "archsim.requests/1", {"stream": stream.name}) as file:
        write_columns(file.create_group("requests"), table, "request")


def _peak(result: MemoryResult) -> str:
    if result.pin_bytes_per_s == result.peak_bytes_per_s:
        return "the pin rate"
    peak, pins = (format_si(value, "B/s") for value in (result.peak_bytes_per_s, result.pin_bytes_per_s))
    return f"{peak} of data, {pins} on the pins"
