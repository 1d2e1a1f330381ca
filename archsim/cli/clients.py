"""`archsim clients`."""

from __future__ import annotations

import click

from archsim.cli.options import Output, framework_option, output_options, override_option
from archsim.cli.request import split_overrides

COUNT = click.IntRange(1, 4096)
TOKENS = click.IntRange(2, 1_000_000)


@click.command()
@click.argument("system")
@click.argument("workload")
@click.option("--clients", multiple=True, type=COUNT, default=[1, 4, 16, 64], show_default=True, metavar="N",
              help="Clients at a time; may be repeated.")  # fmt: skip
@click.option("--input-len", type=TOKENS, default=1024, show_default=True, help="Longest prompt, tokens.")
@click.option("--output-len", type=TOKENS, default=1024, show_default=True, help="Longest answer, tokens.")
@click.option("--shortest", type=click.FloatRange(0.0, 1.0, min_open=True), default=0.8, show_default=True,
              help="Shortest prompt and answer as a share of the longest.")  # fmt: skip
@click.option("--per-client", type=click.IntRange(1, 1000), default=10, show_default=True, help="Requests of each.")
@click.option("--max-running", type=COUNT, metavar="N", help="Requests that run together at most; none: all.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the lengths.")
@framework_option
@override_option
@output_options("json")
def clients(
    system: str,
    workload: str,
    clients: tuple[int, ...],
    input_len: int,
    output_len: int,
    shortest: float,
    per_client: int,
    max_running: int | None,
    seed: int,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """TTFT, TPOT and throughput that a constant number of clients get from WORKLOAD on SYSTEM.

    Each client sends its next request when its last one has ended, all start at once: what `vllm bench serve
    --max-concurrency N --random-range-ratio` measures. `--set workload.PATH=VALUE` overrides the workload, any other
    the system.
    """
    from archsim.config import load_model, load_system
    from archsim.report.clients import print_clients
    from archsim.serving.clients import serve_clients

    of_system, of_workload = split_overrides(overrides)
    machine, model = load_system(system, of_system), load_model(workload, of_workload)
    report = serve_clients(
        machine, model, clients, input_len, output_len, shortest=shortest, requests_per_client=per_client,
        most_running=max_running, seed=seed,
    )  # fmt: skip
    output.emit(report, lambda console: print_clients(report, console))
