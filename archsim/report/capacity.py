"""Capacities and placements on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from archsim.report.notes import print_notes
from archsim.units import format_si

if TYPE_CHECKING:
    from archsim.serving.capacity import Capacity, Criterion
    from archsim.serving.placement import Degrees, Placement, PlacementReport

_SHOWN = 12


def print_capacities(found: Sequence[Capacity], criterion: Criterion, console: Console) -> None:
    """One row a machine and policy: rate, interval, price and energy at that rate."""
    console.print(f"highest rate with {_limits(criterion)}; {found[0].requests} requests a stream")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("system", "model", "policy"):
        table.add_column(name, no_wrap=True)
    for name in ("requests/s", "95 % interval", "$/Mtoken", "J/token", "runs"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        interval = "-" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
        dollars, joules = one.usd_per_million_output_tokens, one.j_per_output_token
        table.add_row(
            one.system, one.model, one.policy, f"{one.rate_per_s:.3f}", interval,
            "-" if dollars is None else f"{dollars:.3f}", "-" if joules is None else format_si(joules, "J"),
            str(len(one.trials)),
        )  # fmt: skip
    console.print(table)
    print_notes((note for one in found for note in one.notes), console)


def _limits(criterion: Criterion) -> str:
    slo = criterion.slo
    joint = [
        f"{name} <= {format_si(s, 's')}" for name, s in (("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s)) if s < math.inf
    ]
    parts = [f"{' and '.join(joint)} for {criterion.attainment:.0%} of the requests"] if joint else []
    if criterion.tbt_p99_s < math.inf:
        parts.append(f"P99 TBT <= {format_si(criterion.tbt_p99_s, 's')}")
    if criterion.median_delay_s < math.inf:
        parts.append(f"median scheduling delay <= {format_si(criterion.median_delay_s, 's')}")
    return ", ".join(parts)


def print_placements(found: PlacementReport, console: Console) -> None:
    """The best configurations, and the gain of the best disaggregated one."""
    console.print(f"{found.model} on {found.system}: {len(found.placements)} placements, {found.skipped} do not fit")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("policy", "prefill", "decode"):
        table.add_column(name, no_wrap=True)
    for name in ("devices", "requests/s", "per device"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in _best_of_each(found.placements):
        table.add_row(
            one.policy, _degrees(one.prefill), _degrees(one.decode) if one.decode else "same", str(one.devices),
            f"{one.rate_per_s:.3f}", f"{one.rate_per_device_per_s:.3f}",
        )  # fmt: skip
    console.print(table)
    if found.gain is not None:
        console.print(f"best apart over best together, rate per device: {found.gain:.2f}x")
    print_notes(found.notes, console)


def _best_of_each(placements: Sequence[Placement]) -> list[Placement]:
    """The best few, and the best of each kind whatever its rank."""
    shown = list(placements[:_SHOWN])
    for apart in (True, False):
        best = next((one for one in placements if (one.decode is not None) == apart), None)
        if best is not None and best not in shown:
            shown.append(best)
    return shown


def _degrees(one: Degrees) -> str:
    return f"tp {one.tp} pp {one.pp}"
