"""What clients get, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from archsim.report.notes import print_notes
from archsim.units import format_si

if TYPE_CHECKING:
    from rich.console import Console

    from archsim.serving.clients import ClientsReport


def print_clients(report: ClientsReport, console: Console) -> None:
    """One row a number of clients."""
    console.print(
        f"{report.model} on {report.system} under {report.framework}: requests of {report.input_len:,} + "
        f"{report.output_len:,} tokens, KV cache of {report.cache_tokens:,} tokens"
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("clients", "TTFT mean", "p50", "p99", "TPOT mean", "p99", "requests/s", "tokens/s", "cache full"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in report.points:
        ttft, tpot = point.ttft_s, point.tpot_s
        times = (format_si(value, "s") for value in (ttft.mean, ttft.p50, ttft.p99, tpot.mean, tpot.p99))
        table.add_row(
            str(point.clients), *times, f"{point.requests_per_s:.2f}", f"{point.output_tokens_per_s:,.0f}",
            f"{point.cache_full_share:.0%}",
        )  # fmt: skip
    console.print(table)
    print_notes(report.notes, console)
