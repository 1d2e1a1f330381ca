"""DRAM runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.memory.dram.result import MemoryResult
from archsim.units import format_si


def print_comparison(results: Sequence[MemoryResult], console: Console) -> None:
    """One column a run."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for result in results:
        table.add_column(escape(result.device), justify="right", no_wrap=True)
    rows = {
        "bandwidth": [format_si(r.bandwidth_bytes_per_s, "B/s") for r in results],
        "share of peak": [f"{r.share_of_peak:.1%}" for r in results],
        "bound by": [escape(r.bound_by) for r in results],
        "time": [format_si(r.time_s, "s") for r in results],
        "read latency, mean": [_time(r.read_latency.mean_ticks, r) for r in results],
        "read latency, p99": [_time(r.read_latency.p99_ticks, r) for r in results],
        "write latency, mean": [_time(r.write_latency.mean_ticks, r) for r in results],
        "row hits": [f"{r.row_hits / max(1, r.n_requests):.1%}" for r in results],
        "activates": [f"{r.commands.get('ACT', r.commands.get('ACT1', 0)):,}" for r in results],
        "energy": ["-" if r.energy_pj_per_bit is None else f"{r.energy_pj_per_bit:.3g} pJ/bit" for r in results],
    }
    for cause in results[0].bandwidth_stack:
        rows[f"  {cause}"] = [f"{r.bandwidth_stack.get(cause, 0.0):.1%}" for r in results]
    for label, cells in rows.items():
        table.add_row(label, *cells)
    console.print(table)


def _time(ticks: float, result: MemoryResult) -> str:
    return "-" if ticks < 0 else format_si(ticks * result.tick_s, "s")
