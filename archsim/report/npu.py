"""NPU products and layers as documents and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from archsim.compute.npu.energy import area, energy_rates
from archsim.compute.npu.operators import Solution, energy_j
from archsim.compute.npu.product import Engine, Product
from archsim.execution.npu.layer import LayerResult
from archsim.report.hdf5 import new_file, write_columns, write_summary, write_timeline
from archsim.report.terminal import seconds, shares
from archsim.results import Timeline
from archsim.units import format_bytes, format_si

PRODUCT_SCHEMA, LAYER_SCHEMA = "archsim.npu-gemm/1", "archsim.npu-layer/1"
TRAFFIC = {"a": "first operand", "b": "second operand", "c": "result", "sums": "partial sums"}


def product_document(engine: Engine, found: Product) -> dict[str, Any]:
    """Everything about a product, JSON-ready."""
    op, npu = found.op, engine.npu
    cycle_s = 1.0 / npu.clock
    energy = energy_j(engine, found)
    rates = {name: rate for name, rate in vars(energy_rates(npu)).items() if rate is not None}
    return {
        "schema": PRODUCT_SCHEMA, "npu": npu.name, "mode": "physical",
        "shape": {"m": op.m, "n": op.n, "k": op.k, "count": op.count},
        "element_bytes": {"a": op.a_bytes, "b": op.b_bytes, "c": op.c_bytes},
        "mapping": {
            "dataflow": found.dataflow, "tile": dict(zip("mnk", found.tile, strict=True)),
            "tiles": dict(zip("mnk", found.counts, strict=True)), "loop_order": found.order,
            "cores": dict(zip(("m", "n", "products"), found.split, strict=True)),
        },
        "seconds": found.seconds, "cycles": found.seconds / cycle_s, "bound": found.bound,
        "utilisation": found.utilisation,
        "busy_s": {"array": found.array_ps / 1e12, "memory": found.memory_ps / 1e12, "vector": found.vector_ps / 1e12},
        "stall_s": found.stall_ps / 1e12, "flop": 2.0 * found.macs,
        "traffic_bytes": found.traffic, "off_chip_bytes": found.bytes,
        "bandwidth_bytes_per_s": found.bytes / found.seconds,
        "energy_j": energy, "total_energy_j": sum(energy.values()),
        "energy_sources": {name: {"estimated": rate.estimated, "source": rate.source} for name, rate in rates.items()},
        "search": {"bounded": found.bounded, "timed": found.timed},
        "not_modelled": list(npu.not_modelled),
    }  # fmt: skip


def print_product(engine: Engine, found: Product, console: Console) -> None:
    """A product as a table."""
    op, npu = found.op, engine.npu
    console.print(f"[bold]{op.m:g} x {op.n:g} x {op.k:g}[/]{_times(op.count)} on [bold]{escape(npu.name)}[/]")
    energy = energy_j(engine, found)
    busy = {"array": found.array_ps, "memory": found.memory_ps, "vector": found.vector_ps}
    peak = 2.0 * found.macs / found.seconds
    rows = [
        ("time", seconds(found.seconds), f"{found.seconds * npu.clock:,.0f} cycles, bound by {found.bound}"),
        ("rate", format_si(peak, "FLOP/s"), f"{found.utilisation:.2%} of the cells' multiply-adds in this time"),
        ("busy", ", ".join(f"{name} {ps / found.ps:.1%}" for name, ps in busy.items() if ps), ""),
        ("stalls", seconds(found.stall_ps / 1e12), "arrays wait for tiles, fill, last store"),
        ("mapping", found.dataflow, f"loops {' '.join(found.order)}, outermost first"),
        ("tile", "x".join(map(str, found.tile)), f"m x n x k of one core; {'x'.join(map(str, found.counts))} tiles"),
        ("cores", "x".join(map(str, found.split)), "along m, n and the products"),
        ("off chip", format_bytes(found.bytes), _traffic(found)),
        ("bandwidth", format_si(found.bytes / found.seconds, "B/s"),
         f"{found.bytes / found.seconds / npu.memory_bandwidth:.1%} of peak"),
        ("energy", format_si(sum(energy.values()), "J"), shares(energy, 8)),
        ("search", f"{found.bounded:,} mappings", f"{found.timed:,} timed step by step, the others bounded"),
    ]  # fmt: skip
    console.print(_table(rows))


def _times(count: float) -> str:
    return f", {count:g} times" if count > 1 else ""


def _traffic(found: Product) -> str:
    return ", ".join(f"{TRAFFIC[name]} {format_bytes(size)}" for name, size in found.traffic.items() if size)


def _table(rows: list[tuple[str, str, str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False, pad_edge=False)
    for style in ("bold", "", "dim"):
        table.add_column(style=style, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def layer_document(result: LayerResult) -> dict[str, Any]:
    """A layer, JSON-ready; the timeline goes to HDF5 and Perfetto."""
    return {
        "schema": LAYER_SCHEMA, "npu": result.npu, "model": result.model, "phase": result.phase,
        "batch": result.batch, "new_tokens": result.new_tokens, "context_tokens": result.context_tokens,
        "seconds": result.seconds, "alone_s": result.alone_s, "busy_s": result.busy_s,
        "energy_j": result.energy_j, "total_energy_j": sum(result.energy_j.values()),
        "operators": [
            {
                "name": operator.name, "kind": operator.solution.op.kind, "seconds": operator.solution.seconds,
                "end_s": operator.end_s, "bound": operator.solution.bound, "bytes": operator.solution.bytes,
                "tiles": operator.solution.steps, "joules": sum(operator.energy_j.values()),
                "utilisation": getattr(operator.solution, "utilisation", None),
            }
            for operator in result.operators
        ],
    }  # fmt: skip


def print_layer(result: LayerResult, console: Console) -> None:
    """A layer as a table of its operations."""
    console.print(
        f"one layer of [bold]{escape(result.model)}[/] on [bold]{escape(result.npu)}[/]: {result.phase}, batch "
        f"{result.batch}, {result.new_tokens} new tokens, {result.context_tokens} in context"
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("operation", "alone", "ends at", "tiles", "array", "memory", "vector", "bytes", "energy", "bound"):
        table.add_column(name, justify="left" if name in ("operation", "bound") else "right", no_wrap=True)
    for operator in result.operators:
        found = operator.solution
        busy = (getattr(found, "array_ps", 0), found.memory_ps, found.vector_ps)
        table.add_row(
            escape(operator.name), seconds(found.seconds), seconds(operator.end_s), f"{found.steps:,}",
            *(f"{ps / found.ps:.1%}" if ps else "-" for ps in busy), format_si(found.bytes, "B"),
            format_si(sum(operator.energy_j.values()), "J"), found.bound,
        )  # fmt: skip
    console.print(table)
    busy_now = ", ".join(f"{unit} {busy / result.seconds:.1%}" for unit, busy in result.busy_s.items())
    console.print(
        f"program: {seconds(result.seconds)} ({seconds(result.alone_s)} one operation at a time); busy: {busy_now}; "
        f"{format_si(sum(result.energy_j.values()), 'J')}: {shares(result.energy_j, 8)}"
    )


def write_layer_hdf5(path: Path, result: LayerResult, configuration: dict[str, Any]) -> None:
    """/summary, /operators and /timeline (every tile)."""
    document = layer_document(result)
    operators = document.pop("operators")
    with new_file(path, LAYER_SCHEMA, configuration) as file:
        write_summary(file.create_group("summary"), document)
        columns = {
            "name": "", "kind": "", "seconds": "s", "end_s": "s", "bound": "", "bytes": "byte", "tiles": "1",
            "joules": "J",
        }  # fmt: skip
        table = {key: ([row[key] for row in operators], unit, key.replace("_", " ")) for key, unit in columns.items()}
        write_columns(file.create_group("operators"), table, "operator")
        write_timeline(file.create_group("timeline"), result.timeline)


def vector_document(engine: Engine, found: Solution) -> dict[str, Any]:
    """An operation of the vector unit, JSON-ready."""
    op, energy = found.op, energy_j(engine, found)
    return {
        "schema": "archsim.npu-vector/1", "npu": engine.npu.name, "operation": op.function,
        "shape": {"rows": op.m, "width": op.n, "inputs": op.inputs}, "seconds": found.seconds,
        "cycles": found.seconds * engine.npu.clock, "bound": found.bound, "chunks": found.steps,
        "busy_s": {"memory": found.memory_ps / 1e12, "vector": found.vector_ps / 1e12},
        "off_chip_bytes": found.bytes, "energy_j": energy, "total_energy_j": sum(energy.values()),
    }  # fmt: skip


def print_vector(engine: Engine, found: Solution, console: Console) -> None:
    """An operation of the vector unit as a table."""
    op, energy = found.op, energy_j(engine, found)
    console.print(f"[bold]{escape(op.function)}[/] of {op.m:g} x {op.n:g} on [bold]{escape(engine.npu.name)}[/]")
    busy = {"memory": found.memory_ps, "vector": found.vector_ps}
    rows = [
        ("time", seconds(found.seconds), f"{found.seconds * engine.npu.clock:,.0f} cycles, bound by {found.bound}"),
        ("busy", ", ".join(f"{name} {ps / found.ps:.1%}" for name, ps in busy.items()), f"{found.steps} chunks a core"),
        ("off chip", format_bytes(found.bytes), f"{format_si(found.bytes / found.seconds, 'B/s')}"),
        ("energy", format_si(sum(energy.values()), "J"), shares({k: v for k, v in energy.items() if v}, 8)),
    ]
    console.print(_table(rows))


def write_product_hdf5(path: Path, document: dict[str, Any], timeline: Timeline, configuration: dict[str, Any]) -> None:
    """/summary and /timeline (every tile)."""
    with new_file(path, PRODUCT_SCHEMA, {"npu": configuration}) as file:
        write_summary(file.create_group("summary"), document)
        write_timeline(file.create_group("timeline"), timeline)


def print_counts(title: str, values: dict[str, float], console: Console) -> None:
    """Named counts and shares, one a line."""
    console.print(escape(title))
    cells = {name: f"{value:,}" if isinstance(value, int) else f"{value:.6g}" for name, value in values.items()}
    console.print(_table([(name.replace("_", " "), cell, "") for name, cell in cells.items()]))


def area_document(engine: Engine) -> dict[str, Any]:
    """Energy rates and area estimates with their sources."""
    npu = engine.npu
    rates = vars(energy_rates(npu))
    found = area(npu)
    return {
        "schema": "archsim.npu-area/1", "npu": npu.name,
        "area_m2": {name: part.value for name, part in found.items()},
        "total_area_m2": sum(part.value for part in found.values()),
        "energy": {
            name: {"value": rate.value, "estimated": rate.estimated, "source": rate.source}
            for name, rate in rates.items()
            if rate is not None
        },
        "area_sources": {name: part.source for name, part in found.items()},
        "dram_j_per_byte": engine.path.joules_per_byte,
    }  # fmt: skip


def print_area(document: dict[str, Any], console: Console) -> None:
    """The estimates with where each comes from."""
    console.print(f"[bold]{escape(document['npu'])}[/]: energy and area of its parts")
    unit = {"mac": "J", "vector": "J", "leakage": "W"}
    rows = []
    for name, entry in document["energy"].items():
        source = ("estimate: " if entry["estimated"] else "") + entry["source"]
        rows.append((name, format_si(entry["value"], unit.get(name, "J/B")), source))
    rows += [
        (f"area of {name}", f"{value * 1e6:.4g} mm2", f"estimate: {document['area_sources'][name]}")
        for name, value in document["area_m2"].items()
    ]
    rows.append(("area", f"{document['total_area_m2'] * 1e6:.4g} mm2", "without control, clocking, PHYs and links"))
    console.print(_table(rows))
