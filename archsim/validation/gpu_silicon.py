"""Kinds `gpu-gemm`, `gpu-attention-context`, `gpu-attention-generation`, `gpu-moe`: operators measured on silicon.

Columns: the README beside the reference data. A device with a calibration record for these data is predicted with it,
any other from its datasheet with the constants of its generation. The option `data_set` of a dataset names another
set of calibration records.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from archsim.validation.registry import KINDS
from archsim.validation.silicon.predict import Located, row_seconds
from archsim.validation.silicon.rows import attention_of, gemm_of, moe_of

Predictions = tuple[dict[str, list[float | None]], list[str | None]]


class _Silicon:
    truth = ("latency_ms",)
    group_by: ClassVar[tuple[str, ...]] = ("gpu",)

    def predict(self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]) -> Predictions:
        """Milliseconds of every row."""
        seconds, reasons = row_seconds(rows, str(dataset.get("data_set", "gpu-silicon")), self.locate)
        return {"latency_ms": [None if value is None else value * 1e3 for value in seconds]}, reasons

    @staticmethod
    def locate(row: Mapping[str, str]) -> Located:
        """The row's device and operator."""
        raise NotImplementedError


@KINDS.register("gpu-gemm")
class GpuGemm(_Silicon):
    """Matrix products of inference kernels, quantisation of the activations included."""

    group_by = ("gpu", "gemm_dtype")
    describe = ("gpu", "gemm_dtype", "m", "n", "k")

    @staticmethod
    def locate(row: Mapping[str, str]) -> Located:
        return row["gpu"], gemm_of(row)


@KINDS.register("gpu-attention-context")
class GpuAttentionContext(_Silicon):
    """Attention of prompts, with the KV-cache write."""

    describe = ("gpu", "batch_size", "isl", "step", "num_heads", "num_key_value_heads")

    @staticmethod
    def locate(row: Mapping[str, str]) -> Located:
        return row["gpu"], attention_of(row)


@KINDS.register("gpu-attention-generation")
class GpuAttentionGeneration(GpuAttentionContext):
    """Attention of one decode step."""


@KINDS.register("gpu-moe")
class GpuMoe(_Silicon):
    """Mixture-of-experts feed-forward blocks."""

    describe = ("gpu", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "distribution")

    @staticmethod
    def locate(row: Mapping[str, str]) -> Located:
        return row["gpu"], moe_of(row)
