"""`archsim memory neupims`: one decoder layer on a NeuPIMs device, stage by stage."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import Output, output_options, override_option

if TYPE_CHECKING:
    from rich.console import Console

    from archsim.execution.neupims import NeupimsLayerResult

SCHEMA = "archsim.neupims-layer/1"
ASSIGNMENTS = ("greedy", "round-robin")
MODES = ("dual", "single", "single-issue1", "npu-only")


@click.command()
@click.argument("model")
@click.option("--device", default="neupims", show_default=True, help="Preset of kind neupims or a path.")
@click.option("--batch", type=int, default=64, show_default=True, help="Requests, one new token each.")
@click.option("--kv-len", type=int, default=256, show_default=True, help="Tokens in every request's KV cache.")
@click.option("--kv-lens", metavar="N,N,...", help="KV length of every request instead.")
@click.option("--tensor-parallel", type=int, default=4, show_default=True, help="Devices that share a layer.")
@click.option("--sub-batches", type=click.Choice(("1", "2")), default="2", show_default=True, help="2: interleaved.")
@click.option("--mode", type=click.Choice(MODES), default="dual", show_default=True, help="Row buffers, or no PIM.")
@click.option(
    "--assignment", type=click.Choice(ASSIGNMENTS), default="greedy", show_default=True, help="Of requests to channels."
)
@override_option
@output_options("json")
def neupims(
    model: str, device: str, batch: int, kv_len: int, kv_lens: str | None, tensor_parallel: int, sub_batches: str,
    mode: Any, assignment: Any, overrides: tuple[str, ...], output: Output,
) -> None:  # fmt: skip
    """One decode iteration of a layer of MODEL on a NeuPIMs device: NPU and PIM on the same channels, stages A to F."""
    from archsim.config import load, load_model
    from archsim.execution.neupims import simulate_neupims_layer
    from archsim.execution.neupims.step import layer_shape

    described, config = load_model(model), load("neupims", device, overrides)
    lengths = lengths_of(kv_lens) if kv_lens else [kv_len] * batch
    found = simulate_neupims_layer(
        config, layer_shape(described, config, tensor_parallel), lengths, sub_batches == "2", mode,
        assignment=assignment,
    )  # fmt: skip
    document = {
        "schema": SCHEMA, "device": config.name, "model": described.name, "batch": len(lengths),
        "tensor_parallel": tensor_parallel, "mode": mode, "assignment": assignment, **asdict(found),
        "total_energy_j": found.energy_j, "model_cycles": found.model_cycles(described.layers),
        "model_s": found.model_seconds(described.layers),
    }  # fmt: skip
    output.emit(document, lambda console: show(console, document, found))


def lengths_of(text: str) -> list[int]:
    """KV lengths from a list with commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--kv-lens: found {text!r}, expected whole numbers with commas between them") from None


def show(console: Console, document: dict[str, Any], found: NeupimsLayerResult) -> None:
    """Stages with what ran in them, then the whole."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from archsim.report.terminal import seconds, shares
    from archsim.units import format_si

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, title=f"one layer of {document['model']}, {document['batch']} requests"
    )
    for name in ("stage", "cycles", "NPU", "PIM"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    table.add_column("operators and their cycles", overflow="fold")
    for stage in found.stages:
        ran = ", ".join(f"{name} {cycles}" for name, cycles in (*stage.npu_operators, *stage.pim_operators))
        table.add_row(stage.name, str(stage.cycles), str(stage.npu_cycles), str(stage.pim_cycles), ran)
    table.add_row(
        "all", str(found.cycles), "", "", f"{seconds(found.seconds)}; all layers {seconds(document['model_s'])}"
    )
    console.print(table)
    console.print(
        f"arrays busy {found.npu_utilisation:.1%}, PIM queues busy {found.pim_utilisation:.1%}, external bandwidth "
        f"{found.dram_bandwidth_share:.1%} of the peak, DRAM energy {format_si(found.energy_j, 'J')}", highlight=False,
    )  # fmt: skip
    console.print(shares(found.energy_by_component_j), highlight=False)
