"""Shards of operators as kernels of a GPU library: attention and experts as one, rotation and norm of queries."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx

from archsim.compute.operation import Operation
from archsim.config.schemas.model import Model
from archsim.workload.operator import Operator


def flash_attention(model: Model, score: Operator, share: Operation) -> Operation:
    """Score, softmax and context as one kernel; `share` is one device's part of the scores."""
    return replace(
        share, kind="attention", flop=0.0, requests=score.count // model.key_value_heads,
        new_tokens=score.m * model.key_value_heads // model.heads, c_bytes=share.a_bytes,
        causal=model.architecture == "decoder",
    )  # fmt: skip


def with_flash_attention(model: Model, graph: nx.DiGraph[str]) -> nx.DiGraph[str]:
    """`graph` with score, softmax and context as the one operator `attention`."""
    score: Operator = graph.nodes["score"]["operator"]
    fused: nx.DiGraph[str] = nx.DiGraph(**graph.graph)
    for name, data in graph.nodes(data=True):
        if name == "score":
            fused.add_node("attention", operator=replace(score, name="attention", kind="attention"))
        elif name not in ("softmax", "context"):
            fused.add_node(name, **data)
    inside = {"score": "attention", "softmax": "attention", "context": "attention"}
    ends = ((inside.get(source, source), inside.get(target, target)) for source, target in graph.edges)
    fused.add_edges_from((source, target) for source, target in ends if source != target)
    return fused


def expert_block(model: Model, up: Operator, share: Operation, tokens: int) -> Operation:
    """Top-k, both products of the experts, activation and sum as one; `share` is one device's part of the first."""
    gates = 2 if model.ffn_gated else 1
    return replace(
        share, kind="experts", m=up.m * up.fill, n=share.n / gates, inputs=gates, requests=tokens, flop=0.0
    )  # fmt: skip


def rotation(model: Model, share: Operation) -> Operation:
    """Rotation of one device's queries and keys; `share` is its part of their projection."""
    return replace(_queries_and_keys(model, share), function="rope")


def query_norm(model: Model, share: Operation) -> Operation:
    """Norm of one device's queries and keys, a row per head or one per token."""
    rows = replace(_queries_and_keys(model, share), kind="norm")
    if model.query_key_norm == "all":
        return rows
    return replace(rows, m=rows.m * rows.n / model.head_size, n=model.head_size)


def _queries_and_keys(model: Model, share: Operation) -> Operation:
    heads, kv_heads = model.heads, model.key_value_heads
    width = share.n * (heads + kv_heads) / (heads + 2 * kv_heads)
    return Operation("activation", share.m, width, a_bytes=share.a_bytes, b_bytes=0.0, c_bytes=share.a_bytes)
