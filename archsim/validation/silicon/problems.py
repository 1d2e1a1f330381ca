"""What is fitted to what: for each operator class its data, its shared and its own constants."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.compute.gpu import Attention, Gemm, GpuOperator, Moe, Vector, arrays
from archsim.compute.gpu.machine import Machine, machine_of
from archsim.compute.gpu.records import Records
from archsim.validation.silicon import constants as c
from archsim.validation.silicon import measured
from archsim.validation.silicon.fit import Block, Constant
from archsim.validation.silicon.predict import calibrated_gpu
from archsim.validation.silicon.rows import attention_of, device_of, gemm_of, moe_of

Section = tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """One measured operator; `model` tells which network it came from, where the table says."""

    device: str
    operator: GpuOperator
    seconds: float
    model: str = ""


@dataclass(frozen=True)
class Problem:
    """`section` of a gpu-kernels file fitted to `samples` of a data set.

    seeds   starting values beside those of the files, per constant
    weights devices that count less in the shared constants
    settled constants of a device that its rows cannot tell from others, kept as its generation's file has them
    tied    constants that are those of another section: what the two have in common is one thing
    """

    name: str
    data_set: str
    section: Section
    samples: Callable[[Path], list[Sample]]
    own: tuple[Constant, ...]
    shared: tuple[Constant, ...] = ()
    seeds: dict[str, float] | None = None
    weights: dict[str, float] | None = None
    tied: dict[str, Section] | None = None
    settled: dict[str, tuple[str, ...]] | None = None

    def blocks(self, folder: Path) -> list[Block]:
        """One block for each device, in the order of the table."""
        found = self.samples(folder)
        made = []
        for device in dict.fromkeys(sample.device for sample in found):
            block = block_of(device, self.data_set, [sample for sample in found if sample.device == device])
            for name, value in (self.seeds or {}).items():
                block.path[name] = value
            block.settled = (self.settled or {}).get(device, ())
            block.weight = (self.weights or {}).get(device, 1.0)
            made.append(block)
        return made


def block_of(device: str, data_set: str, samples: Sequence[Sample]) -> Block:
    """The rows of one device that share a kernel, with the constants of its record as they stand."""
    machine = machine_of(calibrated_gpu(device, data_set))
    operators = [sample.operator for sample in samples]
    path, rows, run = _records(machine, operators)
    block = Block(device, machine, path.copy(), rows, np.array([sample.seconds for sample in samples]), run)
    block.models = tuple(sample.model for sample in samples)
    return block


def _records(machine: Machine, operators: Sequence[Any]) -> tuple[Records, Records, Any]:
    first = operators[0]
    if isinstance(first, Gemm):
        path = machine.gemm(first.compute, arrays.weight_path(first))
        return path, arrays.gemm_rows_of(operators), arrays.run_gemm
    if isinstance(first, Attention) and arrays.is_decode(first):
        return machine.decode(first.compute), arrays.decode_rows_of(operators), arrays.run_decode
    if isinstance(first, Attention):
        prompt = machine.mixed if first.decodes > 0 else machine.prefill
        return prompt(first.compute), arrays.prefill_rows_of(operators), arrays.run_prefill
    if isinstance(first, Vector):
        return machine.vector(first.name), arrays.vector_rows_of(machine, operators), arrays.run_vector
    loads = [np.array(op.loads, dtype=np.float64) for op in operators]

    def run(machine: Machine, path: Records, rows: Records) -> Records:
        return arrays.run_moe(machine, path, rows, loads)

    return machine.moe(first.compute), arrays.moe_rows_of(operators), run


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _measurements(folder: Path, topic: str, name: str, own_name: str = "") -> list[dict[str, str]]:
    """A table of the reference data, or the one of the same columns that scripts/measure_gpu.py left in `folder`."""
    reference = folder / topic / name
    return _table(reference if reference.is_file() else folder / (own_name or name))


def _silicon(file: str, convert: Callable[[dict[str, str]], GpuOperator], keep: Callable[[Any], bool]) -> Any:
    def samples(folder: Path) -> list[Sample]:
        found = []
        for row in _measurements(folder, "gpu_silicon", file):
            operator = convert(row)
            if keep(operator):
                found.append(Sample(device_of(row["gpu"]), operator, float(row["latency_ms"]) * 1e-3))
        return found

    return samples


def _layers(keep: Callable[[GpuOperator], bool]) -> Callable[[Path], list[Sample]]:
    def samples(folder: Path) -> list[Sample]:
        found = []
        for row in _table(folder / "measured_llm" / "vidur_dense_ops.csv"):
            for column, operator in measured.layer_operators(row):
                text = row[f"{column}_median_ms"]
                if text and float(text) > 0 and keep(operator):
                    found.append(Sample(device_of(row["gpu"]), operator, float(text) * 1e-3, row["model"]))
        return found

    return samples


def _serving(keep: Callable[[Attention], bool]) -> Callable[[Path], list[Sample]]:
    def samples(folder: Path) -> list[Sample]:
        rows = _measurements(folder, "measured_llm", "llmservingsim_v1_attention.csv", "attention_mixed.csv")
        found = [(row, measured.serving_attention(row)) for row in rows]
        return [
            Sample(device_of(row["device"]), op, float(row["time_us"]) * 1e-6, row["model"])
            for row, op in found
            if keep(op)
        ]

    return samples


def _serving_layers(keep: Callable[[Any], bool]) -> Callable[[Path], list[Sample]]:
    def samples(folder: Path) -> list[Sample]:
        found = []
        for row in _table(folder / "measured_llm" / "llmservingsim_v1_dense.csv"):
            operator = measured.serving_layer(row)
            if operator is not None and keep(operator):
                found.append(Sample(device_of(row["device"]), operator, float(row["time_us"]) * 1e-6, row["model"]))
        return found

    return samples


def _compass(name: str) -> Callable[[Path], list[Sample]]:
    def samples(folder: Path) -> list[Sample]:
        found = []
        for row in _measurements(folder, "llmcompass", f"measured_{name}.csv", f"{name}.csv"):
            seconds = float(row["latency_ms"]) * 1e-3 if name == "matmul" else float(row["latency_us"]) * 1e-6
            found.append(Sample(device_of(row["device"]), measured.compass_operator(name, row), seconds))
        return found

    return samples


def _copies(folder: Path) -> list[Sample]:
    rows = [row for row in _table(folder / "copy.csv") if row["direction"] == "device-to-device"]
    return [Sample(device_of(r["gpu"]), measured.device_copy(r), float(r["latency_us"]) * 1e-6) for r in rows]


def _compute(dtype: str) -> Callable[[Any], bool]:
    return lambda op: isinstance(op, Gemm) and op.compute == dtype and not arrays.weight_path(op)


def _is_vector(name: str) -> Callable[[Any], bool]:
    return lambda op: isinstance(op, Vector) and op.name == name


def _is_decode(op: Any) -> bool:
    return isinstance(op, Attention) and arrays.is_decode(op)


def _is_prefill(op: Any) -> bool:
    return isinstance(op, Attention) and not arrays.is_decode(op)


def _is_prompt(op: Any) -> bool:
    return _is_prefill(op) and op.decodes == 0


def _is_mixed(op: Any) -> bool:
    return _is_prefill(op) and op.decodes > 0


def _warm_moe(op: Any) -> bool:
    return isinstance(op, Moe)


_NARROW_OWN = (*c.pick(c.GEMM_OWN, "launch_s", "tensor_share"), *c.EPILOGUE)
_SAME: dict[str, Section] = {"tail_hidden": ("gemm", "fp16"), "cold_s": ("gemm", "fp16"), "overlap": ("gemm", "fp16")}
_LIBRARY = c.pick(c.GEMM_SHARED, "tail_hidden")  # how persistent the library's kernels were
# Kernels of 2023-24 walk a row in one block, two blocks an SM; the rest of their cost is in the bandwidth share.
_VIDUR_VECTOR = {"slots_per_element": 0.0, "l2_gain": 1.3, "l2_reach": 1.2}
_HOST_VECTOR = {"l2_gain": 2.6, "l2_reach": 1.8}
_SERIAL_ROWS = {"norm": 0.95, "rope": 0.6, "activation": 0.92}

SILICON = (
    Problem("GEMM bf16", "gpu-silicon", ("gemm", "fp16"), _silicon("gemm.csv", gemm_of, _compute("bf16")),
            c.GEMM_OWN, c.GEMM_SHARED),
    Problem("GEMM fp8", "gpu-silicon", ("gemm", "fp8"), _silicon("gemm.csv", gemm_of, _compute("fp8")),
            _NARROW_OWN, (*c.QUANTISE, *c.pick(c.GEMM_SHARED, "tile_slope")), tied=_SAME,
            weights={"l40s": 0.2}),
    Problem("GEMM nvfp4", "gpu-silicon", ("gemm", "fp4"), _silicon("gemm.csv", gemm_of, _compute("fp4")),
            _NARROW_OWN,
            c.pick((*c.QUANTISE, *c.GEMM_SHARED), "quantise_s", "quantise_row_s", "quantise_l2_gain", "tile_slope"),
            tied=_SAME),
    Problem("attention, prefill", "gpu-silicon", ("prefill",),
            _silicon("attention_context.csv", attention_of, _is_prefill),
            c.in_clocks(c.PREFILL_OWN), c.PREFILL_SHARED, settled={"b200-sxm": ("tensor_share",)}),
    Problem("attention, decode", "gpu-silicon", ("decode",),
            _silicon("attention_generation.csv", attention_of, _is_decode),
            c.in_clocks(c.DECODE_OWN), c.DECODE_SHARED, tied={"kv_write_s": ("prefill",), "overlap": ("gemm", "fp16")}),
    Problem("MoE", "gpu-silicon", ("moe",), _silicon("moe.csv", moe_of, _warm_moe), c.MOE_OWN, c.MOE_SHARED),
)  # fmt: skip
VIDUR = (
    Problem("GEMM fp16", "vidur", ("gemm", "fp16"), _layers(_compute("fp16")),
            (*c.GEMM_TIMED, *c.EPILOGUE), _LIBRARY,
            seeds={"tail_hidden": 0.55, "epilogue_depth": 100.0, "multicast": 1}),  # kernels before clusters
    *(
        Problem(name, "vidur", ("vector", name), _layers(_is_vector(name)),
                c.vector_own("launch_s", "bandwidth_share", *(("row_s",) if name == "embedding" else ())),
                seeds={**_VIDUR_VECTOR, "row_clocks_per_element": _SERIAL_ROWS.get(name, 0.0)})
        for name in ("norm", "layernorm", "rope", "activation", "gelu", "add", "embedding")
    ),
)  # fmt: skip
SERVING = (
    Problem("GEMM bf16", "llmservingsim", ("gemm", "fp16"), _serving_layers(_compute("bf16")), c.GEMM_TIMED),
    *(
        Problem(name, "llmservingsim", ("vector", name), _serving_layers(_is_vector(name)),
                c.vector_own("launch_s", "bandwidth_share", *(("row_s",) if name == "embedding" else ())), c.L2_VECTOR,
                seeds={"slots_per_element": 0.0, "row_clocks_per_element": 0.0, "l2_gain": 2.5, "l2_reach": 1.2})
        for name in ("norm", "rope", "activation", "embedding")
    ),
    Problem("attention, prefill", "llmservingsim", ("prefill",), _serving(_is_prompt), c.PREFILL_OWN),
    Problem("attention, mixed", "llmservingsim", ("mixed",), _serving(_is_mixed),
            (*c.pick(c.PREFILL_OWN, "launch_s", "unit_s"), *c.MIXED_OWN),
            seeds={"bandwidth_share": 0.6, "overlap": 2.5}),
    Problem("attention, decode", "llmservingsim", ("decode",), _serving(_is_decode),
            c.pick(c.DECODE_OWN, "launch_s", "bandwidth_share", "l2_share")),
)  # fmt: skip
COMPASS = (
    Problem("GEMM fp16", "llmcompass", ("gemm", "fp16"), _compass("matmul"),
            (*c.GEMM_TIMED, Constant("tail_hidden", 0.0, 1.0, shared=False, floor=0.05)), seeds={"launch_s": 3e-5}),
    Problem("softmax", "llmcompass", ("vector", "softmax"), _compass("softmax"),
            c.vector_own("launch_s", "bandwidth_share", "slots_per_element", "row_clocks_per_element"),
            seeds={**_HOST_VECTOR, "launch_s": 2e-5}),
    Problem("layernorm", "llmcompass", ("vector", "layernorm"), _compass("layernorm"),
            c.vector_own("launch_s", "bandwidth_share", "slots_per_element"),
            seeds={**_HOST_VECTOR, "launch_s": 4e-5, "row_clocks_per_element": 0.0}),
    Problem("gelu", "llmcompass", ("vector", "gelu"), _compass("gelu"),
            c.vector_own("launch_s", "bandwidth_share", "slots_per_element"),
            seeds={**_HOST_VECTOR, "launch_s": 3e-5, "slots_per_element": 100.0, "bandwidth_share": 0.9}),
)  # fmt: skip
PROBLEMS = (*SILICON, *VIDUR, *SERVING, *COMPASS)
# what scripts/measure_gpu.py measures: GEMM, attention, experts; mixed launches; vector operators; copies
MEASURED = (
    *SILICON,
    *(p for p in SERVING if p.section == ("mixed",)),
    *(p for p in COMPASS if p.section[0] == "vector"),
    Problem("copy on the device", "gpu-silicon", ("vector", "copy"), _copies,
            (*c.vector_own("launch_s", "bandwidth_share"), *c.pick(c.L2_VECTOR, "l2_gain"))),
)  # fmt: skip


def errors_of(blocks: Iterable[Block]) -> NDArray[np.float64]:
    """Signed relative errors of all blocks together."""
    return np.concatenate([block.errors() for block in blocks])
