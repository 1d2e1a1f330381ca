"""Many operators at once: descriptions to records, one kernel call per class and precision, answers in order.

`gemm_answers(machine, ...)` and its sisters take lists of descriptions; the functions named `*_shapes` take columns,
for callers that hold arrays (a sweep, a table of measurements).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from archsim.compute.gpu import records
from archsim.compute.gpu.attention_kernels import decode_rows, prefill_rows
from archsim.compute.gpu.gemm_kernels import gemm_rows
from archsim.compute.gpu.machine import Machine
from archsim.compute.gpu.moe_kernels import moe_rows
from archsim.compute.gpu.operators import Attention, Gemm, GpuOperator, Moe, Vector
from archsim.compute.gpu.records import Records
from archsim.compute.gpu.vector_kernels import vector_rows

T = TypeVar("T")
SERIAL_LOOKUPS = 16  # up to this many, PyTorch's index kernel walks the rows one after the other


def shapes(dtype: np.dtype[np.void], **columns: Any) -> Records:
    """Records of `dtype` from columns (arrays or numbers); the fields that are not named are zero."""
    length = max(np.size(column) for column in columns.values())
    made = np.zeros(length, dtype)
    for name, column in columns.items():
        made[name] = column
    return made


def run_gemm(machine: Machine, path: Records, rows: Records) -> Records:
    """`GEMM_ANSWER` of every `GEMM_SHAPE`."""
    answers = np.zeros(rows.size, records.GEMM_ANSWER)
    gemm_rows(rows, machine.device, path, machine.tiles, np.zeros(1, records.GEMM_ANSWER), answers)
    return answers


def run_prefill(machine: Machine, path: Records, rows: Records) -> Records:
    """`ATTENTION_ANSWER` of every `PREFILL_SHAPE`."""
    answers = np.zeros(rows.size, records.ATTENTION_ANSWER)
    prefill_rows(rows, machine.device, path, answers)
    return answers


def run_decode(machine: Machine, path: Records, rows: Records) -> Records:
    """`ATTENTION_ANSWER` of every `DECODE_SHAPE`."""
    answers = np.zeros(rows.size, records.ATTENTION_ANSWER)
    decode_rows(rows, machine.device, path, answers)
    return answers


def run_moe(machine: Machine, path: Records, rows: Records, loads: Sequence[NDArray[np.float64]]) -> Records:
    """`MOE_ANSWER` of every `MOE_SHAPE`, whose experts get `loads[i]` tokens each."""
    answers = np.zeros(rows.size, records.MOE_ANSWER)
    first = np.concatenate([[0], np.cumsum([len(load) for load in loads])]).astype(np.int64)
    flat = np.concatenate([np.asarray(load, dtype=np.float64) for load in loads])
    moe_rows(rows, machine.device, path, flat, first, np.zeros(1, records.MOE_ANSWER), answers)
    return answers


def run_vector(machine: Machine, path: Records, rows: Records) -> Records:
    """`VECTOR_ANSWER` of every `VECTOR_SHAPE`."""
    answers = np.zeros(rows.size, records.VECTOR_ANSWER)
    vector_rows(rows, machine.device, path, answers)
    return answers


def weight_path(op: Gemm) -> str:
    """Name of the weight-only kernel of a product whose weights are narrower than what is computed, or ''."""
    if op.compute not in ("bf16", "fp16") or op.b.bytes >= 1.5:
        return ""
    return "fp16-w8" if op.b.bytes >= 0.9 else "fp16-w4"


def gemm_answers(machine: Machine, operators: Sequence[Gemm]) -> Records:
    """Answers for products of any precisions, in order."""

    def run(group: list[Gemm]) -> Records:
        path = machine.gemm(group[0].compute, weight_path(group[0]))
        return run_gemm(machine, path, gemm_rows_of(group))

    return _grouped(operators, lambda op: (op.compute, weight_path(op)), run, records.GEMM_ANSWER)


def _gemm_row(op: Gemm) -> tuple[float, ...]:
    warm = op.l2 == "warm"
    return (
        op.m, op.n, op.k, op.count, op.a.bytes, op.b.bytes, op.c.bytes, op.a.slots, op.b.slots,
        op.weight_copies if warm else 0.0, float(warm or op.hot_inputs), float(op.quantise),
    )  # fmt: skip


def attention_answers(machine: Machine, operators: Sequence[Attention]) -> Records:
    """Answers for attention of any shapes, in order."""

    def run(group: list[Attention]) -> Records:
        if is_decode(group[0]):
            return run_decode(machine, machine.decode(group[0].compute), decode_rows_of(group))
        path = machine.mixed if group[0].decodes > 0 else machine.prefill
        return run_prefill(machine, path(group[0].compute), prefill_rows_of(group))

    return _grouped(operators, lambda op: (op.compute, is_decode(op), op.decodes > 0), run, records.ATTENTION_ANSWER)


def is_decode(op: Attention) -> bool:
    """Whether a step runs the kernel that splits the keys."""
    return op.split_kernel and op.new_tokens == 1 and op.decodes == 0


def _decode_row(op: Attention) -> tuple[float, ...]:
    return (
        op.batch, op.past_tokens + 1.0, op.heads, op.kv_heads, op.head_dim, op.q.bytes, op.kv.bytes,
        float(op.l2 == "warm"),
        float(op.write_kv),
    )  # fmt: skip


def _prefill_row(op: Attention) -> tuple[float, ...]:
    return (
        op.batch, op.new_tokens, op.past_tokens, op.heads, op.kv_heads, op.head_dim, op.q.bytes, op.kv.bytes,
        op.decodes, op.decode_tokens, float(op.l2 == "warm"),
        float(op.write_kv),
    )  # fmt: skip


def moe_answers(machine: Machine, operators: Sequence[Moe]) -> Records:
    """Answers for expert blocks, in order."""

    def run(group: list[Moe]) -> Records:
        rows = moe_rows_of(group)
        loads = [np.array(op.loads, dtype=np.float64) for op in group]
        return run_moe(machine, machine.moe(group[0].compute), rows, loads)

    return _grouped(operators, lambda op: op.compute, run, records.MOE_ANSWER)


def _moe_row(op: Moe) -> tuple[float, ...]:
    active = sum(1 for load in op.loads if load > 0)
    return (
        op.tokens, op.hidden, op.inter, op.matrices, sum(op.loads), active, len(op.loads), op.routings,
        op.a.bytes, op.b.bytes, op.c.bytes, op.b.slots, float(op.l2 == "warm"),
    )  # fmt: skip


def vector_answers(machine: Machine, operators: Sequence[Vector]) -> Records:
    """Answers for vector operators, in order."""

    def run(group: list[Vector]) -> Records:
        return run_vector(machine, machine.vector(group[0].name), vector_rows_of(machine, group))

    return _grouped(operators, lambda op: op.name, run, records.VECTOR_ANSWER)


def _vector_row(op: Vector, per_element: float) -> tuple[float, ...]:
    moved = op.bytes_per_element or per_element * op.element_bytes / 2.0
    serial = op.rows if op.name == "embedding" and op.rows <= SERIAL_LOOKUPS else 0.0
    return op.rows, op.width, moved, serial


def gemm_rows_of(operators: Sequence[Gemm]) -> Records:
    """`GEMM_SHAPE` of every product."""
    return _filled(records.GEMM_SHAPE, [_gemm_row(op) for op in operators])


def decode_rows_of(operators: Sequence[Attention]) -> Records:
    """`DECODE_SHAPE` of every decode step."""
    return _filled(records.DECODE_SHAPE, [_decode_row(op) for op in operators])


def prefill_rows_of(operators: Sequence[Attention]) -> Records:
    """`PREFILL_SHAPE` of every prompt, chunk or mixed batch."""
    return _filled(records.PREFILL_SHAPE, [_prefill_row(op) for op in operators])


def moe_rows_of(operators: Sequence[Moe]) -> Records:
    """`MOE_SHAPE` of every expert block."""
    return _filled(records.MOE_SHAPE, [_moe_row(op) for op in operators])


def vector_rows_of(machine: Machine, operators: Sequence[Vector]) -> Records:
    """`VECTOR_SHAPE` of every vector operator; what an element moves is a constant of its kernel."""
    kernels = machine.kernels.vector
    return _filled(
        records.VECTOR_SHAPE,
        [_vector_row(op, kernels[op.name].bytes_per_element if op.name in kernels else 0.0) for op in operators],
    )


def seconds(machine: Machine, operators: Sequence[GpuOperator]) -> NDArray[np.float64]:
    """(operators,) seconds of operators of any class, in order."""
    runs: dict[type, Callable[[Machine, Any], Records]] = {
        Gemm: gemm_answers, Attention: attention_answers, Moe: moe_answers, Vector: vector_answers
    }  # fmt: skip
    found = np.zeros(len(operators))
    for kind, run in runs.items():
        index = [i for i, op in enumerate(operators) if isinstance(op, kind)]
        if index:
            found[index] = run(machine, [operators[i] for i in index])["seconds"]
    return found


def _filled(dtype: np.dtype[np.void], rows: Sequence[tuple[float, ...]]) -> Records:
    return np.array(rows, dtype=dtype)


def _grouped(
    operators: Sequence[T], key: Callable[[T], Hashable], run: Callable[[list[T]], Records], dtype: np.dtype[np.void]
) -> Records:
    groups: dict[Hashable, list[int]] = {}
    for i, op in enumerate(operators):
        groups.setdefault(key(op), []).append(i)
    answers = np.zeros(len(operators), dtype)
    for index in groups.values():
        answers[index] = run([operators[i] for i in index])
    return answers
