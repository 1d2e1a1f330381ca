"""A serving run as tables for a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.report.notes import print_notes
from archsim.serving.results import Distribution, Fairness, ServingReport, UnitUse
from archsim.units import format_si

TENANTS_NAMED = 6
_LATENCIES = {
    "ttft_s": "time to first token",
    "tpot_s": "time per output token",
    "tbt_s": "time between tokens",
    "latency_s": "request latency",
    "normalised_latency_s": "latency per output token",
    "scheduling_delay_s": "scheduling delay",
}


def print_serving(report: ServingReport, console: Console) -> None:
    """Print throughput, latencies, cache use and cost of one run."""
    counts = report.counts
    console.print(
        f"[bold]{escape(report.model or 'a model')}[/] on [bold]{escape(report.system)}[/]: "
        f"{counts.requests} requests of {escape(report.trace)} under {escape(report.policy)}"
    )
    console.print(_latency_table(report))
    console.print(_totals(report))
    print_notes(report.notes, console)


def _latency_table(report: ServingReport) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("latency", no_wrap=True)
    for name in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, label in _LATENCIES.items():
        found: Distribution | None = getattr(report, name)
        if found is not None:
            numbers = (found.mean, found.p50, found.p90, found.p99, found.max)
            label += ", over all tokens" if name == "tpot_s" and report.tpot_over == "all" else ""
            table.add_row(label, *(format_si(value, "s") for value in numbers))
    return table


def _totals(report: ServingReport) -> Table:
    counts, rates, cache, cost = report.counts, report.throughput, report.kv_cache, report.cost
    rows = [
        ("served", f"{counts.completed} of {counts.requests} requests", f"{counts.rejected} rejected: too long to fit"),
        ("throughput", f"{rates.output_tokens_per_s:,.4g} tokens/s", f"{rates.requests_per_s:,.4g} requests/s"),
        ("time", format_si(report.duration_s, "s"), f"busy {report.busy_fraction:.1%}, {counts.iterations} iterations"),
        ("KV cache", f"{cache.capacity_tokens:,} tokens",
         f"mean {cache.mean_fraction:.1%}, peak {cache.peak_fraction:.1%}, {counts.preemptions} preemptions"),
    ]  # fmt: skip
    if cost.usd_per_million_output_tokens is not None:
        per_hour = f"$ {cost.usd_per_hour:,.4g} /hour"
        rows.append(("cost", f"$ {cost.usd_per_million_output_tokens:,.4g} per million output tokens", per_hour))
    if report.first_rejected is not None:
        rows.append(("rejected", f"{counts.rejected} requests, first", escape(report.first_rejected)))
    rows += _further(report)
    table = Table(box=None, pad_edge=False, show_header=False)
    for style in ("bold", "", "dim"):
        table.add_column(style=style, no_wrap=style != "dim")
    for row in rows:
        table.add_row(*row)
    return table


def _shares(fair: Fairness) -> str:
    """Share of the service of the tenants that got most, by name."""
    most = sorted(zip(fair.service, fair.tenants, strict=True), key=lambda pair: -pair[0])
    total = max(sum(fair.service), 1e-300)
    named = ", ".join(f"{escape(name)} {service / total:.1%}" for service, name in most[:TENANTS_NAMED])
    return named if len(most) <= TENANTS_NAMED else f"{named}, {len(most) - TENANTS_NAMED} more"


def _unit_row(use: UnitUse, *, several: bool) -> tuple[str, str, str]:
    """Busy share of a unit by what its iterations held; its machine is named where there are `several`."""
    name = f"{use.machine} {use.unit}" if several else use.unit
    parts = {"prompts": use.prompts_fraction, "both": use.mixed_fraction, "decodes": use.decodes_fraction}
    why = ", ".join(f"{label} {share:.1%}" for label, share in parts.items() if share)
    rest = f"waits {use.waiting_fraction:.1%}, idle {use.idle_fraction:.1%}"
    return "unit", f"{escape(name)} busy {use.busy_fraction:.1%}", f"{why}; {rest}"


def _further(report: ServingReport) -> list[tuple[str, str, str]]:
    """Energy, limits, fairness and instances, where there is something to say."""
    rows = []
    if report.energy is not None:
        each = f"{format_si(report.energy.j_per_output_token, 'J')} per output token"
        rows.append(("energy", each, f"{format_si(report.energy.joules, 'J')} in all iterations"))
    rows += [_unit_row(unit, several=len({use.machine for use in report.units}) > 1) for unit in report.units]
    if report.adapters is not None:
        lora = report.adapters
        loads = f"{lora.loads} loads, {lora.evictions} evictions, at most {lora.most_resident} on an instance"
        waited = f"waited {format_si(lora.stall_s, 's')} for them, {lora.stall_fraction:.1%} of the busy time"
        rows.append(("adapters", f"{lora.adapters}, hit rate {lora.hit_rate:.1%}", f"{loads}; {waited}"))
    if report.slo is not None:
        slo = report.slo
        single = f"first token {slo.ttft_attainment:.1%}, per token {slo.tpot_attainment:.1%}"
        rows.append(("limits", f"{slo.attainment:.1%} of requests keep them", single))
    if report.fairness is not None:
        fair = report.fairness
        apart = f"service differs by {fair.difference_max:,.0f} at most in {fair.window_s:g} s"
        rows.append(("fairness", f"Jain index {fair.jain_index:.3f}", apart))
        rows.append(("service", f"{len(fair.service)} tenants", _shares(fair)))
    if len(report.instances) > 1:
        for index, use in enumerate(report.instances):
            share = f"busy {use.busy_fraction:.1%}, mean decode batch {use.mean_decode_batch:.3g}"
            there = "" if use.up_fraction > 0.9999 else f", there {use.up_fraction:.1%}"
            lost = f", lost {use.displaced} requests" if use.displaced else ""
            rows.append((f"instance {index}", use.role, f"{share}, KV peak {use.peak_kv_fraction:.1%}{there}{lost}"))
    if report.counts.displaced:
        rows.append(
            ("displaced", f"{report.counts.displaced} requests", "lost their instance and started again elsewhere")
        )
    if report.counts.unserved and not report.interrupted:
        rows.append(("unserved", f"{report.counts.unserved} requests", "no instance was left to serve them"))
    if report.interrupted:
        rows.append(("interrupted", "results so far", "requests still in service are not in the latencies"))
    return rows
