"""Tensor parallelism: the shard of an operator that one of `ways` equal devices works on.

The split is Megatron's: columns of qkv and of the first feed-forward matrix, rows of the output projection and of
the second one, heads of the attention; norms, residual adds and the router are done by every device.
Source: Shoeybi et al., Megatron-LM (arXiv 1909.08053), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from archsim.compute.operation import Operation, OperationKind
from archsim.workload.operator import Operator, OperatorKind

COLUMN_SPLIT = frozenset({"qkv", "ffn_up", "ffn_gate", "activation", "lm_head"})
ROW_SPLIT = frozenset({"attention_out", "ffn_down"})
ATTENTION: tuple[OperatorKind, ...] = ("score", "softmax", "context")
BY_HEADS: tuple[OperatorKind, ...] = (*ATTENTION, "attention")
_KINDS: dict[OperatorKind, OperationKind] = {
    "gemm": "gemm", "score": "matmul", "context": "matmul", "softmax": "softmax",
    "attention": "attention", "activation": "activation", "norm": "norm", "add": "add", "gather": "gather",
}  # fmt: skip


def is_row_split(operator: Operator) -> bool:
    """Whether the devices of a tensor-parallel group each hold a partial sum of the operator's result."""
    return _plain_name(operator) in ROW_SPLIT


def is_ffn_weight(operator: Operator) -> bool:
    """Whether the operator multiplies by a feed-forward weight matrix."""
    return _plain_name(operator) in ("ffn_up", "ffn_gate", "ffn_down")


def _plain_name(operator: Operator) -> str:
    return operator.name.removeprefix("shared_")


def shard(operator: Operator, ways: int, kv_heads: int, round_down: bool = False) -> Operation:
    """The largest of the `ways` shards of `operator`, or the smallest if `round_down`.

    `kv_heads` is the number of key/value heads; when there are fewer heads than devices, several devices hold the
    same head and each answers a part of its queries.
    """
    divide: Callable[[int, int], int] = (lambda a, b: max(1, a // b)) if round_down else _ceil_div
    m, n, k, count = operator.m, operator.n, operator.k, operator.count
    if operator.kind in BY_HEADS:
        m, count = _attention_share(m, count, ways, kv_heads, divide)
    elif _plain_name(operator) in COLUMN_SPLIT:
        n = divide(n, ways)
    elif is_row_split(operator):
        k = divide(k, ways)
    share = Operation(
        kind=_KINDS[operator.kind], m=m, n=n, k=k, count=count, inputs=operator.inputs, function=operator.function,
        a_bytes=operator.a_bytes, b_bytes=operator.b_bytes, c_bytes=operator.c_bytes,
        a_dtype=operator.a_dtype, b_dtype=operator.b_dtype, compute=operator.compute,
        flop=operator.flop * (m * n * k * count) / (operator.m * operator.n * operator.k * operator.count),
    )  # fmt: skip
    return share


def _attention_share(
    m: int, count: int, ways: int, kv_heads: int, divide: Callable[[int, int], int]
) -> tuple[int, int]:
    requests = count // kv_heads
    if kv_heads >= ways:
        return m, divide(kv_heads, ways) * requests
    return divide(m, _ceil_div(ways, kv_heads)), requests


def _ceil_div(a: int, b: int) -> int:
    return math.ceil(a / b)
