"""Results of `archsim area` as a terminal table. Sees nothing but plain attributes."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_area(found: Any, console: Console) -> None:
    """Every part of one device of every unit, and the sums over the machine."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("unit", "part", "kind"):
        table.add_column(name)
    table.add_column("mm2 of one", justify="right")
    table.add_column("how", overflow="fold")
    for unit in found.units:
        label = f"{unit.unit} x {unit.count}" if unit.count > 1 else unit.unit
        for part in unit.parts:
            table.add_row(escape(label), part.part, part.kind, f"{part.mm2:,.1f}", escape(part.how))
        modelled = [part.mm2 for part in unit.parts if part.kind == "modelled"]
        if modelled:
            table.add_row(escape(label), "all modelled parts", "modelled", f"{sum(modelled):,.1f}", "")
    console.print(f"[bold]{escape(found.system)}[/]")
    console.print(table)
    pim = f" (compute units {found.pim_mm2:,.0f} mm2)" if found.pim_mm2 else ""
    console.print(f"  logic dies {found.logic_mm2:,.0f} mm2, DRAM dies {found.dram_mm2:,.0f} mm2{pim}, whole machine")
