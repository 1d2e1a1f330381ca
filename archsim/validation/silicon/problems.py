"""What is fitted to what: for each operator class its data, its shared and its own constants."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.compute.gpu import Attention, Gemm, GpuOperator, Moe, Vector, arrays
from archsim.compute.gpu.machine import Machine, machine_of
from archsim.compute.gpu.records import Records
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
    """

    name: str
    data_set: str
    section: Section
    samples: Callable[[Path], list[Sample]]
    own: tuple[Constant, ...]
    shared: tuple[Constant, ...] = ()
    seeds: dict[str, float] | None = None
    weights: dict[str, float] | None = None

    def blocks(self, folder: Path) -> list[Block]:
        """One block for each device, in the order of the table."""
        found = self.samples(folder)
        made = []
        for device in dict.fromkeys(sample.device for sample in found):
            block = block_of(device, self.data_set, [sample for sample in found if sample.device == device])
            for name, value in (self.seeds or {}).items():
                block.path[name] = value
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


def _silicon(file: str, convert: Callable[[dict[str, str]], GpuOperator], keep: Callable[[Any], bool]) -> Any:
    def samples(folder: Path) -> list[Sample]:
        found = []
        for row in _table(folder / "gpu_silicon" / file):
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
        rows = _table(folder / "measured_llm" / "llmservingsim_v1_attention.csv")
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
        for row in _table(folder / "llmcompass" / f"measured_{name}.csv"):
            seconds = float(row["latency_ms"]) * 1e-3 if name == "matmul" else float(row["latency_us"]) * 1e-6
            found.append(Sample(device_of(row["device"]), measured.compass_operator(name, row), seconds))
        return found

    return samples


def _all_of(*parts: Callable[[Path], list[Sample]]) -> Callable[[Path], list[Sample]]:
    return lambda folder: [sample for part in parts for sample in part(folder)]


def constants(table: dict[str, tuple[float, float, float]], shared: bool) -> tuple[Constant, ...]:
    """Constants from `name: (low, high, floor)`."""
    return tuple(Constant(name, low, high, shared, floor) for name, (low, high, floor) in table.items())


GEMM_OWN = constants(
    {
        "launch_s": (1e-7, 1e-4, 1e-8), "tensor_share": (0.3, 1.0, 0.01), "bandwidth_share": (0.2, 1.0, 0.01),
        "l2_share": (0.02, 1.0, 0.01), "store_bytes_per_clock": (2.0, 200.0, 1.0),
    },
    shared=False,
)  # fmt: skip
GEMM_SHARED = constants(
    {
        "tail_hidden": (0.0, 1.0, 0.05), "tile_slope": (0.02, 0.95, 0.01), "operand_bytes_per_clock": (20, 300, 1),
        "split_s": (2e-7, 8e-6, 1e-8), "split_depth": (16, 1024, 1), "fill_s": (5e-8, 4e-6, 1e-8),
        "cold_s": (5e-8, 3e-6, 1e-8), "overlap": (1.5, 32, 1), "round_s": (1e-8, 3e-6, 1e-8),
    },
    shared=True,
)  # fmt: skip
QUANTISE = constants(
    {
        "quantise_s": (1e-7, 2e-5, 1e-8), "quantise_row_s": (1e-8, 5e-6, 1e-9),
        "quantise_bandwidth_share": (0.1, 1, 0.01), "quantise_l2_gain": (0.05, 1, 0.01),
    },
    shared=True,
)  # fmt: skip
PREFILL_OWN = constants(
    {
        "launch_s": (1e-7, 3e-5, 1e-8), "tensor_share": (0.2, 1, 0.01), "serial": (0, 1, 0.05),
        "unit_s": (1e-7, 1e-5, 1e-8),
    },
    shared=False,
)  # fmt: skip
PREFILL_SHARED = constants(
    {
        "tail": (0, 2, 0.05), "spread": (0, 1, 0.05), "tail_hidden": (0, 1, 0.05), "score_slots": (0.5, 40, 0.1),
        "combine_s": (2e-7, 2e-5, 1e-8), "kv_write_s": (1e-8, 2e-6, 1e-9), "kv_write_share": (0.1, 1, 0.01),
        "l2_gain": (0.02, 1, 0.01), "l2_share": (0.05, 1, 0.01), "overlap": (1.5, 32, 1),
        "bandwidth_share": (0.5, 0.95, 0.01),
    },
    shared=True,
)  # fmt: skip
DECODE_OWN = constants(
    {
        "launch_s": (1e-7, 3e-5, 1e-8), "bandwidth_share": (0.2, 1, 0.01), "l2_share": (0.02, 1, 0.01),
        "stream_bytes_per_clock": (4, 400, 1), "prologue_s": (1e-7, 1e-5, 1e-8),
    },
    shared=False,
)  # fmt: skip
DECODE_KERNEL = constants({"second_s": (0, 2e-5, 0.0), "regroup_s": (0, 2e-5, 0.0)}, shared=False)
DECODE_SHARED = constants(
    {
        "combine_part_s": (1e-9, 1e-6, 1e-10), "query_row_s": (1e-9, 1e-6, 1e-10), "round_penalty": (1, 4, 1),
        "combine_s": (1e-7, 1e-5, 1e-8), "tensor_share": (0.05, 1, 0.01), "l2_bytes_per_clock": (8, 100, 1),
        "cold_s": (1e-7, 1e-5, 1e-8), "kv_write_s": (1e-8, 5e-6, 1e-9), "overlap": (1.5, 32, 1),
    },
    shared=True,
)  # fmt: skip
MOE_OWN = constants(
    {
        "launch_s": (1e-7, 1e-4, 1e-8), "tensor_share": (0.1, 1, 0.01), "round_s": (1e-8, 1e-5, 1e-9),
        "row_s": (1e-8, 5e-6, 1e-9), "unaligned_loads": (1, 12, 1),
    },
    shared=False,
)  # fmt: skip
MOE_SHARED = constants(
    {
        "l2_share": (0.05, 1, 0.01), "operand_bytes_per_clock": (10, 300, 1), "full_rows": (16, 256, 1),
        "overlap": (1.5, 32, 1), "permute_inter": (0, 12, 0.2),
    },
    shared=True,
)  # fmt: skip


def pick(table: Iterable[Constant], *names: str) -> tuple[Constant, ...]:
    """The constants of these names."""
    return tuple(constant for constant in table if constant.name in names)


def vector_own(*names: str) -> tuple[Constant, ...]:
    """A vector kernel's own constants."""
    bounds = {
        "launch_s": (1e-7, 1e-4, 1e-8), "bandwidth_share": (0.05, 1, 0.01), "slots_per_element": (0, 400, 4),
        "row_clocks_per_element": (0, 10, 0.05), "row_s": (1e-8, 5e-6, 1e-9),
    }  # fmt: skip
    return constants({name: bounds[name] for name in names}, shared=False)


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


NARROW_OWN = pick(GEMM_OWN, "launch_s", "tensor_share", "store_bytes_per_clock")
NARROW_SHARED = (*QUANTISE, *pick(GEMM_SHARED, "tile_slope", "operand_bytes_per_clock", "overlap", "round_s"))
_MIXED_OWN = constants(
    {"overlap": (1.5, 32, 1), "bandwidth_share": (0.2, 1, 0.01), "empty_unit_s": (1e-8, 3e-6, 1e-9)}, shared=False
)
_GEMM3 = pick(GEMM_OWN, "launch_s", "tensor_share", "bandwidth_share")
_LIBRARY = pick(GEMM_SHARED, "tail_hidden")  # how persistent the library's kernels were
# Kernels of 2023-24 walk a row in one block, two blocks an SM; the rest of their cost is in the bandwidth share.
_VIDUR_VECTOR = {"slots_per_element": 0.0, "l2_gain": 1.3, "l2_reach": 1.2}
_HOST_VECTOR = {"l2_gain": 2.6, "l2_reach": 1.8}
_L2_VECTOR = constants({"l2_gain": (1, 8, 1), "l2_reach": (0.2, 3, 0.1)}, shared=True)
_SERIAL_ROWS = {"norm": 0.95, "rope": 0.6, "activation": 0.92}

SILICON = (
    Problem("GEMM bf16", "gpu-silicon", ("gemm", "fp16"), _silicon("gemm.csv", gemm_of, _compute("bf16")),
            GEMM_OWN, GEMM_SHARED),
    Problem("GEMM fp8", "gpu-silicon", ("gemm", "fp8"), _silicon("gemm.csv", gemm_of, _compute("fp8")),
            NARROW_OWN, NARROW_SHARED, weights={"l40s": 0.2}),
    Problem("GEMM nvfp4", "gpu-silicon", ("gemm", "fp4"), _silicon("gemm.csv", gemm_of, _compute("fp4")),
            NARROW_OWN, NARROW_SHARED),
    Problem("attention, prefill", "gpu-silicon", ("prefill",),
            _silicon("attention_context.csv", attention_of, _is_prefill), PREFILL_OWN, PREFILL_SHARED),
    Problem("attention, decode", "gpu-silicon", ("decode",),
            _silicon("attention_generation.csv", attention_of, _is_decode), (*DECODE_OWN, *DECODE_KERNEL),
            DECODE_SHARED),
    Problem("MoE", "gpu-silicon", ("moe",), _silicon("moe.csv", moe_of, _warm_moe), MOE_OWN, MOE_SHARED),
)  # fmt: skip
VIDUR = (
    Problem("GEMM fp16", "vidur", ("gemm", "fp16"), _layers(_compute("fp16")),
            (*_GEMM3, *pick(GEMM_OWN, "store_bytes_per_clock")), _LIBRARY,
            seeds={"tail_hidden": 0.55, "store_bytes_per_clock": 20.0}),
    *(
        Problem(name, "vidur", ("vector", name), _layers(_is_vector(name)),
                vector_own("launch_s", "bandwidth_share", *(("row_s",) if name == "embedding" else ())),
                seeds={**_VIDUR_VECTOR, "row_clocks_per_element": _SERIAL_ROWS.get(name, 0.0)})
        for name in ("norm", "layernorm", "rope", "activation", "gelu", "add", "embedding")
    ),
)  # fmt: skip
SERVING = (
    Problem("GEMM bf16", "llmservingsim", ("gemm", "fp16"), _serving_layers(_compute("bf16")), _GEMM3),
    *(
        Problem(name, "llmservingsim", ("vector", name), _serving_layers(_is_vector(name)),
                vector_own("launch_s", "bandwidth_share", *(("row_s",) if name == "embedding" else ())), _L2_VECTOR,
                seeds={"slots_per_element": 0.0, "row_clocks_per_element": 0.0, "l2_gain": 2.5, "l2_reach": 1.2})
        for name in ("norm", "rope", "activation", "embedding")
    ),
    Problem("attention, prefill", "llmservingsim", ("prefill",), _serving(_is_prompt), PREFILL_OWN),
    Problem("attention, mixed", "llmservingsim", ("mixed",), _serving(_is_mixed),
            (*pick(PREFILL_OWN, "launch_s", "unit_s"), *_MIXED_OWN),
            seeds={"bandwidth_share": 0.6, "overlap": 2.5}),
    Problem("attention, decode", "llmservingsim", ("decode",), _serving(_is_decode),
            (*pick(DECODE_OWN, "launch_s", "bandwidth_share", "l2_share"), *DECODE_KERNEL)),
)  # fmt: skip
COMPASS = (
    Problem("GEMM fp16", "llmcompass", ("gemm", "fp16"), _compass("matmul"),
            (*_GEMM3, Constant("tail_hidden", 0.0, 1.0, shared=False, floor=0.05)), seeds={"launch_s": 3e-5}),
    Problem("softmax", "llmcompass", ("vector", "softmax"), _compass("softmax"),
            vector_own("launch_s", "bandwidth_share", "slots_per_element", "row_clocks_per_element"),
            seeds={**_HOST_VECTOR, "launch_s": 2e-5}),
    Problem("layernorm", "llmcompass", ("vector", "layernorm"), _compass("layernorm"),
            vector_own("launch_s", "bandwidth_share", "slots_per_element"),
            seeds={**_HOST_VECTOR, "launch_s": 4e-5, "row_clocks_per_element": 0.0}),
    Problem("gelu", "llmcompass", ("vector", "gelu"), _compass("gelu"),
            vector_own("launch_s", "bandwidth_share", "slots_per_element"),
            seeds={**_HOST_VECTOR, "launch_s": 3e-5, "slots_per_element": 100.0, "bandwidth_share": 0.9}),
)  # fmt: skip
PROBLEMS = (*SILICON, *VIDUR, *SERVING, *COMPASS)


def with_own(problem: Problem, own: tuple[Constant, ...]) -> Problem:
    """The same problem with other own constants and the shared ones as they are."""
    return replace(problem, own=own, shared=())


def errors_of(blocks: Iterable[Block]) -> NDArray[np.float64]:
    """Signed relative errors of all blocks together."""
    return np.concatenate([block.errors() for block in blocks])
