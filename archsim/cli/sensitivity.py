"""`archsim sensitivity`."""

from __future__ import annotations

import click

from archsim.cli.options import Output, output_options, override_option, progress
from archsim.cli.request import request_options, split_overrides


@click.command()
@click.argument("system")
@click.argument("workload")
@request_options
@click.option("--range", "span", type=float, default=0.1, show_default=True, help="Change of each parameter, a share.")
@click.option("--parameter", "patterns", multiple=True, metavar="NAME", help="Only these, e.g. 'units.gpu.*'.")
@click.option(
    "--sobol", "samples", type=int, default=0, metavar="N", help="Also Sobol indices from N samples (64 ...)."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the Sobol points.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Lines shown (--json has all).")
@override_option
@output_options("json")
def sensitivity(
    system: str,
    workload: str,
    batch: int | None,
    input_len: int,
    output_len: int,
    span: float,
    patterns: tuple[str, ...],
    samples: int,
    seed: int,
    top: int,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Which hardware or cost parameter of SYSTEM moves TPOT, J/token and $/Mtoken of WORKLOAD most.

    Every number of the description that matters is changed alone, up and down. With --sobol the most effective ones
    vary together, which shows what they do jointly.
    """
    from archsim.config import load_model, load_system
    from archsim.explore.sensitivity import sensitivity as run
    from archsim.report.sensitivity import print_sensitivity

    of_system, of_workload = split_overrides(overrides)
    machine, model = load_system(system, of_system), load_model(workload, of_workload)
    with progress("varying parameters", 1.0) as advance:
        found = run(
            machine, model, batch, input_len, output_len,
            span=span, patterns=patterns, sobol_samples=samples, seed=seed, advance=advance,
        )  # fmt: skip
    output.emit(found, lambda console: print_sensitivity(found, console, top))
