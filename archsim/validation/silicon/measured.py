"""Rows of the layer tables (vidur, LLMServingSim), of LLMCompass's measurements and of copies as GPU operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from archsim.compute.gpu import Attention, Gemm, GpuOperator, Vector
from archsim.config.schemas.gpu_library import VectorName

Row = Mapping[str, str]

# query heads, KV heads, head size of the models of llmservingsim_v1_attention.csv (their Hugging Face configurations)
HEADS = {
    "meta-llama/Llama-3.1-8B": (32, 8, 128), "meta-llama/Llama-3.1-70B": (64, 8, 128), "Qwen/Qwen3-32B": (64, 8, 128),
}  # fmt: skip


def layer_operators(row: Row) -> Iterator[tuple[str, GpuOperator]]:
    """(column without `_median_ms`, operator) of every operator of one row of vidur_dense_ops.csv."""
    tp, tokens = int(row["tensor_parallel"]), float(row["num_tokens"])
    heads, kv_heads, width = int(row["n_head"]), int(row["n_kv_head"]), float(row["n_embd"])
    wide, gated = float(row["n_expanded_embd"]), row["gated_mlp"] == "True"
    size = width / heads
    yield "attn_pre_proj", Gemm(tokens, (heads + 2 * kv_heads) * size / tp, width, compute="fp16")
    yield "attn_post_proj", Gemm(tokens, width, width / tp, compute="fp16")
    yield "mlp_up_proj", Gemm(tokens, (2 if gated else 1) * wide / tp, width, compute="fp16")
    yield "mlp_down_proj", Gemm(tokens, width, wide / tp, compute="fp16")
    norm = Vector("norm" if gated else "layernorm", tokens, width, bytes_per_element=4)
    yield "input_layernorm", norm
    yield "post_attention_layernorm", norm
    yield "attn_rope", Vector("rope", tokens, (heads + kv_heads) * size / tp)
    yield "mlp_act", Vector("activation" if gated else "gelu", tokens, wide / tp)
    yield "add", Vector("add", tokens, width)
    yield "emb", Vector("embedding", tokens, width)


# hidden size, width of the feed-forward block, vocabulary of the models of llmservingsim_v1_dense.csv
WIDTHS = {"meta-llama/Llama-3.1-8B": (4096, 14336, 128256), "Qwen/Qwen3-32B": (5120, 25600, 151936)}
_SERVING_VECTORS: dict[str, VectorName] = {
    "layernorm": "norm", "final_layernorm": "norm", "rotary_emb": "rope", "act_fn": "activation",
    "embedding": "embedding",
}  # fmt: skip


def serving_layer(row: Row) -> GpuOperator | None:
    """A row of llmservingsim_v1_dense.csv; None for the layers that are no single operator here (sampler, qk_norm)."""
    if row["model"] not in WIDTHS:
        return None
    hidden, wide, vocabulary = WIDTHS[row["model"]]
    heads, kv_heads, size = HEADS[row["model"]]
    tp, rows, layer = int(row["tensor_parallel"]), float(row["count"]), row["layer"]
    products = {
        "qkv_proj": ((heads + 2 * kv_heads) * size / tp, hidden), "o_proj": (hidden, heads * size / tp),
        "gate_up_proj": (2 * wide / tp, hidden), "down_proj": (hidden, wide / tp), "lm_head": (vocabulary / tp, hidden),
    }  # fmt: skip
    if layer in products:
        return Gemm(rows, *products[layer])
    if layer not in _SERVING_VECTORS:
        return None
    widths = {"rotary_emb": (heads + kv_heads) * size / tp, "act_fn": wide / tp}
    per_element = 8.0 if layer.endswith("layernorm") else None  # with the residual addition
    return Vector(_SERVING_VECTORS[layer], rows, widths.get(layer, hidden), bytes_per_element=per_element)


def serving_attention(row: Row) -> Attention:
    """A row of llmservingsim_v1_attention.csv: no KV-cache write in the timing; decode repeats one small cache."""
    heads, kv_heads, size = HEADS[row["model"]]
    tp = int(row["tensor_parallel"])
    chunk, past = float(row["prefill_chunk_tokens"]), float(row["prefill_kv_tokens"])
    decodes, tokens = float(row["decode_sequences"]), float(row["decode_kv_tokens_per_sequence"])
    shard = (heads // tp, max(kv_heads // tp, 1), size)
    if chunk == 0:
        return Attention(decodes, 1, tokens - 1, *shard, l2="warm", write_kv=False)
    return Attention(
        1, chunk, past, *shard, decodes=decodes, decode_tokens=tokens if decodes else 0, split_kernel=False,
        write_kv=False,
    )  # fmt: skip


def compass_operator(name: str, row: Row) -> GpuOperator:
    """A row of LLMCompass's measured_{matmul,softmax,layernorm,gelu}.csv (PyTorch, timed from the host)."""
    if name == "matmul":
        return Gemm(float(row["M"]), float(row["N"]), float(row["K"]), compute="fp16")
    if name == "gelu":
        return Vector("gelu", 1, float(row["elements"]))
    if name == "softmax":
        return Vector("softmax", float(row["M_rows"]), float(row["N_cols"]))
    return Vector("layernorm", float(row["M_rows"]), float(row["N_cols"]))


def device_copy(row: Row) -> Vector:
    """A copy on the device of a copy.csv: every byte is read once and written once."""
    return Vector("copy", 1, float(row["bytes"]) / 2.0)
