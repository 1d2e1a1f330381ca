"""`archsim plan`."""

from __future__ import annotations

import click

from archsim.cli.options import Output, output_options, override_option
from archsim.cli.request import split_overrides

_TOKENS = click.IntRange(1, 10_000_000)


@click.command()
@click.argument("system")
@click.argument("workload")
@click.option("--phase", type=click.Choice(["prefill", "decode"]), default="decode", show_default=True)
@click.option(
    "--batch", type=_TOKENS, default=16, show_default=True, help="Requests of the pass, all replicas together."
)
@click.option(
    "--input-len", type=_TOKENS, default=2048, show_default=True, help="Prompt tokens; of a decode step: context."
)
@click.option(
    "--constraint", "constraints", multiple=True, metavar="TEXT",
    help="What the plan must satisfy, e.g. 'tp<=8', 'pp=4', 'ffn_up=columns', '*!=co-shard', 'cut=48', "
    "'layers 0-47 = devices 0-31'; may be repeated.",
)  # fmt: skip
@click.option(
    "--pareto", type=click.IntRange(0, 100), default=0, metavar="N", help="Also N plans of less and less memory."
)
@click.option(
    "--check", is_flag=True, help="Solve each stage's layer by mixed-integer programming too; exit 1 if it differs."
)
@override_option
@output_options("json")
def plan(
    system: str,
    workload: str,
    phase: str,
    batch: int,
    input_len: int,
    constraints: tuple[str, ...],
    pareto: int,
    check: bool,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """The fastest parallel plan of one pass of WORKLOAD: replicas, stages, micro-batches, the split of every operator.

    SYSTEM is one machine or a cluster of them. Memory counts weights, the KV cache of the whole batch and the largest
    operator's tensors.
    """
    from archsim.config import load_model, load_system
    from archsim.execution.plan_search import plan_request, search_plan
    from archsim.report.plan import print_plan

    of_system, of_workload = split_overrides(overrides)
    machine, model = load_system(system, of_system), load_model(workload, of_workload)
    work = plan_request(machine, model, phase, batch, input_len, constraints)
    found = search_plan(work, pareto=pareto, check=check)
    output.emit(found, lambda console: print_plan(found, console))
    if found.checked_by_milp is False:
        raise click.exceptions.Exit(1)
