"""`archsim cost`."""

from __future__ import annotations

import click

from archsim.cli.options import Output, output_options, override_option
from archsim.cli.request import request_options, split_overrides


@click.command()
@click.argument("system")
@click.argument("workload", required=False)
@request_options
@click.option(
    "--scenario",
    metavar="ECONOMICS",
    help="Prices of silicon, memory, money, power and carbon: a preset (`archsim list economics`) or a file.",
)
@override_option
@output_options("json")
def cost(
    system: str,
    workload: str | None,
    batch: int | None,
    input_len: int,
    output_len: int,
    scenario: str | None,
    overrides: tuple[str, ...],
    output: Output,
) -> None:  # fmt: skip
    """What SYSTEM costs to make, buy and run, line by line; with WORKLOAD also per million tokens.

    Without WORKLOAD the machine draws its provisioned power. `--set economics.PATH=VALUE` overrides the scenario.
    """
    from archsim.config import load, load_model, load_system
    from archsim.cost.evaluation import evaluate
    from archsim.cost.explain import explain_cost
    from archsim.report.cost import print_cost

    of_system, of_workload = split_overrides(overrides)
    of_scenario = [text for text in of_system if text.startswith("economics.")]
    of_system = [text for text in of_system if text not in of_scenario]
    if scenario is None:
        of_system += [f"cost.{text}" for text in of_scenario]
    machine = load_system(system, of_system)
    if scenario is not None:
        economics = load("economics", scenario, [text.removeprefix("economics.") for text in of_scenario])
        machine = machine.model_copy(update={"cost": machine.cost.model_copy(update={"economics": economics})})
    report = None
    if workload is not None:
        model = load_model(workload, of_workload)
        report = evaluate(machine, model, batch=batch, input_len=input_len, output_len=output_len)
    found = explain_cost(machine, report)
    output.emit(found, lambda console: print_cost(found, console))
