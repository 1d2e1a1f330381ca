"""`archsim capacity`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archsim.cli.machine import policy_options, split_overrides
from archsim.cli.options import Output, framework_option, output_options, override_option, progress
from archsim.cli.slo import criterion_options

if TYPE_CHECKING:
    from archsim.serving.capacity import Criterion


@click.command()
@click.argument("systems", nargs=-1, required=True, metavar="SYSTEM...")
@click.argument("workload")
@click.option("--requests", "trace_name", required=True, metavar="TRACE", help="Preset, YAML description or CSV file.")
@click.option("--policy", "policies", multiple=True, default=["vllm"], show_default=True, metavar="NAME",
              help="May be repeated.")  # fmt: skip
@click.option("--instances", type=click.IntRange(1, 10_000), default=1, show_default=True)
@click.option("--arrivals", type=click.Choice(["poisson", "recorded"]), default="poisson", show_default=True,
              help="recorded: the trace's own arrivals, stretched.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Streams to try.")
@click.option("--count", type=click.IntRange(1), default=2000, show_default=True, help="Requests of each stream.")
@click.option("--resolution", type=click.FloatRange(1e-4, 0.5), default=0.02, show_default=True)
@criterion_options
@framework_option
@override_option
@output_options("json")
def capacity(
    systems: tuple[str, ...],
    workload: str,
    trace_name: str,
    policies: tuple[str, ...],
    instances: int,
    arrivals: str,
    seeds: int,
    count: int,
    resolution: float,
    criterion: Criterion,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """The highest rate at which WORKLOAD on each SYSTEM meets a service level objective, with a 95 % interval.

    Every machine and policy is tried on the same requests; exit code 1 if none of them reaches any rate.
    """
    from archsim.config import load_model, load_system
    from archsim.report.capacity import print_capacities
    from archsim.serving.capacity import capacity as search
    from archsim.serving.run import Deployment
    from archsim.workload.requests import load_requests

    parts = split_overrides(overrides)
    model = load_model(workload, parts["workload"])
    trace = load_requests(trace_name, parts["requests"])
    options = policy_options(parts["policy"])
    pairs = [(load_system(system, parts["system"]), policy) for system in systems for policy in policies]
    found = []
    with progress("searching", len(pairs)) as advance:
        for machine, policy in pairs:
            one = search(
                machine, model, trace, policy, criterion, deployment=Deployment(instances=instances),
                seeds=range(seeds), requests=count, arrivals="recorded" if arrivals == "recorded" else "poisson",
                resolution=resolution, **options,
            )  # fmt: skip
            found.append(one)
            advance(len(found))
    output.emit(found, lambda console: print_capacities(found, criterion, console))
    if not any(one.rate_per_s for one in found):
        raise click.exceptions.Exit(1)
