"""Results of `archsim network run` as terminal tables. Sees nothing but plain attributes."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.units import format_si


def print_link(result: Any, console: Console) -> None:
    """Rates, latencies and slots of one link."""
    console.print(f"[bold]{escape(result.link)}[/]: {result.requests} lines, {100 * result.read_fraction:.3g} % reads")
    offered = "" if result.offered_bytes_per_s is None else f", offered {format_si(result.offered_bytes_per_s, 'B/s')}"
    share = result.bandwidth_bytes_per_s / result.bound_bytes_per_s
    console.print(
        f"  bandwidth {format_si(result.bandwidth_bytes_per_s, 'B/s')}, {100 * share:.1f} % of the bound of "
        f"{format_si(result.bound_bytes_per_s, 'B/s')}{offered}"
    )
    console.print(f"  link energy {format_si(result.energy_j, 'J')}")
    console.print(_latencies({"reads": result.read_latency, "writes": result.write_latency}))
    console.print(_slots(result.directions))


def print_expander(result: Any, console: Console) -> None:
    """As `print_link`, with the memory and the accelerator."""
    print_link(result.link, console)
    dram = result.dram
    rows = ", ".join(f"{count} {name}" for name, count in dram["rows"].items())
    console.print(f"  memory of {escape(result.expander)}: peak {format_si(result.memory_peak_bytes_per_s, 'B/s')}")
    console.print(f"  read latency of the memory {format_si(result.memory_latency.mean_s, 's')} (mean), rows: {rows}")
    if result.accelerator_bytes_per_s:
        console.print(f"  accelerator {format_si(result.accelerator_bytes_per_s, 'B/s')} beside the host")
    if dram["energy_j"]:
        parts = ", ".join(f"{name} {format_si(joules, 'J')}" for name, joules in dram["energy_j"].items())
        console.print(f"  DRAM energy ({escape(dram['energy_source'])}): {parts}", highlight=False)


def _latencies(latencies: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("latency")
    for name in ("count", "mean", "p50", "p95", "p99", "max"):
        table.add_column(name, justify="right")
    for name, found in latencies.items():
        values = (found.mean_s, found.p50_s, found.p95_s, found.p99_s, found.max_s)
        if found.count:
            table.add_row(name, str(found.count), *(format_si(value, "s") for value in values))
    return table


def _slots(directions: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("direction")
    for name in ("flits", "share of raw rate", "headers", "with data", "data", "empty slots"):
        table.add_column(name, justify="right")
    names = {"m2s": "to the device (M2S)", "s2m": "to the host (S2M)"}
    for name, found in directions.items():
        slots = [str(found.slots[part]) for part in ("headers", "headers_with_data", "data", "empty")]
        table.add_row(names[name], str(found.flits), f"{100 * found.share_of_raw:.1f} %", *slots)
    return table
