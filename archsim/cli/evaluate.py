"""`archsim evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli.options import Output, framework_option, output_options, override_option
from archsim.cli.request import load_onnx_workload, request_options, split_overrides

if TYPE_CHECKING:
    from archsim.results import Report


@click.command()
@click.argument("system")
@click.argument("workload")
@request_options
@click.option("--exact", is_flag=True, help="Simulate every KV length instead of sampling them.")
@framework_option
@override_option
@output_options()
def evaluate(
    system: str,
    workload: str,
    batch: int | None,
    input_len: int,
    output_len: int,
    exact: bool,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Latency, energy and cost of WORKLOAD on SYSTEM.

    Both are the name of a preset (`archsim list systems`, `archsim list models`) or the path of a YAML file; WORKLOAD
    may also be a Hugging Face config.json, or an ONNX file: then one pass of it is evaluated, the options of the
    request do not apply, and `--set workload.DIMENSION=SIZE` gives a free dimension its size. For the others
    `--set workload.PATH=VALUE` overrides the workload; any other `--set` the system.
    """
    from archsim.config import load_model, load_system
    from archsim.cost.evaluation import evaluate as run
    from archsim.cost.evaluation import evaluate_onnx

    of_system, of_workload = split_overrides(overrides)
    if workload.lower().endswith(".onnx"):
        graph = load_onnx_workload(workload, of_workload, ("batch", "input_len", "output_len", "exact"))
        emit_report(evaluate_onnx(load_system(system, of_system), graph), output)
        return
    machine, model = load_system(system, of_system), load_model(workload, of_workload)
    report = run(machine, model, batch=batch, input_len=input_len, output_len=output_len, exact=exact)
    emit_report(report, output)


def emit_report(report: Report, output: Output) -> None:
    """Files, then the report as tables or JSON."""
    from archsim.report.terminal import print_report

    output.emit(
        report,
        lambda console: print_report(report, console),
        write_hdf5=lambda path: _hdf5(path, report),
        write_perfetto=lambda path: _perfetto(path, report),
    )


def _hdf5(path: Path, report: Report) -> None:
    from archsim.report.hdf5 import write_hdf5

    write_hdf5(path, report)


def _perfetto(path: Path, report: Report) -> None:
    from archsim.errors import UsageError
    from archsim.report.perfetto import write_perfetto

    if report.timeline is None:
        raise UsageError("this result has no timeline to write")
    write_perfetto(path, report.timeline)
