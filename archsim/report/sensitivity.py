"""Results of `archsim sensitivity` as terminal tables. Sees nothing but plain attributes."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.report.notes import print_notes
from archsim.units import format_si

_HEADS = {"tpot_s": "TPOT", "j_per_token": "J/token", "usd_per_million_tokens": "$/Mtoken"}


def print_sensitivity(found: Any, console: Console, top: int) -> None:
    """The largest effects, then the Sobol indices if there are any."""
    base = found.baseline
    console.print(
        f"[bold]{escape(found.model)}[/] on [bold]{escape(found.system)}[/], batch {found.batch}, "
        f"{found.input_len} in, {found.output_len} out: TPOT {format_si(base['tpot_s'], 's')}, "
        f"{base['j_per_token']:.4g} J/token, ${base['usd_per_million_tokens']:.4g}/Mtoken"
    )
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title=f"percent per percent, +-{100 * found.range:g} %", title_justify="left"
    )
    table.add_column("parameter")
    table.add_column("value", justify="right")
    for head in _HEADS.values():
        table.add_column(head, justify="right")
    for effect in found.effects[:top]:
        slopes = [f"{effect.elasticity.get(name, 0.0):+.3f}" for name in _HEADS]
        side = "" if effect.low < 1 < effect.high else " (one side)"
        table.add_row(escape(effect.parameter) + side, f"{effect.value:.4g}", *slopes)
    console.print(table)
    rest = len(found.effects) - top
    if rest > 0:
        console.print(f"  ... {rest} smaller ones (--top), {len(found.without_effect)} without effect")
    if found.sobol:
        console.print(_sobol(found))
    console.print(f"  {found.evaluations} evaluations")
    print_notes(found.notes, console)


def _sobol(found: Any) -> Table:
    title = f"Sobol indices, {found.sobol_samples} samples: share of the variance alone / with all others"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("parameter")
    for head in _HEADS.values():
        table.add_column(head, justify="right")
    ordered = sorted(found.sobol, key=lambda index: -max(index.total.values()))
    for index in ordered:
        table.add_row(
            escape(index.parameter), *(f"{index.first[name]:.3f} / {index.total[name]:.3f}" for name in _HEADS)
        )
    return table
