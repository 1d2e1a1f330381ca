"""A transformer as a graph of operators: one layer, run `layers` times, with what stands before and after it.

Conventions
- A layer is qkv, score, softmax, context, attention_out, norm_attention, feed-forward, norm_ffn. Each norm reads the
  residual stream too (`inputs` = 2): the residual addition is fused into it. For the usual pre-norm model this is the
  same work with the norms shifted by one place; the norm in front of the first layer is counted by `norm_final`.
- The order of two norms a layer, five FLOP an element, and the full square of a prompt's scores are the AttAcc
  simulator's (c600051, model.py); `causal=True` counts only the products a causal mask leaves.
- Bias additions, rotary embeddings and the router's softmax are fused into their neighbours and not counted.
- All requests of the batch have the same number of new and of context tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import networkx as nx

from archsim.config.schemas.model import Model, Part
from archsim.errors import UsageError
from archsim.workload.experts import expert_load
from archsim.workload.operator import Operator, OperatorKind, Phase


@dataclass(frozen=True)
class Pass:
    """One forward pass of a batch: what `build_graph` was asked for."""

    model: Model
    phase: Phase
    batch: int
    new_tokens: int
    context_tokens: int
    causal: bool
    fuse_gate: bool
    window: int | None

    @property
    def rows(self) -> int:
        """Token rows of every dense layer."""
        return self.batch * self.new_tokens


def build_graph(
    model: Model,
    phase: Phase,
    batch: int,
    new_tokens: int,
    context_tokens: int,
    logits: bool = True,
    *,
    causal: bool = False,
    embedding: bool = True,
    fuse_gate: bool = True,
    window: int | None = None,
) -> nx.DiGraph[str]:
    """The operators of one forward pass; nodes are operator names with attribute `operator`, edges are data flow.

    phase           "prefill": `new_tokens` of each prompt at once; "decode": usually new_tokens = 1
    context_tokens  keys each request attends to, the new tokens included (prefill of a whole prompt: = new_tokens)
    logits          include norm_final and lm_head, on the last token of each request (every new token in decode)
    causal          count only the unmasked products of score, softmax and context (`Operator.fill`)
    embedding       include the gather from the embedding table
    fuse_gate       gate and up projection of a gated unit as one gemm of double width, else ffn_gate and ffn_up
    window          tokens, itself included, that a token attends to in this layer; none: all before it

    graph.graph holds model (its name), phase, layers, batch, new_tokens, context_tokens. Operators of a layer have
    `repeat` = layers: the layer is in the graph once. Raises UsageError for sizes that make no sense.
    """
    _check(model, phase, batch, new_tokens, context_tokens)
    work = Pass(model, phase, batch, new_tokens, context_tokens, causal, fuse_gate, window)
    graph: nx.DiGraph[str] = nx.DiGraph(
        model=model.name, phase=phase, layers=model.layers, batch=batch, new_tokens=new_tokens,
        context_tokens=context_tokens,
    )  # fmt: skip
    entry = _add_embedding(graph, work) if embedding else ()
    last = _add_layer(graph, work, entry)
    if logits and model.architecture == "decoder":
        _add_logits(graph, work, last)
    return graph


def operators(graph: nx.DiGraph[str]) -> list[Operator]:
    """The operators in an order that respects the edges (the order of construction)."""
    return [data["operator"] for _, data in graph.nodes(data=True)]


def _check(model: Model, phase: Phase, batch: int, new_tokens: int, context_tokens: int) -> None:
    if phase not in ("prefill", "decode"):
        raise UsageError(f"unknown phase {phase!r} (allowed: prefill, decode)")
    if batch < 1 or new_tokens < 1:
        raise UsageError(f"batch {batch} and new_tokens {new_tokens} must be at least 1")
    if context_tokens < new_tokens:
        raise UsageError(f"context_tokens {context_tokens} must include the {new_tokens} new tokens")
    if model.architecture == "encoder":
        if phase == "decode":
            raise UsageError(f"{model.name} is an encoder: it has no decode phase")
        if context_tokens != new_tokens:
            raise UsageError(f"{model.name} is an encoder: it keeps no context besides the {new_tokens} new tokens")


def _add(graph: nx.DiGraph[str], operator: Operator, inputs: tuple[str, ...]) -> tuple[str, ...]:
    graph.add_node(operator.name, operator=operator)
    graph.add_edges_from((name, operator.name) for name in inputs)
    return (operator.name,)


def _gemm(work: Pass, name: str, part: Part, m: int, k: int, n: int, count: int = 1, fill: float = 1.0) -> Operator:
    model = work.model
    activation = model.activation_element_bytes
    return Operator(
        name, "gemm", work.phase, m=m, n=n, k=k, count=count, repeat=model.layers, a_bytes=activation,
        b_bytes=model.part_element_bytes(part), c_bytes=activation, fill=fill, **_dtypes(model, part),
    )  # fmt: skip


class _Dtypes(TypedDict):
    a_dtype: str
    b_dtype: str
    compute: str


def _dtypes(model: Model, part: Part) -> _Dtypes:
    """Names of the dtypes of a product with weights of `part`; what is not quantised computes as it is stored."""
    compute = "" if part in model.unquantized else model.compute_dtype or ""
    return {"a_dtype": model.activation_dtype, "b_dtype": model.part_dtype(part), "compute": compute}


def _elementwise(
    work: Pass, name: str, kind: OperatorKind, m: int, n: int, inputs: int = 1, function: str = "", repeat: int = 0
) -> Operator:
    element = work.model.activation_element_bytes
    return Operator(
        name, kind, work.phase, m=m, n=n, k=1, count=1, repeat=repeat or work.model.layers,
        a_bytes=element, b_bytes=0.0, c_bytes=element, inputs=inputs, function=function,
    )  # fmt: skip


def _add_embedding(graph: nx.DiGraph[str], work: Pass) -> tuple[str, ...]:
    model = work.model
    gather = Operator(
        "embedding", "gather", work.phase, m=work.rows, n=model.hidden, k=1, count=1, repeat=1,
        a_bytes=model.part_element_bytes("embeddings"), b_bytes=0.0, c_bytes=model.activation_element_bytes,
        inputs=2 if model.learned_positions else 1,
    )  # fmt: skip
    last = _add(graph, gather, ())
    if model.architecture == "encoder":
        norm = _elementwise(work, "norm_embedding", "norm", work.rows, model.hidden, 1, model.norm, repeat=1)
        last = _add(graph, norm, last)
    return last


def _add_logits(graph: nx.DiGraph[str], work: Pass, last: tuple[str, ...]) -> None:
    model = work.model
    rows = work.batch if work.phase == "prefill" else work.rows
    last = _add(graph, _elementwise(work, "norm_final", "norm", rows, model.hidden, 1, model.norm, repeat=1), last)
    activation = model.activation_element_bytes
    head = Operator(
        "lm_head", "gemm", work.phase, m=rows, n=model.vocab, k=model.hidden, count=1, repeat=1,
        a_bytes=activation, b_bytes=model.part_element_bytes("embeddings"), c_bytes=activation,
        **_dtypes(model, "embeddings"),
    )  # fmt: skip
    _add(graph, head, last)


def _add_layer(graph: nx.DiGraph[str], work: Pass, entry: tuple[str, ...]) -> tuple[str, ...]:
    model = work.model
    attention = _add_attention(graph, work, entry)
    if model.parallel_attention:
        # One norm in front of both halves; the next layer's norm adds residual, attention and feed-forward.
        feed_forward = _add_feed_forward(graph, work, entry)
        norm = _elementwise(work, "norm_ffn", "norm", work.rows, model.hidden, 3, model.norm)
        return _add(graph, norm, (*attention, *feed_forward))
    norm = _elementwise(work, "norm_attention", "norm", work.rows, model.hidden, 2, model.norm)
    feed_forward = _add_feed_forward(graph, work, _add(graph, norm, attention))
    norm = _elementwise(work, "norm_ffn", "norm", work.rows, model.hidden, 2, model.norm)
    return _add(graph, norm, feed_forward)


def _add_attention(graph: nx.DiGraph[str], work: Pass, entry: tuple[str, ...]) -> tuple[str, ...]:
    model = work.model
    last = _add(graph, _qkv(work), entry)
    for operator in _attention_core(work):
        last = _add(graph, operator, last)
    projection = _gemm(work, "attention_out", "attention", work.rows, model.heads * model.head_size, model.hidden)
    return _add(graph, projection, last)


def _kv_element_bytes(model: Model) -> float:
    """An encoder keeps no cache: its keys and values are activations."""
    return model.kv_element_bytes if model.architecture == "decoder" else model.activation_element_bytes


def _qkv(work: Pass) -> Operator:
    """Query, key and value projection as one gemm; keys and values are written in the precision of the cache."""
    model = work.model
    heads, kv_heads, size = model.heads, model.key_value_heads, model.head_size
    activation, cache = model.activation_element_bytes, _kv_element_bytes(model)
    return Operator(
        "qkv", "gemm", work.phase, m=work.rows, n=(heads + 2 * kv_heads) * size, k=model.hidden, count=1,
        repeat=model.layers, a_bytes=activation, b_bytes=model.part_element_bytes("attention"),
        c_bytes=(heads * activation + 2 * kv_heads * cache) / (heads + 2 * kv_heads), **_dtypes(model, "attention"),
    )  # fmt: skip


def _attention_core(work: Pass) -> tuple[Operator, Operator, Operator]:
    """Score, softmax, context: queries that share a key/value head (heads / kv_heads) are rows of one product."""
    model = work.model
    blocks, new, length = _attention_blocks(work)
    rows = model.heads // model.key_value_heads * new
    count = model.key_value_heads * work.batch * blocks
    activation, cache = model.activation_element_bytes, _kv_element_bytes(model)
    fill = causal_fill(new, length) if work.causal and model.architecture == "decoder" else 1.0

    def core(name: OperatorKind, n: int, k: int, b_bytes: float) -> Operator:
        return Operator(
            name, name, work.phase, m=rows, n=n, k=k, count=count, repeat=model.layers,
            a_bytes=activation, b_bytes=b_bytes, c_bytes=activation, fill=fill,
        )  # fmt: skip

    size = model.head_size
    return core("score", length, size, cache), core("softmax", length, 1, 0.0), core("context", size, length, cache)


def _attention_blocks(work: Pass) -> tuple[int, int, int]:
    """Blocks per request, new tokens of each, and the keys a block attends to.

    With a window, kernels take blocks of queries and all keys that any query of a block sees.
    """
    if work.window is None:
        return 1, work.new_tokens, work.context_tokens
    new = min(work.new_tokens, work.window)
    return -(-work.new_tokens // new), new, min(work.context_tokens, work.window + new - 1)


def causal_fill(new_tokens: int, context_tokens: int) -> float:
    """Share of the new_tokens x context_tokens scores that a causal mask keeps.

    New token i (1-based) sees context - new + i keys: new * (context - new) + new * (new + 1) / 2 in all.
    """
    kept = new_tokens * (context_tokens - new_tokens) + new_tokens * (new_tokens + 1) / 2
    return kept / (new_tokens * context_tokens)


def _add_feed_forward(graph: nx.DiGraph[str], work: Pass, entry: tuple[str, ...]) -> tuple[str, ...]:
    model = work.model
    if model.experts is None:
        return _add_block(graph, work, entry, "", model.ffn_hidden, work.rows, 1, 1.0)
    experts = model.experts
    routed = _add(graph, _gemm(work, "router", "router", work.rows, model.hidden, experts.count), entry)
    load = expert_load(work.rows, experts.count, experts.active, experts.skew)
    ends = _add_block(graph, work, routed, "", model.ffn_hidden, load.rows_per_expert, load.experts, load.fill)
    if experts.shared:
        width = experts.shared * model.ffn_hidden
        ends += _add_block(graph, work, entry, "shared_", width, work.rows, 1, 1.0)
    tensors = experts.active + (1 if experts.shared else 0)
    return _add(graph, _elementwise(work, "ffn_combine", "add", work.rows, model.hidden, tensors), ends)


def _add_block(
    graph: nx.DiGraph[str], work: Pass, entry: tuple[str, ...], prefix: str, width: int, m: int, count: int, fill: float
) -> tuple[str, ...]:
    """One feed-forward block: up (and gate), activation, down; `count` experts with m rows each."""
    model = work.model
    gated = model.ffn_gated
    names = ("ffn_gate", "ffn_up") if gated and not work.fuse_gate else ("ffn_up",)
    n = 2 * width if gated and work.fuse_gate else width
    ups: tuple[str, ...] = ()
    for name in names:
        ups += _add(graph, _gemm(work, prefix + name, "ffn", m, model.hidden, n, count, fill), entry)
    rows = round(m * count * fill)
    inputs = 2 if gated else 1
    unit = _elementwise(work, prefix + "activation", "activation", rows, width, inputs, model.activation)
    last = _add(graph, unit, ups)
    return _add(graph, _gemm(work, prefix + "ffn_down", "ffn", m, width, model.hidden, count, fill), last)
