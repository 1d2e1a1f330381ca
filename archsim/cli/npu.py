"""`archsim npu`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import Output, output_options, override_option

if TYPE_CHECKING:
    from archsim.config.schemas.npu import Npu

_MOST = 1 << 40
_SIZE = click.IntRange(1, _MOST)


@click.group()
def npu() -> None:
    """Products and layers on an NPU, tile by tile."""


@npu.command()
@click.argument("npu_name", metavar="NPU")
@click.option("--m", type=_SIZE, required=True, help="Rows of the first operand (tokens).")
@click.option("--n", type=_SIZE, required=True, help="Columns of the second operand (outputs).")
@click.option("--k", type=_SIZE, required=True, help="The reduction (inputs).")
@click.option("--count", type=_SIZE, default=1, show_default=True, help="Independent products.")
@click.option("--dtype", help="Of both operands and the result; default: the dtype whose rate is the arrays'.")
@click.option("--weight-dtype", help="Of the second operand; a narrower one is dequantised on the vector unit.")
@click.option("--dataflow", help="output-, weight-, input-stationary (os, ws, is) or free; default: the description's.")
@click.option("--tile", metavar="M,N,K", help="Keep a core's tile; 0 leaves a size free.")
@click.option("--loop-order", metavar="mnk", help="Keep the order of the tile loops, outermost first.")
@click.option("--objective", default="balanced", show_default=True, help="balanced, latency or traffic.")
@click.option(
    "--mode", type=click.Choice(("physical", "scalesim")), default="physical", show_default=True,
    help="physical: tiles, DMA and DRAM; scalesim: one array as SCALE-Sim v2 counts it.",
)  # fmt: skip
@click.option(
    "--bandwidth", type=click.IntRange(0), default=0, help="scalesim: words per cycle and port; 0: no stalls."
)
@override_option
@output_options()
def gemm(npu_name: str, overrides: tuple[str, ...], output: Output, **given: Any) -> None:
    """One (m, k) x (k, n) product on NPU: the best mapping, time, stalls, traffic and energy.

    NPU is a preset (`archsim list npus`) or the path of a YAML file.
    """
    from archsim.config import load

    device: Npu = load("npu", npu_name, overrides)
    if given["mode"] == "scalesim":
        _scalesim(device, given, output)
        return
    from archsim.execution.npu.layer import simulate_npu_product
    from archsim.execution.npu.program import product_timeline
    from archsim.report.npu import print_product, product_document, write_product_hdf5
    from archsim.report.perfetto import write_perfetto

    engine, found = simulate_npu_product(device, _operation(device, given), _freedom(given))
    document, configuration = product_document(engine, found), device.model_dump(mode="json")
    output.emit(
        document,
        lambda console: print_product(engine, found, console),
        write_hdf5=lambda path: write_product_hdf5(path, document, product_timeline(found), configuration),
        write_perfetto=lambda path: write_perfetto(path, product_timeline(found)),
    )  # fmt: skip


@npu.command()
@click.argument("npu_name", metavar="NPU")
@click.argument("model")
@click.option("--phase", type=click.Choice(("prefill", "decode")), default="prefill", show_default=True)
@click.option("--batch", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Requests.")
@click.option("--tokens", type=click.IntRange(1, 10_000_000), default=512, show_default=True,
              help="Prompt tokens (prefill) or tokens in context (decode).")  # fmt: skip
@override_option
@output_options()
def layer(
    npu_name: str, model: str, phase: Any, batch: int, tokens: int, overrides: tuple[str, ...], output: Output
) -> None:
    """One layer of MODEL on one NPU as a program of tiles: --perfetto shows loads, products and stores overlap.

    `--set workload.PATH=VALUE` overrides the model, others the NPU. MODEL may be an ONNX file: then one pass of it
    runs, --phase, --batch and --tokens do not apply, and `--set workload.DIMENSION=SIZE` sizes a free dimension.
    """
    from archsim.cli.request import load_onnx_workload, split_overrides
    from archsim.config import load, load_model
    from archsim.execution.npu.layer import simulate_npu_graph, simulate_npu_layer
    from archsim.report.npu import layer_document, print_layer, write_layer_hdf5
    from archsim.report.perfetto import write_perfetto

    of_npu, of_model = split_overrides(overrides)
    device: Npu = load("npu", npu_name, of_npu)
    configuration = {"npu": device.model_dump(mode="json"), "model": {"file": model}}
    if model.lower().endswith(".onnx"):
        result = simulate_npu_graph(device, load_onnx_workload(model, of_model, ("phase", "batch", "tokens")))
    else:
        network = load_model(model, of_model)
        new = tokens if phase == "prefill" else 1
        result = simulate_npu_layer(device, network, phase, batch, new, tokens)
        configuration["model"] = network.model_dump(mode="json")
    output.emit(
        layer_document(result),
        lambda console: print_layer(result, console),
        write_hdf5=lambda path: write_layer_hdf5(path, result, configuration),
        write_perfetto=lambda path: write_perfetto(path, result.timeline),
    )


@npu.command()
@click.argument("npu_name", metavar="NPU")
@click.argument("function", metavar="OPERATION")
@click.option("--rows", type=_SIZE, required=True, help="Rows of the tensor (tokens).")
@click.option("--width", type=_SIZE, required=True, help="Elements of a row.")
@click.option("--inputs", type=click.IntRange(1, 64), default=1, show_default=True, help="Tensors read.")
@click.option("--dtype", help="Of inputs and result; default: the dtype whose rate is the arrays'.")
@override_option
@output_options("json", "perfetto")
def vector(npu_name: str, function: str, overrides: tuple[str, ...], output: Output, **given: Any) -> None:
    """One operation of the vector unit, between two DMA transfers: time, what bounds it, energy.

    OPERATION is softmax, layernorm, rmsnorm, relu, gelu, silu, rope, residual, dequantise or copy; further inputs are
    added (a gate is multiplied) in.
    """
    from archsim.compute import Operation
    from archsim.compute.npu.vector import recipe
    from archsim.config import load
    from archsim.execution.npu.layer import simulate_npu_operation
    from archsim.execution.npu.program import product_timeline
    from archsim.report.npu import print_vector, vector_document
    from archsim.report.perfetto import write_perfetto

    device: Npu = load("npu", npu_name, overrides)
    recipe(function)
    size = _element_bytes(given["dtype"] or device.array_dtype)
    kind: Any = "softmax" if function == "softmax" else "norm" if function.endswith("norm") else "activation"
    op = Operation(
        kind, given["rows"], given["width"], inputs=given["inputs"], function=function, a_bytes=size, b_bytes=0.0,
        c_bytes=size,
    )  # fmt: skip
    engine, found = simulate_npu_operation(device, op)
    output.emit(
        vector_document(engine, found),
        lambda console: print_vector(engine, found, console),
        write_perfetto=lambda path: write_perfetto(path, product_timeline(found)),
    )


@npu.command("area")
@click.argument("npu_name", metavar="NPU")
@override_option
@output_options("json")
def area_(npu_name: str, overrides: tuple[str, ...], output: Output) -> None:
    """Energy per access and operation, and area of the parts of NPU, each with its source."""
    from archsim.config import load
    from archsim.execution.npu.memory import npu_engine
    from archsim.report.npu import area_document, print_area

    document = area_document(npu_engine(load("npu", npu_name, overrides)))
    output.emit(document, lambda console: print_area(document, console))


def _operation(device: Npu, given: dict[str, Any]) -> Any:
    from archsim.compute import Operation

    size = _element_bytes(given["dtype"] or device.array_dtype)
    weight = _element_bytes(given["weight_dtype"]) if given["weight_dtype"] else size
    return Operation(
        "matmul" if given["count"] > 1 else "gemm", given["m"], given["n"], given["k"], given["count"], a_bytes=size,
        b_bytes=weight, c_bytes=size,
    )  # fmt: skip


def _element_bytes(dtype: str) -> float:
    from archsim.config.schemas.model import DTYPE_BYTES, check_dtype
    from archsim.errors import UsageError

    try:
        return DTYPE_BYTES[check_dtype(dtype)]
    except ValueError as error:
        raise UsageError(str(error)) from None


def _dataflow(text: str | None) -> str | None:
    short = {"os": "output-stationary", "ws": "weight-stationary", "is": "input-stationary"}
    return short.get(text, text) if text is not None else None


def _freedom(given: dict[str, Any]) -> Any:
    from archsim.compute.npu.product import Freedom
    from archsim.errors import UsageError

    sizes = (given["tile"] or "0,0,0").replace("x", ",").split(",")
    if len(sizes) != 3 or not all(size.strip().isascii() and size.strip().isdigit() for size in sizes):
        raise UsageError(f"--tile: found {given['tile'][:40]!r}, expected three sizes such as 256,128,0")
    tile = (int(sizes[0]), int(sizes[1]), int(sizes[2]))
    return Freedom(_dataflow(given["dataflow"]), tile, given["loop_order"], given["objective"])


def _scalesim(device: Npu, given: dict[str, Any], output: Output) -> None:
    from dataclasses import asdict

    from archsim.compute.scalesim import simulate_gemms
    from archsim.errors import UsageError

    ignored = [name for name in ("tile", "loop_order", "dtype", "weight_dtype") if given[name]]
    ignored += ["count"] if given["count"] != 1 else []
    if ignored:
        raise UsageError(f"--{ignored[0].replace('_', '-')} belongs to --mode physical")
    if output.hdf5 or output.perfetto:
        raise UsageError("--hdf5 and --perfetto belong to --mode physical")
    chosen = _dataflow(given["dataflow"]) or device.array.dataflow
    if chosen == "free":
        raise UsageError(f"--mode scalesim needs --dataflow: {device.name} leaves it free")
    words = int(device.scratchpad.capacity) // 2
    report = simulate_gemms(
        given["m"], given["n"], given["k"], rows=device.array.rows, columns=device.array.columns, dataflow=chosen,
        ifmap_sram_words=words, filter_sram_words=words, ofmap_sram_words=int(device.accumulator.capacity),
        bandwidth_words_per_cycle=given["bandwidth"],
    )  # fmt: skip
    values = {name: value.item() for name, value in asdict(report).items()}
    document = {
        "schema": "archsim.npu-scalesim/1", "npu": device.name, "mode": "scalesim", "dataflow": chosen,
        "shape": {axis: given[axis] for axis in "mnk"}, **values,
    }  # fmt: skip

    def show(console: Any) -> None:
        from archsim.report.npu import print_counts

        title = (
            f"{given['m']} x {given['n']} x {given['k']} on one {device.array.rows} x {device.array.columns} array, "
        )
        print_counts(f"{title}{chosen}, as SCALE-Sim v2 counts it", values, console)

    output.emit(document, show)
