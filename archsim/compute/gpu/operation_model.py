"""Workload operations timed by the GPU kernel model: which kernel runs an operation, its time, traffic and energy."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import cast

from archsim.compute.gpu.energy import powered, work_of
from archsim.compute.gpu.machine import Machine, compute_name, machine_of
from archsim.compute.gpu.operators import BLOCK_SCALES, STORED_BITS, Attention, Gemm, GpuOperator, Moe, Operand, Vector
from archsim.compute.gpu.precision import serving_dtype, slots
from archsim.compute.gpu.result import KernelTime
from archsim.compute.gpu.time import gpu_operator_time
from archsim.compute.operation import Bound, Operation, OperationCost
from archsim.config import load
from archsim.config.schemas.conversion import Conversions
from archsim.config.schemas.gpu import Gpu
from archsim.config.schemas.gpu_library import VectorName
from archsim.errors import ConfigError

_CACHED_OPERATIONS = 1 << 16
_FIXED = ("launch", "fill")
PADDED_INTER = 128  # kernels for block formats and weight-only kernels pad an expert's width to their tile
_INTEGERS = {0.125: "int1", 0.25: "int2", 0.5: "int4", 1.0: "int8"}
_VECTORS: dict[str, VectorName] = {"softmax": "softmax", "norm": "norm", "add": "add", "gather": "embedding"}


def time_operation(gpu: Gpu, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `gpu`, launch included, power limit respected."""
    return _cost(machine_of(gpu), op)


@lru_cache(maxsize=_CACHED_OPERATIONS)
def _cost(machine: Machine, op: Operation) -> OperationCost:
    gpu, operator = machine.gpu, operator_of(machine, op)
    time = gpu_operator_time(gpu, operator)
    converted_j = _conversion_slots(operator, time) * conversions().slot_energy
    found = powered(gpu, work_of(gpu, operator, time), time.seconds, converted_j)
    fixed = sum(time.parts_s.get(name, 0.0) for name in _FIXED)
    bound: Bound = "compute" if found.seconds > time.seconds else cast(Bound, time.bound)
    return OperationCost(found.seconds, op.flop or time.flop, time.dram_bytes, bound, found.energy_j, fixed)


def _conversion_slots(operator: GpuOperator, time: KernelTime) -> float:
    """Lane slots spent on converting weights, every tile of rows anew."""
    if isinstance(operator, Gemm) and operator.b.slots:
        rows = max(1.0, -(-operator.m // time.choice["tile_m"]))
        return rows * operator.n * operator.k * operator.count * operator.b.slots
    if isinstance(operator, Moe) and operator.b.slots:
        tiles = sum(max(1.0, -(-load // time.choice["tile_m"])) for load in operator.loads if load > 0)
        return tiles * operator.matrices * operator.hidden * operator.inter * operator.b.slots
    return 0.0


@cache
def conversions() -> Conversions:
    """Conversion routines of weight-only kernels."""
    table: Conversions = load("conversion", "serving")
    return table


def operator_of(machine: Machine, op: Operation) -> GpuOperator:
    """The kernel that runs an operation. Raises ConfigError where the device has no unit for its dtypes."""
    if op.kind in ("gemm", "matmul"):
        return _gemm(machine, op)
    if op.kind == "attention":
        kv_heads = op.count // op.requests
        group = max(1, round(op.m / op.new_tokens))
        past = op.n - op.new_tokens
        if not op.causal:  # every token sees all: as many pairs as causal tokens after this many more
            past += (op.new_tokens - 1) / 2
        return Attention(
            op.requests, op.new_tokens, past, kv_heads * group, kv_heads, int(op.k),
            Operand(_float_name(machine, op.a_bytes)), Operand(_kv_name(op.b_bytes)), "fp16",
            op.decodes, op.decode_tokens,
        )  # fmt: skip
    if op.kind == "experts":
        a, b, c, compute = _operands(machine, op)
        matrices = 3 if op.inputs == 2 else 2
        inter = op.n if not b.slots and b.dtype not in BLOCK_SCALES else -(-op.n // PADDED_INTER) * PADDED_INTER
        return Moe(op.requests, op.k, inter, (float(op.m),) * op.count, matrices, a, b, c, compute)
    if op.function in ("rope", "sampling"):
        name: VectorName = cast(VectorName, op.function)
    elif op.kind == "activation":
        name = "activation" if op.inputs == 2 else "gelu"
    else:
        name = _VECTORS[op.kind]
    return Vector(name, op.m * op.count, op.n, op.a_bytes)


def _gemm(machine: Machine, op: Operation) -> Gemm:
    a, b, c, compute = _operands(machine, op)
    narrowed = bool(op.a_dtype) and a.dtype != op.a_dtype
    quantise = narrowed and (b.dtype in BLOCK_SCALES or b.group > 0)  # one static scale: by the kernel that wrote them
    return Gemm(op.m, op.n, op.k, op.count, a, b, c, compute, quantise=quantise)


def _operands(machine: Machine, op: Operation) -> tuple[Operand, Operand, Operand, str]:
    """Activations, weights and result of a product, and the dtype it is computed in."""
    if not op.b_dtype:
        compute, stored = _dtypes(machine, op.a_bytes, op.b_bytes)
        activation = _float_name(machine, op.a_bytes)
    else:
        stored, activation = op.b_dtype, op.a_dtype
        compute = compute_name(op.compute or serving_dtype(machine.gpu, stored, activation))
        if STORED_BITS[compute] < STORED_BITS[activation]:
            activation = compute  # quantised by the kernel that wrote them
    need = slots(conversions(), stored, compute, "register")
    own = Operand(stored).bytes
    scales = max(op.b_bytes - own, 0.0)  # of the weight groups
    b = Operand(stored, 1 if scales else 0, scales + own - STORED_BITS[stored] / 8.0, need)
    return Operand(activation), b, Operand(_result(op.c_bytes)), compute


def _dtypes(machine: Machine, a_bytes: float, b_bytes: float) -> tuple[str, str]:
    """(compute dtype, stored dtype of the weights) from the element sizes."""
    wide = max(a_bytes, b_bytes)
    if wide >= 4.0:
        return "fp32", "fp32"
    if wide >= 2.0:
        return "fp16", "fp16" if b_bytes >= 2.0 else _INTEGERS[b_bytes]
    if b_bytes == a_bytes == 1.0 and machine.computes("fp8"):
        return "fp8", "fp8"
    if b_bytes == a_bytes == 0.5 and machine.computes("fp4"):
        return "fp4", "fp4"
    for compute in ("int4", "int8") if wide <= 0.5 else ("int8",):
        if machine.computes(compute):
            return compute, _INTEGERS[b_bytes]
    if wide <= 1.0:
        return "fp16", _INTEGERS[b_bytes]
    raise ConfigError(f"gpu {machine.gpu.name} has no unit for elements of {wide:g} bytes", key="peak_flops")


def _float_name(machine: Machine, bytes_: float) -> str:
    if bytes_ >= 4.0:
        return "fp32"
    if bytes_ >= 2.0:
        return "fp16"
    return "fp8" if bytes_ >= 1.0 and machine.computes("fp8") else _INTEGERS[bytes_]


def _kv_name(bytes_: float) -> str:
    return {4.0: "fp32", 2.0: "fp16", 1.0: "int8", 0.5: "int4"}.get(bytes_, "fp16")


def _result(bytes_: float) -> str:
    return {4.0: "fp32", 2.0: "fp16", 1.0: "int8", 0.5: "int4"}.get(bytes_, "fp16")
