"""The roll-up of `archsim cost` as terminal tables. Sees nothing but plain attributes."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_cost(found: Any, console: Console) -> None:
    """Bill by unit, lifetime cost by cause, per hour, per million tokens, carbon, assumptions."""
    console.print(f"[bold]{escape(found.system)}[/] under {escape(found.scenario)}")
    console.print(_bill(found))
    console.print(_life(found))
    console.print(
        f"  ${found.usd_per_hour:,.2f} per hour of use; provisioned {found.provisioned_w:,.0f} W, mean draw "
        f"{found.average_w:,.0f} W"
    )
    made = found.efficiency
    if made is not None:
        console.print(f"  {escape(found.workload)}: {made.tokens_per_s:,.4g} tokens/s")
        console.print(
            f"  [bold]${made.usd_per_million_tokens:,.4g} per million tokens[/], {made.tokens_per_usd:,.4g} tokens per "
            f"dollar, {made.tokens_per_j:.4g} tokens per joule, {1000 * made.tokens_per_s_per_capex_usd:.4g} tokens/s "
            "per $1000 of machine"
        )
    console.print(
        f"  carbon: {found.embodied_kgco2e:,.0f} kg CO2e to make, {found.operational_kgco2e_per_year:,.0f} kg a year "
        "to run"
    )
    console.print("  assumptions: " + ", ".join(f"{key} {_short(value)}" for key, value in found.assumptions.items()))


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _bill(found: Any) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("unit", "machine")
    table.add_column("part")
    table.add_column("USD", f"{found.capex_usd:,.0f}", justify="right")
    table.add_column("how", overflow="fold")
    for unit in found.units:
        for line in unit.lines:
            table.add_row(escape(unit.unit), escape(line.part), f"{line.usd:,.0f}", escape(line.how))
        if not unit.lines:
            table.add_row(escape(unit.unit), "", "0", "no bill")
    return table


def _life(found: Any) -> Table:
    total = sum(found.lifetime_usd.values())
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column(f"over {found.life_years:.3g} years", "lifetime cost")
    table.add_column("USD", f"{total:,.0f}", justify="right")
    table.add_column("share", justify="right")
    for part, usd in found.lifetime_usd.items():
        table.add_row(part.replace("_", " "), f"{usd:,.0f}", f"{100 * usd / total:.1f} %" if total else "")
    return table
