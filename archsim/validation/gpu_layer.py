"""Kinds `gpu-layer-operators` (vidur: medians of one layer) and `gpu-attention` (LLMServingSim: attention kernels)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from archsim.validation.gpu_silicon import Predictions
from archsim.validation.registry import KINDS
from archsim.validation.silicon.measured import layer_operators, serving_attention
from archsim.validation.silicon.predict import Located, row_seconds

OPERATORS = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj", "input_layernorm",
             "post_attention_layernorm", "attn_rope", "mlp_act", "add", "emb")  # fmt: skip


def _one(column: str, row: Mapping[str, str]) -> Located:
    return row["gpu"], dict(layer_operators(row))[column]


@KINDS.register("gpu-layer-operators")
class GpuLayerOperators:
    """The ten operators of a layer beside attention, each a column."""

    truth = tuple(f"{name}_median_ms" for name in OPERATORS)
    group_by = ("gpu", "model")
    describe = ("gpu", "model", "tensor_parallel", "num_tokens")

    def predict(self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]) -> Predictions:
        """Milliseconds of every operator of every row."""
        columns: dict[str, list[float | None]] = {}
        reasons: list[str | None] = [None] * len(rows)
        for name in OPERATORS:
            seconds, found = row_seconds(rows, str(dataset.get("data_set", "vidur")), partial(_one, name))
            columns[f"{name}_median_ms"] = [None if value is None else value * 1e3 for value in seconds]
            reasons = [old or new for old, new in zip(reasons, found, strict=True)]
        return columns, reasons


def _attention(row: Mapping[str, str]) -> Located:
    return row["device"], serving_attention(row)


@KINDS.register("gpu-attention")
class GpuAttention:
    """Attention kernels of pure prefill, pure decode and mixed batches."""

    truth = ("time_us",)
    group_by = ("device", "phase")
    describe = ("device", "model", "tensor_parallel", "phase", "prefill_chunk_tokens", "prefill_kv_tokens",
                "decode_sequences", "decode_kv_tokens_per_sequence")  # fmt: skip

    def predict(self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]) -> Predictions:
        """Microseconds of every row."""
        seconds, reasons = row_seconds(rows, str(dataset.get("data_set", "llmservingsim")), _attention)
        return {"time_us": [None if value is None else value * 1e6 for value in seconds]}, reasons
