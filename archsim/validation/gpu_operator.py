"""Kinds `gpu-operator` and `transformer-layer`: what LLMCompass measured on A100 and MI210 with PyTorch.

Every kernel is timed from the host, launch and synchronisation included; a layer is the sum of its kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from archsim.compute.gpu import Gemm, GpuOperator, Vector, gpu_operator_seconds
from archsim.config import load
from archsim.errors import unknown_name
from archsim.network import all_reduce_seconds
from archsim.validation.gpu_silicon import Predictions
from archsim.validation.registry import KINDS
from archsim.validation.silicon.measured import compass_operator
from archsim.validation.silicon.predict import Located, calibrated_gpu, row_seconds

DATA_SET = "llmcompass"
HIDDEN, HEADS = 12288, 96  # GPT-3 175B
_LINK = "nvlink3-mesh4"  # the four fully connected A100 of the measurements


def _locate(name: str, row: Mapping[str, str]) -> Located:
    return row["device"], compass_operator(name, row)


@KINDS.register("gpu-operator")
class GpuOperatorKind:
    """Matrix products, softmax, layer norm and GELU; the file's name says which."""

    truth = ("latency_ms",)
    group_by = ("device",)
    describe = ("device", "M", "N", "K", "M_rows", "N_cols", "elements")

    def predict(self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]) -> Predictions:
        """Milliseconds of every row."""
        name = Path(str(dataset["results"])).stem.rpartition("_")[2]
        seconds, reasons = row_seconds(rows, str(dataset.get("data_set", DATA_SET)), partial(_locate, name))
        return {"latency_ms": [None if value is None else value * 1e3 for value in seconds]}, reasons


def layer_kernels(phase: str, batch: int, context: int, ranks: int) -> dict[str, list[GpuOperator]]:
    """Kernels of one GPT-3 layer on one of `ranks` GPUs: operator of the table -> launches."""
    rows = batch * context if phase == "prefill" else batch
    queries, width, heads = (context if phase == "prefill" else 1), HIDDEN // ranks, HEADS // ranks
    size, pairs = HIDDEN // HEADS, batch * heads

    def gemm(n: float, k: float) -> Gemm:
        return Gemm(rows, n, k, compute="fp16")

    norm: list[GpuOperator] = [Vector("layernorm", rows, HIDDEN)]
    return {
        "Q_K_V": [gemm(width, HIDDEN)] * 3,
        "Q_mul_K": [Gemm(queries, context, size, count=pairs, compute="fp16")],
        "A_mul_V": [Gemm(queries, size, context, count=pairs, compute="fp16")],
        "Wo_proj": [gemm(HIDDEN, width)],
        "W1_proj": [gemm(4 * width, HIDDEN)],
        "W2_proj": [gemm(HIDDEN, 4 * width)],
        "Softmax": [Vector("softmax", pairs * queries, context)],
        "LayerNorm_MHA": norm,
        "LayerNorm_FFN": norm,
        "GeLU": [Vector("gelu", rows, 4 * width)],
    }


def layer_seconds(phase: str, batch: int, context: int, ranks: int) -> dict[str, float]:
    """Operator of the table -> seconds, all-reduces and TOTAL included."""
    gpu = calibrated_gpu("A100", DATA_SET)
    found = {
        name: float(gpu_operator_seconds(gpu, kernels).sum())
        for name, kernels in layer_kernels(phase, batch, context, ranks).items()
    }
    moved = 2.0 * HIDDEN * batch * (context if phase == "prefill" else 1)
    reduce_s = all_reduce_seconds(load("link", _LINK), ranks, moved)
    found |= {"AllReduce_MHA": reduce_s, "AllReduce_FFN": reduce_s}
    return found | {"TOTAL": sum(found.values())}


@KINDS.register("transformer-layer")
class TransformerLayer:
    """One GPT-3 layer, operator by operator, and its total (a group of its own: errors of operators cancel in it)."""

    truth = ("latency_us",)
    describe = ("phase", "operator")

    @staticmethod
    def group_of(row: Mapping[str, str]) -> dict[str, str]:
        """By phase, and totals apart from operators."""
        return {"phase": row["phase"], "rows": "layer total" if row["operator"] == "TOTAL" else "operators"}

    def predict(self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]) -> Predictions:
        """Microseconds of every row."""
        times: list[float | None] = []
        reasons: list[str | None] = []
        for row in rows:
            shape = (row["phase"], int(row["batch_size"]), int(row["context_tokens"]), int(row["tensor_parallel"]))
            seconds = layer_seconds(*shape)
            found = seconds.get(row["operator"])
            times.append(None if found is None else found * 1e6)
            reasons.append(unknown_name("operator", row["operator"], seconds) if found is None else None)
        return {"latency_us": times}, reasons
