"""`archsim serve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli.fleet import deployment_options, fleet_options, load_events, make_loading
from archsim.cli.machine import (
    SECONDS,
    limits,
    load_machine,
    policy_options,
    requests_options,
    slo_options,
    split_overrides,
)
from archsim.cli.options import FILE, Output, framework_option, output_options, override_option, progress

if TYPE_CHECKING:
    from archsim.serving.results import TpotTokens

EXIT_INTERRUPTED = 130


@click.command()
@click.argument("system")
@click.argument("workload")
@requests_options
@deployment_options
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random router.")
@fleet_options
@slo_options
@click.option("--tpot-over", type=click.Choice(["further", "all"]), default="further", show_default=True,
              help="Tokens that TPOT divides by: O - 1, or all O as Vidur and DistServe's simulator do.")  # fmt: skip
@click.option("--csv", "csv", type=FILE, metavar="F", help="Write one line a request.")
@click.option("--series-csv", type=FILE, metavar="F", help="Write the time series: queue, cache, tokens/s, power.")
@click.option("--bin", "bin_s", type=SECONDS, metavar="S",
              help="Length of the bins of the time series, listed by --json then; default: up to 200.")  # fmt: skip
@framework_option
@override_option
@output_options("json", "hdf5", "perfetto")
@click.pass_context
def serve(
    context: click.Context, system: str, workload: str, requests: str, rate: float | None, policy: str, instances: int,
    stages: int, router: str, decode_system: str | None, seed: int, events: str | None, max_adapters: int | None,
    adapter_prefetch: int, host_link: str | None,
    storage_bandwidth: float | None, slo_ttft: float | None, slo_tpot: float | None, tpot_over: TpotTokens,
    csv: Path | None, series_csv: Path | None, bin_s: float | None, overrides: tuple[str, ...], output: Output,
) -> None:  # fmt: skip
    """Serve a stream of requests with WORKLOAD on SYSTEM under a scheduling policy.

    SYSTEM is a machine, or an iteration-time description (`archsim list oracles`). TRACE has the columns arrival_s,
    prompt_tokens, output_tokens and optionally tenant_id. `--set policy.KEY=VALUE` sets an option of the policy;
    `--set requests.PATH=VALUE` overrides the description of the requests, `--set workload.PATH=VALUE` the workload, any
    other the system. Ctrl-C prints what was served so far.
    """
    from archsim.report import serving_files
    from archsim.report.serving import print_serving
    from archsim.serving import Deployment
    from archsim.serving import serve as run
    from archsim.workload.requests import load_requests, scale_to_rate

    parts = split_overrides(overrides)
    machine, model, configuration = load_machine(system, workload, parts)
    decodes = None if decode_system is None else load_machine(decode_system, workload, parts)[0]
    trace = load_requests(requests, parts["requests"])
    trace = trace if rate is None else scale_to_rate(trace, rate)
    loading = make_loading(machine, host_link, storage_bandwidth)
    changes = () if events is None else load_events(events, instances, model, loading)
    where = Deployment(instances, stages, router, seed, decodes, node_events=changes, loading=loading,
                       max_adapters=max_adapters, prefetch=adapter_prefetch)  # fmt: skip
    keep = any(file is not None for file in (output.hdf5, output.perfetto, series_csv))
    with progress(f"{len(trace)} requests", 1.0) as advance:
        report = run(machine, model, trace, policy, deployment=where, slo=limits(slo_ttft, slo_tpot), timeline=keep,
                     units=True, bin_s=bin_s, tpot_over=tpot_over, progress=advance,
                     **policy_options(parts["policy"]))  # fmt: skip
    configuration |= {
        "requests": {"name": requests, "rate": rate, "overrides": parts["requests"]},
        "policy": {"name": policy, **report.options},
    }

    def write(path: Path) -> None:
        serving_files.write_serving_hdf5(path, report, configuration)

    if csv is not None:
        serving_files.write_requests_csv(csv, report)
    if series_csv is not None:
        serving_files.write_series_csv(series_csv, report)
    output.emit(report, lambda console: print_serving(report, console), write_hdf5=write,
                write_perfetto=lambda path: serving_files.write_serving_perfetto(path, report))  # fmt: skip
    if report.interrupted:
        context.exit(EXIT_INTERRUPTED)
