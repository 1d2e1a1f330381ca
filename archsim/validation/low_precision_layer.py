"""Kind `low-precision-layer`: kernels and whole decoder layers of Ladder's low-precision formats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from archsim.compute.gpu import Gemm, GpuOperator, Operand, Vector, gpu_operator_time
from archsim.compute.gpu.operators import L2
from archsim.compute.gpu.precision import ConvertedGemm, Precision, time_gemm
from archsim.config import load
from archsim.config.schemas.conversion import Conversions
from archsim.config.schemas.gpu import Gpu
from archsim.validation.registry import KINDS

Row = dict[str, str]
DEVICES = {
    "A100-80GB-PCIe": "a100-pcie-80gb", "A100-80GB": "a100-pcie-80gb", "RTXA6000": "a6000", "RTX A6000": "a6000",
    "V100-16GB-PCIe": "v100-pcie-16gb", "RTX4090": "rtx4090", "RTX 4090": "rtx4090", "MI250": "mi250",
}  # fmt: skip
LIBRARIES = {"rtx4090": "ladder-ada"}  # the rest: ladder
ONE_DIE = (  # of an MI250, which a program sees as two devices
    "cores=104", "peak_flops.fp16=181 TFLOP/s", "peak_flops.int8=181 TOP/s", "memory_bandwidth=1638.4 GB/s",
    "l2_capacity=8 MiB",
)  # fmt: skip
OWN = ("Ladder", "Bitter", "")  # "Bitter" is the system's old name; the files without a system column hold Ladder


@dataclass(frozen=True)
class LayerShape:
    """A decoder layer; `gated` layers have three feed-forward matrices."""

    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    gated: bool

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.hidden // self.heads

    def weights(self) -> list[tuple[int, int]]:
        """(n, k) of every weight matrix."""
        qkv = self.head_size * (self.heads + 2 * self.kv_heads)
        up = [(self.ffn, self.hidden)] * (2 if self.gated else 1)
        return [(qkv, self.hidden), (self.hidden, self.hidden), *up, (self.hidden, self.ffn)]


LAYERS = {
    "LLaMA2-70B": LayerShape(8192, 64, 8, 28672, True),
    "BLOOM-176B": LayerShape(14336, 112, 112, 57344, False),
}


def stored(dtype: str) -> str:
    """Our name of a dtype of the data."""
    return {"fp8": "fp8-e4m3", "uint1": "int1"}.get(dtype, dtype)


@cache
def ladder_gpu(name: str) -> Gpu:
    """A GPU preset timed by the kernels that Ladder generates."""
    gpu: Gpu = load("gpu", name, ONE_DIE if name == "mi250" else ())
    return gpu.model_copy(update={"timing": load("gpu-kernels", LIBRARIES.get(name, "ladder"))})


@cache
def ladder_table() -> Conversions:
    """Ladder's conversion routines."""
    table: Conversions = load("conversion", "lop3")
    return table


def ladder_gemm(gpu: Gpu, m: float, n: float, k: float, weight: str, activation: str, l2: L2 = "cold") -> ConvertedGemm:
    """One product as Ladder runs it; l2 warm: timed alone, again and again."""
    return time_gemm(gpu, ladder_table(), m, n, k, Precision(stored(weight), stored(activation)), l2)


def layer_seconds(gpu: Gpu, shape: LayerShape, batch: int, tokens: int, weight: str, activation: str) -> float:
    """A decoder layer of `batch` sequences of `tokens` new tokens and nothing in the cache: one launch an operator."""
    rows = float(batch * tokens)
    products = [ladder_gemm(gpu, rows, n, k, weight, activation).time.seconds for n, k in shape.weights()]
    return sum(products) + sum(gpu_operator_time(gpu, op).seconds for op in other_operators(shape, batch, tokens))


def other_operators(shape: LayerShape, batch: int, tokens: int) -> list[GpuOperator]:
    """Attention, unfused and without a causal shortcut, and the rest.

    The memory of the data shows both score matrices: what a 4096-token prompt needs beyond the weights is 4516 MiB,
    two matrices of 64 x 4096 x 4096 FP16 and the activations.
    """
    rows, fp16 = float(batch * tokens), Operand("fp16")
    queries, pairs = tokens * shape.heads / shape.kv_heads, float(batch * shape.kv_heads)
    score = Gemm(queries, tokens, shape.head_size, pairs, fp16, fp16, fp16, "fp16", hot_inputs=False)
    context = Gemm(queries, shape.head_size, tokens, pairs, fp16, fp16, fp16, "fp16", hot_inputs=False)
    kv_width = float(shape.kv_heads * shape.head_size)
    return [
        Vector("norm", rows, shape.hidden), Vector("rope", rows, shape.hidden), Vector("rope", rows, kv_width),
        score, Vector("softmax", rows * shape.heads, tokens), context, Vector("add", rows, shape.hidden),
        Vector("norm", rows, shape.hidden), Vector("activation", rows, shape.ffn), Vector("add", rows, shape.hidden),
    ]  # fmt: skip


@KINDS.register("low-precision-layer")
class LowPrecisionLayer:
    """Latency of a kernel (columns M, N, K) or of a layer (columns model, batch, seq_len)."""

    kind = "low-precision-layer"
    truth = ("latency_paper_ms",)
    describe = ("system", "model", "M", "N", "K", "batch", "seq_len", "weight_dtype", "activation_dtype", "device")

    @staticmethod
    def group_of(row: Row) -> dict[str, str]:
        """Rows are grouped by the rows of activations."""
        rows = int(row["M"]) if "M" in row else int(row["batch"]) * int(row["seq_len"])
        return {"M": str(rows)}

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions and, per row, the reason why there is none."""
        values: list[float | None] = []
        reasons: list[str | None] = []
        for row in rows:
            reason = _unsupported(row)
            reasons.append(reason)
            values.append(None if reason else _seconds(row) * 1e3)
        return {"latency_paper_ms": values}, reasons


def _unsupported(row: Row) -> str | None:
    if row.get("system", "") not in OWN:
        return "another framework's kernels"
    if row["device"] not in DEVICES:
        return f"unknown device {row['device']!r}"
    if "M" not in row and row["model"] not in LAYERS:
        return f"unknown layer {row['model']!r}"
    return None


def _seconds(row: Row) -> float:
    gpu = ladder_gpu(DEVICES[row["device"]])
    weight, activation = row["weight_dtype"], row["activation_dtype"]
    if "M" in row:
        return ladder_gemm(gpu, int(row["M"]), int(row["N"]), int(row["K"]), weight, activation, "warm").time.seconds
    layer = LAYERS[row["model"]]
    return layer_seconds(gpu, layer, int(row["batch"]), int(row["seq_len"]), weight, activation)
