"""Several reports of one workload side by side, with ratios against one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.report.terminal import seconds
from archsim.results import Report
from archsim.units import format_si

COMPARE_SCHEMA = "archsim.compare/1"


@dataclass(frozen=True)
class Entry:
    """One machine of a comparison: its report, or the reason why it cannot run the workload."""

    system: str
    report: Report | None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Machines on one workload; `baseline` is an index into `entries`."""

    workload: str
    entries: tuple[Entry, ...]
    baseline: int

    def ratios(self, entry: Entry) -> dict[str, float] | None:
        """This machine relative to the baseline; None unless both could run. Above 1 means more of the quantity."""
        base = self.entries[self.baseline].report
        if entry.report is None or base is None:
            return None
        ours, theirs = metrics(entry.report), metrics(base)
        return {name: ours[name] / theirs[name] for name in ours if theirs[name]}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        systems = [
            {
                "system": entry.system,
                "reason": entry.reason,
                "metrics": metrics(entry.report) if entry.report else None,
                "ratios": self.ratios(entry),
                "report": entry.report.to_dict() if entry.report else None,
            }
            for entry in self.entries
        ]
        baseline = self.entries[self.baseline].system
        return {"schema": COMPARE_SCHEMA, "workload": self.workload, "baseline": baseline, "systems": systems}


def metrics(report: Report) -> dict[str, float]:
    """The quantities that are compared."""
    return {
        "batch": report.request.batch,
        "prefill_s": report.latency.prefill_s,
        "tpot_s": report.latency.tpot_s,
        "decode_tokens_per_s": report.throughput.decode_tokens_per_s,
        "requests_per_s": report.throughput.requests_per_s,
        "j_per_token": report.energy.j_per_token,
        "decode_step_j": report.energy.decode_step_j,
        "usd_per_million_tokens": report.cost.usd_per_million_tokens,
        "capex_usd": report.cost.capex_usd,
    }


_SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "batch": ("batch", lambda value: f"{value:.0f}"),
    "prefill_s": ("prefill", seconds),
    "tpot_s": ("TPOT", seconds),
    "decode_tokens_per_s": ("tokens/s", lambda value: f"{value:,.1f}"),
    "j_per_token": ("J/token", lambda value: format_si(value, "J")),
    "usd_per_million_tokens": ("$/Mtoken", lambda value: f"{value:,.4g}"),
    "capex_usd": ("machine $", lambda value: f"{value:,.0f}"),
}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """One row a machine: each quantity and, below it, its ratio to the baseline."""
    base = comparison.entries[comparison.baseline].system
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title=f"{escape(comparison.workload)}; ratios against {escape(base)}"
    )
    table.add_column("system", no_wrap=True)
    for title, _ in _SHOWN.values():
        table.add_column(title, justify="right")
    for entry in comparison.entries:
        if entry.report is None:
            table.add_row(escape(entry.system), *["-"] * len(_SHOWN), end_section=True)
            continue
        values = metrics(entry.report)
        table.add_row(escape(entry.system), *(form(values[key]) for key, (_, form) in _SHOWN.items()))
        ratios = comparison.ratios(entry) or {}
        cells = (f"x{ratios[key]:.3g}" if key in ratios else "-" for key in _SHOWN)
        table.add_row("", *cells, style="dim", end_section=True)
    console.print(table)
    for note in dict.fromkeys(note for entry in comparison.entries if entry.report for note in entry.report.notes):
        console.print(f"note: {escape(note)}", highlight=False)


def infeasible_lines(entries: Sequence[Entry]) -> list[str]:
    """One line for every machine that cannot run the workload."""
    return [entry.reason for entry in entries if entry.report is None]
