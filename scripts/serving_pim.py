"""Where attention in memory pays when requests are served: GPT-3 175B on a DGX A100 with and without AttAcc stacks.

Usage: python scripts/serving_pim.py [REQUESTS]     (default 1000)

Requests are drawn from the Azure conversation trace (first 400 requests, those that fit the model's 2048 tokens). Two
tables: what each machine takes at the same rate, and the highest rate at which 90 % of requests keep TTFT <= 3 s and
TPOT <= 60 ms, with the price of a million output tokens there, at contexts from a quarter of the trace up to 2048.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

import archsim
from archsim.serving import ServingReport, Slo, serve
from archsim.serving.capacity import Criterion, capacity
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace, make_trace

SYSTEMS = ("dgx-a100", "dgx-a100-attacc-bank")
RATES = (0.25, 0.5, 1.0, 1.5)
CONTEXTS = (0.25, 1.0, 4.0)
SLO = Slo(ttft_s=3.0, tpot_s=0.060)
MOST_TOKENS = 2048


def requests(count: int, stretch: float, seed: int = 0) -> Trace:
    """Poisson arrivals at 1/s; prompts `stretch` times as long as the trace's, as far as the model allows."""
    source = load_requests("azure-conv-sample")
    rng = np.random.default_rng(seed)
    fits = np.flatnonzero(source.prompt_tokens + source.output_tokens <= MOST_TOKENS)
    chosen = rng.choice(fits, count)
    output = source.output_tokens[chosen]
    prompt = np.clip(np.rint(source.prompt_tokens[chosen] * stretch), 1, MOST_TOKENS - output).astype(np.int64)
    return make_trace("azure", np.cumsum(rng.exponential(1.0, count)), prompt, output)


def at_rate(system: str, trace: Trace, rate: float) -> ServingReport:
    """The trace at `rate` requests/s, chunked prefills (Sarathi)."""
    faster = replace(trace, arrival_s=trace.arrival_s / rate)
    return serve(archsim.load_system(system), archsim.load_model("gpt3-175b"), faster, "sarathi", slo=SLO)


def main() -> None:
    """Print both tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    console = Console(width=150)
    trace = requests(count, 1.0)
    table = Table(title=f"{count} requests, mean context {_context(trace):.0f} tokens", title_justify="left")
    for name in ("requests/s", "machine", "TTFT p90", "TPOT p50", "in limits", "tokens/s", "J/token", "$ per Mtoken"):
        table.add_column(name, justify="right")
    for rate in RATES:
        for system in SYSTEMS:
            table.add_row(f"{rate:g}", system, *_cells(at_rate(system, trace, rate)))
    console.print(table)
    table = Table(title="highest rate within TTFT 3 s and TPOT 60 ms, 90 % of requests", title_justify="left")
    for name in ("mean context", "machine", "requests/s", "$ per Mtoken", "J/token", "rate gain", "saves"):
        table.add_column(name, justify="right")
    for stretch in CONTEXTS:
        _add_capacity(table, requests(count, stretch))
    console.print(table)


def _add_capacity(table: Table, trace: Trace) -> None:
    found = [
        capacity(
            archsim.load_system(system), archsim.load_model("gpt3-175b"), trace, "sarathi", Criterion(SLO),
            seeds=(0,), requests=len(trace),
        )
        for system in SYSTEMS
    ]  # fmt: skip
    base = found[0]
    for system, one in zip(SYSTEMS, found, strict=True):
        usd, joules = one.usd_per_million_output_tokens, one.j_per_output_token
        gain = f"{one.rate_per_s / base.rate_per_s:.2f} x" if base.rate_per_s else "-"
        of_base = base.usd_per_million_output_tokens
        saves = f"{1 - usd / of_base:.0%}" if usd is not None and of_base else "-"
        table.add_row(
            f"{_context(trace):.0f}", system, f"{one.rate_per_s:.2f}", "-" if usd is None else f"{usd:.2f}",
            "-" if joules is None else f"{joules:.2f}", gain, saves,
        )  # fmt: skip


def _context(trace: Trace) -> float:
    return float((trace.prompt_tokens + trace.output_tokens / 2).mean())


def _cells(report: ServingReport) -> list[str]:
    assert report.ttft_s is not None
    assert report.tpot_s is not None
    assert report.slo is not None
    usd, joules = report.cost.usd_per_million_output_tokens, report.energy
    return [
        f"{report.ttft_s.p90:.2f} s", f"{report.tpot_s.p50 * 1e3:.1f} ms", f"{report.slo.attainment:.0%}",
        f"{report.throughput.output_tokens_per_s:.0f}", "-" if joules is None else f"{joules.j_per_output_token:.2f}",
        "-" if usd is None else f"{usd:.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
