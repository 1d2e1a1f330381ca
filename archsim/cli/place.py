"""`archsim place`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archsim.cli.machine import split_overrides
from archsim.cli.options import Output, framework_option, output_options, override_option, progress
from archsim.cli.slo import criterion_options

if TYPE_CHECKING:
    from archsim.serving.capacity import Criterion


@click.command()
@click.argument("system")
@click.argument("workload")
@click.option("--requests", "trace_name", required=True, metavar="TRACE", help="Preset, YAML description or CSV file.")
@click.option("--against", "colocated", default="vllm", show_default=True, metavar="POLICY",
              help="Policy of instances that prefill and decode.")  # fmt: skip
@click.option("--most-tp", type=click.IntRange(1), metavar="N", help="Largest tensor-parallel degree (none: the node).")
@click.option("--most-pp", type=click.IntRange(1), default=4, show_default=True, help="Largest pipeline degree.")
@click.option("--count", type=click.IntRange(1), default=300, show_default=True, help="Requests of each run.")
@criterion_options
@framework_option
@override_option
@output_options("json")
def place(
    system: str,
    workload: str,
    trace_name: str,
    colocated: str,
    most_tp: int | None,
    most_pp: int,
    count: int,
    criterion: Criterion,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """How to share out the devices of SYSTEM between prefill and decode instances of WORKLOAD (DistServe).

    Tries every tensor and pipeline degree that fits the node and ranks them by the rate per device that meets the
    objective, beside instances that do both.
    """
    from archsim.config import load_model, load_system
    from archsim.report.capacity import print_placements
    from archsim.serving.placement import place as search
    from archsim.workload.requests import load_requests

    parts = split_overrides(overrides)
    machine, model = load_system(system, parts["system"]), load_model(workload, parts["workload"])
    trace = load_requests(trace_name, parts["requests"])
    with progress("searching", 1.0) as advance:
        found = search(
            machine, model, trace, criterion, colocated=colocated, most_tp=most_tp, most_pp=most_pp, requests=count,
            progress=advance,
        )  # fmt: skip
    output.emit(found, lambda console: print_placements(found, console))
