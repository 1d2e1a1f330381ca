"""Published claims beside ours, as a table."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.results import Claim, Replication


def print_replication(found: Replication, console: Console) -> None:
    """Print every claim: published, ours, their ratio, the source."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=escape(found.paper))
    for name, justify in (("claim", "left"), ("published", "right"), ("ours", "right"), ("ours/published", "right")):
        table.add_column(name, justify="left" if justify == "left" else "right")
    table.add_column("source", overflow="fold")
    for claim in found.claims:
        note = f" ({claim.note})" if claim.note else ""
        ratio = f"{claim.ours / claim.published:.2f}" if claim.ours is not None and claim.published else "-"
        label = escape(f"{claim.name}: {claim.setup}{note}")
        table.add_row(label, _number(claim.published, claim), _number(claim.ours, claim), ratio, escape(claim.source))
    console.print(table)
    console.print(f"configuration: {escape(found.configuration)}", highlight=False)


def _number(value: float | None, claim: Claim) -> str:
    return "-" if value is None else f"{value:.2f} {claim.unit}"
