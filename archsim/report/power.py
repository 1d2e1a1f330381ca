"""Results of `archsim power` as terminal tables. Sees nothing but plain attributes."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.units import format_si


def print_power(found: Any, console: Console, top: int) -> None:
    """Energy by kind of hardware, watts of every unit against its limit, the hungriest operators."""
    console.print(
        f"[bold]{escape(found.model)}[/] on [bold]{escape(found.system)}[/], batch {found.batch}, "
        f"{found.input_len} in, {found.output_len} out"
    )
    for phase, joules in found.joules.items():
        spent = found.seconds[phase]
        shares = ", ".join(
            f"{name} {100 * value / joules:.1f} %"
            for name, value in sorted(found.classes[phase].items(), key=lambda item: -item[1])
            if joules
        )
        mean = format_si(joules / spent, "W") if spent else "-"
        console.print(f"  {phase}: {format_si(joules, 'J')} in {format_si(spent, 's')}, {mean}: {shares}")
    console.print(_units(found.units))
    console.print(_operators(found, top))


def _units(units: Any) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="watts per device", title_justify="left")
    for name in ("unit", "phase"):
        table.add_column(name)
    for name in ("devices", "mean", "peak", "of which background", "design power"):
        table.add_column(name, justify="right")
    table.add_column("peak in")
    table.add_column("check")
    for unit in units:
        limit = "-" if unit.limit_w is None else f"{unit.limit_w:.0f}"
        check = "-" if unit.limit_w is None else "[bold]above[/]" if unit.exceeds else "within"
        table.add_row(
            escape(unit.unit), unit.phase, str(unit.devices), f"{unit.mean_w:.1f}", f"{unit.peak_w:.1f}",
            f"{unit.background_w:.1f}", limit, escape(unit.peak_operator), check,
        )  # fmt: skip
    return table


def _operators(found: Any, top: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="energy by operator", title_justify="left")
    table.add_column("phase")
    table.add_column("operator")
    for name in ("time", "energy", "share"):
        table.add_column(name, justify="right")
    table.add_column("components", overflow="fold")
    for row in sorted(found.operators, key=lambda row: -row.joules / found.joules[row.phase])[:top]:
        parts = sorted(((name, value) for name, value in row.energy_j.items() if value), key=lambda part: -part[1])
        text = ", ".join(f"{escape(name)} {format_si(value, 'J')}" for name, value in parts)
        share = f"{100 * row.joules / found.joules[row.phase]:.1f} %"
        table.add_row(row.phase, escape(row.name), format_si(row.seconds, "s"), format_si(row.joules, "J"), share, text)
    return table
