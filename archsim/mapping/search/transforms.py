"""The ways an operator of a transformer can be split over the devices of a group, or over time on one device.

Layouts of a tensor in a group of t devices:

whole    every device has all of it
tokens   each has the rows of a t-th of the tokens (or of the requests)
columns  each has a t-th of the columns (heads)
experts  each has the rows of its own experts
partial  each has a term of a sum

A layout may end in `/c`: the tensor exists a c-th at a time, handed over between two operators that both run as c
pieces one after the other. That is nnScaler's co-shard (OSDI 2024, section 3): several pieces on one device, so that
what lies between them never exists as a whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from archsim.compute.operation import Operation
from archsim.mapping.shard import BY_HEADS, shard
from archsim.workload.operator import Operator

WHOLE, TOKENS, COLUMNS, EXPERTS, PARTIAL = "whole", "tokens", "columns", "experts", "partial"
PIECES = (2, 4, 8)


@dataclass(frozen=True)
class Transform:
    """One way to run one operator.

    operation        what one device runs, `pieces` times
    weight_share     of the operator's weights a device holds
    cache_share      of the operator's cached keys or values a device holds
    gathers_cache    every device needs the others' keys or values too: they are gathered for the operator
    operand_bytes    of its inputs that exist at once on a device
    result_bytes     of its result that exist at once on a device
    """

    name: str
    operation: Operation
    needs: str
    gives: str
    weight_share: float
    cache_share: float
    operand_bytes: float
    result_bytes: float
    pieces: int = 1
    gathers_cache: bool = False


def transforms(
    operator: Operator, ways: int, requests: int, kv_heads: int, *, pieces: bool, queries_per_kv: int = 1
) -> list[Transform]:
    """Every legal way to run `operator` on a group of `ways` devices.

    requests        the operator's batch; tokens are split by request where there are enough requests
    pieces          include co-sharded variants
    queries_per_kv  query heads of a key/value head: what attention as one kernel has to know beside its shape
    """
    if operator.kind == "attention":
        found = [_flash(operator, requests, operator.m // queries_per_kv)]
    else:
        found = [_whole(operator)]
    if ways > 1:
        found += _split(operator, found[0], ways, requests, kv_heads)
    if pieces:
        found += [variant for transform in found for variant in _pieces(transform, requests)]
    return found


def _whole(operator: Operator) -> Transform:
    operation = shard(operator, 1, 1)
    return Transform(
        "replicate", operation, WHOLE, WHOLE, 1.0, 1.0, operator.a_elements * operator.a_bytes, operator.write_bytes
    )


def _flash(operator: Operator, requests: int, new_tokens: int) -> Transform:
    """Attention as one kernel, which sees requests and tokens where the products see matrices and rows."""
    whole = _whole(operator)
    kernel = replace(whole.operation, requests=requests, new_tokens=new_tokens, c_bytes=whole.operation.a_bytes)
    return replace(whole, operation=kernel)


def _split(operator: Operator, whole: Transform, ways: int, requests: int, kv_heads: int) -> list[Transform]:
    if operator.kind in BY_HEADS:
        return _attention(operator, whole, ways, requests, kv_heads)
    found = []
    if operator.count == 1 and operator.m >= ways:
        found.append(_scaled(whole, "tokens", TOKENS, TOKENS, m=_ceil(operator.m, ways)))
    if operator.kind == "gemm":
        found += _gemm(operator, whole, ways)
    elif operator.kind == "gather":
        table = _scaled(whole, "rows", WHOLE, PARTIAL)  # each device looks up the tokens its part of the table has
        found.append(replace(table, weight_share=1.0 / ways))
    elif operator.kind in ("activation", "add"):
        if operator.n >= ways:
            found.append(_scaled(whole, "columns", COLUMNS, COLUMNS, n=_ceil(operator.n, ways)))
        if operator.count > 1 or operator.kind == "activation":
            found.append(_scaled(whole, "experts", EXPERTS, EXPERTS, m=_ceil(operator.m, ways)))
        if operator.kind == "add":
            found.append(_scaled(whole, "partial", PARTIAL, PARTIAL))
    return found


def _gemm(operator: Operator, whole: Transform, ways: int) -> list[Transform]:
    found = []
    if operator.n >= ways:
        columns = _scaled(whole, "columns", WHOLE, COLUMNS, n=_ceil(operator.n, ways))
        found.append(replace(columns, weight_share=_ceil(operator.n, ways) / operator.n))
    if operator.k >= ways:
        rows = _scaled(whole, "rows", COLUMNS, PARTIAL, k=_ceil(operator.k, ways))
        found.append(replace(rows, weight_share=_ceil(operator.k, ways) / operator.k))
    if operator.count >= ways:
        share = _ceil(operator.count, ways)
        experts = _scaled(whole, "experts", EXPERTS, EXPERTS, count=share)
        found.append(replace(experts, weight_share=share / operator.count))
    return found


def _attention(operator: Operator, whole: Transform, ways: int, requests: int, kv_heads: int) -> list[Transform]:
    part = shard(operator, ways, kv_heads)
    heads = _scaled(whole, "heads", COLUMNS, COLUMNS, m=part.m, count=part.count)
    found = [replace(heads, cache_share=max(1.0 / ways, 1.0 / kv_heads))]
    if requests >= ways:
        share = _ceil(requests, ways)
        split = _scaled(whole, "tokens", TOKENS, TOKENS, count=operator.count // requests * share)
        operation = replace(split.operation, requests=min(split.operation.requests, share))
        found.append(replace(split, operation=operation, cache_share=share / requests))
    elif operator.m >= ways and operator.phase == "prefill":
        split = _scaled(whole, "sequence", TOKENS, TOKENS, m=_ceil(operator.m, ways))
        operation = replace(split.operation, new_tokens=_ceil(split.operation.new_tokens, ways))  # of the last device
        gathers = operator.kind != "softmax"
        found.append(replace(split, operation=operation, cache_share=1.0 / ways, gathers_cache=gathers))
    return found


def _scaled(whole: Transform, name: str, needs: str, gives: str, **axes: float) -> Transform:
    """`whole` with some axes of its operation cut: a product's first operand has no n, its result no k."""
    operation = whole.operation
    shares = {axis: value / getattr(operation, axis) for axis, value in axes.items()}
    without = {"operand": "n" if operation.kind in ("gemm", "matmul", "attention") else "k", "result": "k"}
    if operation.kind == "attention":
        without["result"] = "n"
    operand, result = (math.prod(v for axis, v in shares.items() if axis != left) for left in without.values())
    return replace(
        whole, name=name, needs=needs, gives=gives,
        operation=replace(operation, flop=operation.flop * math.prod(shares.values()), **axes),  # type: ignore[arg-type]
        operand_bytes=whole.operand_bytes * operand, result_bytes=whole.result_bytes * result,
    )  # fmt: skip


def _pieces(whole: Transform, requests: int) -> list[Transform]:
    """Variants that run as pieces over tokens (attention: over heads and requests), each end handed on or kept.

    Pieces of tokens are whole requests while there are enough of them; pieces of a request's heads do not match
    pieces of its tokens, so their layouts are named apart (`/c heads`).
    """
    operation = whole.operation
    attention = operation.kind in ("matmul", "softmax", "attention")
    length = operation.count if attention else operation.m
    found = []
    for pieces in PIECES:
        if length < pieces or operation.kind == "gather" or whole.gathers_cache:
            continue
        cut = f"/{pieces} heads" if attention and requests < pieces else f"/{pieces}"
        part = replace(operation, flop=operation.flop / pieces)
        part = replace(part, count=_ceil(length, pieces)) if attention else replace(part, m=_ceil(length, pieces))
        if operation.kind == "attention":
            share = operation.requests if operation.requests < pieces else _ceil(operation.requests, pieces)
            part = replace(part, requests=min(share, part.count))
        for begins, ends in ((True, False), (False, True), (True, True)):  # which ends exist only in pieces
            found.append(
                replace(
                    whole,
                    name=f"{whole.name} in {pieces} pieces",
                    operation=part,
                    pieces=pieces,
                    needs=whole.needs + cut * begins,
                    gives=whole.gives + cut * ends,
                    operand_bytes=whole.operand_bytes / (pieces if begins else 1),
                    result_bytes=whole.result_bytes / (pieces if ends else 1),
                )
            )
    return found


def _ceil(a: float, b: int) -> int:
    return math.ceil(a / b)
