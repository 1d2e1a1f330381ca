"""Results as tables for a terminal; plain and complete when piped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.results import OperatorResult, Report
from archsim.units import format_bytes, format_si

COLUMNS = ("phase", "operator", "unit", "count", "time", "share", "hidden", "energy", "FLOP", "bytes", "bound")
GAP = 3  # characters between two columns; the edges take no more than one gap
DROPPED_FIRST = ("FLOP", "bytes", "count", "hidden", "share")  # columns a narrow operator table does without


def print_report(report: Report, console: Console) -> None:
    """Print latency, throughput, energy, capacity, cost and the operator table of one report."""
    request = report.request
    console.print(
        f"[bold]{escape(report.model)}[/] on [bold]{escape(report.system)}[/]: "
        f"batch {request.batch}, {request.input_len} tokens in, {request.output_len} out"
    )
    console.print(_summary(report))
    console.print(_operators(report.operators, console))
    for note in report.notes:
        console.print(f"note: {escape(note)}", highlight=False)


def _summary(report: Report) -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column("group", style="bold", no_wrap=True)
    table.add_column("quantity", no_wrap=True)
    table.add_column("value", no_wrap=True)
    table.add_column("detail", style="dim", overflow="fold")
    groups = (
        ("latency", _latency_rows(report)),
        ("throughput", _throughput_rows(report)),
        ("energy", _energy_rows(report)),
        ("capacity", _capacity_rows(report)),
        ("cost", _cost_rows(report)),
    )
    for group, rows in groups:
        for index, (quantity, value, detail) in enumerate(rows):
            table.add_row("" if index else group, quantity, value, escape(detail), end_section=index == len(rows) - 1)
    return table


Row = tuple[str, str, str]


def _latency_rows(report: Report) -> list[Row]:
    latency = report.latency
    decode = shares(latency.breakdown.get("decode", {}))
    if latency.decode_steps:
        sampled = f"mean of {latency.decode_steps} steps, {latency.decode_lengths_simulated} KV lengths simulated"
        sampled += f", error <= {latency.interpolation_error:.2%}" if latency.interpolation_error else ""
    else:
        sampled = ""
    rows = [
        ("prefill", seconds(latency.prefill_s), shares(latency.breakdown.get("prefill", {}))),
        ("time to first token", seconds(latency.ttft_s), ""),
        ("time per output token", seconds(latency.tpot_s), "; ".join(part for part in (decode, sampled) if part)),
        ("whole request", seconds(latency.request_s), ""),
    ]
    return rows


def _throughput_rows(report: Report) -> list[Row]:
    throughput = report.throughput
    return [
        ("decode", f"{throughput.decode_tokens_per_s:,.1f} tokens/s", "whole batch"),
        ("requests", f"{throughput.requests_per_s:.4g} /s", "prefill included"),
    ]


def _energy_rows(report: Report) -> list[Row]:
    energy = report.energy
    return [
        ("prefill", format_si(energy.prefill_j, "J"), ""),
        ("decode step", format_si(energy.decode_step_j, "J"), shares(energy.breakdown)),
        ("per generated token", format_si(energy.j_per_token, "J"), "prefill shared out"),
    ]


def _capacity_rows(report: Report) -> list[Row]:
    capacity = report.capacity
    share = capacity.required_bytes / capacity.available_bytes if capacity.available_bytes else 0.0
    used = f"{format_bytes(capacity.required_bytes)} of {format_bytes(capacity.available_bytes)}"
    rows = [
        ("memory", used, f"{share:.1%}" + ("" if capacity.fits else ", does not fit")),
        ("largest batch", f"{capacity.max_batch}", ""),
    ]
    for unit in capacity.units:
        inside = ", ".join(f"{name} {format_bytes(size)}" for name, size in unit.contents.items() if size)
        used = f"{format_bytes(unit.required_bytes)} of {format_bytes(unit.available_bytes)}"
        rows.append((f"  {escape(unit.unit)}", used, inside))
    return rows


def _cost_rows(report: Report) -> list[Row]:
    cost = report.cost
    return [
        ("per million tokens", f"$ {cost.usd_per_million_tokens:,.4g}", shares(cost.breakdown)),
        ("machine", f"$ {cost.capex_usd:,.0f}", shares(cost.capex_breakdown)),
        ("operation", f"$ {cost.opex_usd_per_year:,.0f} /year", ""),
        (
            "carbon",
            f"{cost.embodied_kgco2e:,.0f} kg CO2e",
            f"embodied; {cost.operational_kgco2e_per_year:,.0f} kg/year",
        ),
    ]


def seconds(value: float) -> str:
    """A duration with four digits: `12.34 ms`."""
    return format_si(value, "s")


def shares(parts: Mapping[str, float], most: int = 6) -> str:
    """`memory 61.0%, compute 30.0%, ...`: the parts by size, as shares of their sum."""
    total = sum(parts.values())
    if not parts or total <= 0:
        return ""
    ranked = sorted((item for item in parts.items() if item[1]), key=lambda item: -abs(item[1]))
    text = [f"{name} {value / total:.1%}" for name, value in ranked[:most]]
    rest = sum(value for _, value in ranked[most:])
    if rest:
        text.append(f"other {rest / total:.1%}")
    return ", ".join(text)


def _operators(operators: Sequence[OperatorResult], console: Console) -> Table:
    """The operator table; columns are left out, the least telling first, until the rest fits the terminal whole."""
    phases = [_phase_rows(operators, phase) for phase in dict.fromkeys(operator.phase for operator in operators)]
    widths = {name: max(len(name), *(len(cells[name]) for rows in phases for cells in rows)) for name in COLUMNS}
    for name in DROPPED_FIRST:
        if sum(widths.values()) + GAP * len(widths) <= console.width:
            break
        del widths[name]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="operators of the prefill and of one decode step")
    for name, width in widths.items():
        left = name in ("phase", "operator", "unit", "bound")
        table.add_column(name, justify="left" if left else "right", no_wrap=True, min_width=width)
    for rows in phases:
        for cells in rows[:-1]:
            table.add_row(*(cells[name] for name in widths))
        table.add_row(*(rows[-1][name] for name in widths), style="bold", end_section=True)
    return table


def _phase_rows(operators: Sequence[OperatorResult], phase: str) -> list[dict[str, str]]:
    """The cells of every operator of a phase, and last those of their total."""
    rows = [operator for operator in operators if operator.phase == phase]
    step_s = sum(row.seconds - row.overlap_s for row in rows)
    return [*(_cells(row, step_s) for row in rows), _total(phase, rows, step_s)]


def _cells(row: OperatorResult, step_s: float) -> dict[str, str]:
    return {
        "phase": escape(row.phase),
        "operator": escape(row.name),
        "unit": escape(row.unit),
        "count": str(row.count),
        "time": seconds(row.seconds),
        "share": f"{(row.seconds - row.overlap_s) / step_s:.1%}" if step_s > 0 else "-",
        "hidden": seconds(row.overlap_s) if row.overlap_s else "-",
        "energy": format_si(row.joules, "J"),
        "FLOP": format_si(row.flop, "FLOP"),
        "bytes": format_si(row.bytes, "B"),
        "bound": escape(row.bound),
    }


def _total(phase: str, rows: Sequence[OperatorResult], step_s: float) -> dict[str, str]:
    hidden_s = sum(row.overlap_s for row in rows)
    return {
        "phase": escape(phase),
        "operator": "step",
        "unit": "",
        "count": "",
        "time": seconds(step_s),
        "share": "100.0%",
        "hidden": seconds(hidden_s) if hidden_s else "-",
        "energy": format_si(sum(row.joules for row in rows), "J"),
        "FLOP": format_si(sum(row.flop for row in rows), "FLOP"),
        "bytes": format_si(sum(row.bytes for row in rows), "B"),
        "bound": "",
    }
