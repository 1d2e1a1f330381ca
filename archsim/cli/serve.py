"""`archsim serve`."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli.machine import limits, load_machine, policy_options, requests_options, slo_options, split_overrides
from archsim.cli.options import Output, output_options, override_option, progress

EXIT_INTERRUPTED = 130


@click.command()
@click.argument("system")
@click.argument("workload")
@requests_options
@click.option("--instances", type=click.IntRange(1, 4096), default=1, show_default=True, help="Copies of SYSTEM.")
@click.option("--stages", type=click.IntRange(1, 64), default=1, show_default=True, help="Pipeline stages of each.")
@click.option("--router", default="round-robin", show_default=True, metavar="NAME",
              help="random, round-robin, least-outstanding or jsq-tokens.")  # fmt: skip
@click.option("--decode-system", metavar="SYSTEM", help="Machine of the decode instances of a disaggregated policy.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random router.")
@slo_options
@override_option
@output_options("json", "hdf5", "perfetto")
@click.pass_context
def serve(
    context: click.Context, system: str, workload: str, requests: str, rate: float | None, policy: str, instances: int,
    stages: int, router: str, decode_system: str | None, seed: int, slo_ttft: float | None, slo_tpot: float | None,
    overrides: tuple[str, ...], output: Output,
) -> None:  # fmt: skip
    """Serve a stream of requests with WORKLOAD on SYSTEM under a scheduling policy.

    SYSTEM is a machine, or an iteration-time description (`archsim list oracles`). TRACE has the columns arrival_s,
    prompt_tokens, output_tokens and optionally tenant_id. `--set policy.KEY=VALUE` sets an option of the policy;
    `--set requests.PATH=VALUE` overrides the description of the requests, `--set workload.PATH=VALUE` the workload, any
    other the system. Ctrl-C prints what was served so far.
    """
    from archsim.report.serving import print_serving, write_serving_hdf5, write_serving_perfetto
    from archsim.serving import Deployment
    from archsim.serving import serve as run
    from archsim.workload.requests import load_requests, scale_to_rate

    parts = split_overrides(overrides)
    machine, model, configuration = load_machine(system, workload, parts)
    decodes = None if decode_system is None else load_machine(decode_system, workload, parts)[0]
    trace = load_requests(requests, parts["requests"])
    trace = trace if rate is None else scale_to_rate(trace, rate)
    where = Deployment(instances, stages, router, seed, decodes)
    keep = output.hdf5 is not None or output.perfetto is not None
    with progress(f"{len(trace)} requests", 1.0) as advance:
        report = run(machine, model, trace, policy, deployment=where, slo=limits(slo_ttft, slo_tpot), timeline=keep,
                     progress=advance, **policy_options(parts["policy"]))  # fmt: skip
    configuration |= {
        "requests": {"name": requests, "rate": rate, "overrides": parts["requests"]},
        "policy": {"name": policy, **report.options},
    }

    def write(path: Path) -> None:
        write_serving_hdf5(path, report, configuration)

    output.emit(report, lambda console: print_serving(report, console), write_hdf5=write,
                write_perfetto=lambda path: write_serving_perfetto(path, report))  # fmt: skip
    if report.interrupted:
        context.exit(EXIT_INTERRUPTED)
