"""`archsim capacity`."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import click

from archsim.cli.fleet import deployment_options, fleet_options, load_events, make_loading
from archsim.cli.machine import load_machine, policy_options, split_overrides
from archsim.cli.options import Output, framework_option, output_options, override_option, progress
from archsim.cli.slo import criterion_options

if TYPE_CHECKING:
    from archsim.serving.capacity import Criterion


@click.command()
@click.argument("systems", nargs=-1, required=True, metavar="SYSTEM...")
@click.argument("workload")
@click.option("--requests", "trace_name", required=True, metavar="TRACE", help="Preset, YAML, CSV or JSONL file.")
@click.option("--policy", "policies", multiple=True, default=["vllm"], show_default=True, metavar="NAME",
              help="May be repeated.")  # fmt: skip
@deployment_options
@click.option("--arrivals", type=click.Choice(["poisson", "recorded"]), default="poisson", show_default=True,
              help="recorded: the trace's own arrivals, stretched.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Streams to try.")
@click.option("--count", type=click.IntRange(1), default=2000, show_default=True, help="Requests of each stream.")
@click.option("--resolution", type=click.FloatRange(1e-4, 0.5), default=0.02, show_default=True)
@fleet_options
@criterion_options
@framework_option
@override_option
@output_options("json")
def capacity(
    systems: tuple[str, ...], workload: str, trace_name: str, policies: tuple[str, ...], instances: int, stages: int,
    router: str, decode_system: str | None, events: str | None, max_adapters: int | None, adapter_prefetch: int,
    host_link: str | None, storage_bandwidth: float | None, arrivals: str, seeds: int, count: int, resolution: float,
    criterion: Criterion, overrides: tuple[str, ...], output: Output,
) -> None:  # fmt: skip
    """The highest rate at which WORKLOAD on each SYSTEM meets a service level objective, with a 95 % interval.

    Every machine and policy is tried on the same requests; exit code 1 if none of them reaches any rate. Events keep
    their times at every rate.
    """
    from archsim.report.capacity import print_capacities
    from archsim.serving.capacity import capacity as search
    from archsim.serving.run import Deployment
    from archsim.workload.requests import load_requests

    parts = split_overrides(overrides)
    trace = load_requests(trace_name, parts["requests"])
    options = policy_options(parts["policy"])
    machines = [load_machine(system, workload, parts)[:2] for system in systems]
    decodes = None if decode_system is None else load_machine(decode_system, workload, parts)[0]
    found = []
    with progress("searching", len(machines) * len(policies)) as advance:
        for (machine, model), policy in product(machines, policies):
            loading = make_loading(machine, host_link, storage_bandwidth)
            changes = () if events is None else load_events(events, instances, model, loading)
            where = Deployment(instances, stages, router, 0, decodes, node_events=changes, loading=loading,
                               max_adapters=max_adapters, prefetch=adapter_prefetch)  # fmt: skip
            one = search(
                machine, model, trace, policy, criterion, deployment=where,
                seeds=range(seeds), requests=count, arrivals="recorded" if arrivals == "recorded" else "poisson",
                resolution=resolution, **options,
            )  # fmt: skip
            found.append(one)
            advance(len(found))
    output.emit(found, lambda console: print_capacities(found, criterion, console))
    if not any(one.rate_per_s for one in found):
        raise click.exceptions.Exit(1)
