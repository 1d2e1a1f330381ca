"""Time of one GPU operator, with its parts and its bound."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from archsim.compute.gpu import arrays
from archsim.compute.gpu.machine import Machine, machine_of
from archsim.compute.gpu.operators import Attention, Gemm, GpuOperator, Moe, Vector
from archsim.compute.gpu.result import KernelBound, KernelTime
from archsim.config.schemas.gpu import Gpu

_CACHED_OPERATORS = 1 << 16
_BOUNDS: dict[str, KernelBound] = {
    "tensor_s": "compute", "operand_s": "operand", "conversion_s": "conversion", "l2_s": "operand",
    "memory_s": "memory", "exponent_s": "exponent", "stream_s": "operand", "vector_s": "compute", "row_s": "compute",
}  # fmt: skip
_FIXED = ("launch_s", "fill_s", "quantise_s", "kv_write_s", "permute_s")
_CHOICE = ("tile_m", "tile_n", "split_k", "waves", "units", "split", "rounds")


def gpu_operator_time(gpu: Gpu, operator: GpuOperator) -> KernelTime:
    """Seconds, parts and bound of `operator` on one `gpu` whose timing model is `kernels`.

    Raises ConfigError if the description lacks a rate or kernel that the operator needs.
    """
    return _timed(machine_of(gpu), operator)


@lru_cache(maxsize=_CACHED_OPERATORS)
def _timed(machine: Machine, operator: GpuOperator) -> KernelTime:
    if isinstance(operator, Gemm):
        return _kernel_time(machine, arrays.gemm_answers(machine, [operator])[0], _gemm_flop(operator))
    if isinstance(operator, Attention):
        return _kernel_time(machine, arrays.attention_answers(machine, [operator])[0], attention_flop(operator))
    if isinstance(operator, Moe):
        flop = 2.0 * sum(operator.loads) * operator.hidden * operator.inter * operator.matrices
        return _kernel_time(machine, arrays.moe_answers(machine, [operator])[0], flop)
    return _kernel_time(machine, arrays.vector_answers(machine, [operator])[0], _vector_flop(operator))


def _gemm_flop(op: Gemm) -> float:
    return 2.0 * op.m * op.n * op.k * op.count


def attention_flop(op: Attention) -> float:
    """Multiply-adds of scores and context, counted as two, under the causal mask."""
    pairs = op.batch * op.new_tokens * (op.past_tokens + (op.new_tokens + 1.0) / 2.0) + op.decodes * op.decode_tokens
    return 4.0 * pairs * op.heads * op.head_dim


def _vector_flop(op: Vector) -> float:
    per_element = {"softmax": 5.0, "activation": 9.0, "gelu": 8.0, "add": 1.0, "rope": 3.0, "embedding": 0.0,
                   "copy": 0.0}  # fmt: skip
    return per_element.get(op.name, 5.0) * op.rows * op.width


def _kernel_time(machine: Machine, answer: Any, flop: float) -> KernelTime:
    names = answer.dtype.names or ()
    limits = {name.removesuffix("_s"): float(answer[name]) for name in names if name in _BOUNDS}
    fixed = {name.removesuffix("_s"): float(answer[name]) for name in names if name in _FIXED}
    seconds = float(answer["seconds"])
    longest = max(limits, key=lambda name: limits[name])
    bound: KernelBound = _BOUNDS[f"{longest}_s"]
    busy = limits[longest]
    if sum(fixed.values()) > seconds / 2.0:
        bound = "launch"
    parts = {**fixed, "busy": busy, "exposed": seconds - busy - sum(fixed.values())}
    choice = {name: float(answer[name]) for name in names if name in _CHOICE}
    return KernelTime(
        seconds, bound, parts, limits, flop, float(answer["dram_bytes"]), choice, machine.calibrated, machine.note
    )


def gpu_operator_seconds(gpu: Gpu, operators: list[GpuOperator]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(operators,) seconds of many operators; those of one class and precision are timed together."""
    return arrays.seconds(machine_of(gpu), operators)
