"""Kind `npu-gemm`: products on ONNXim's TPUv4-like configuration (archsim.compute.onnxim)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsim.compute.onnxim import TPUV4, simulate_gemm
from archsim.validation.registry import KINDS

Row = dict[str, str]
_REQUEST_BYTES = 32


def predict_row(row: Row) -> dict[str, Any]:
    """Every column of a row that follows from the model; the network sends 32 B requests."""
    found = simulate_gemm(TPUV4, int(row["n_tokens"]), int(row["k_in"]), int(row["m_out"]))
    columns: dict[str, Any] = {
        "layer_finish_cycle": found.cycles,
        "dram_read_requests_32B": found.read_bytes // _REQUEST_BYTES,
        "dram_write_requests_32B": found.written_bytes // _REQUEST_BYTES,
    }
    for name, outer, inner in zip("nkm", found.tiling.outer, found.tiling.inner, strict=True):
        columns[f"outer_{name}"], columns[f"inner_{name}"] = outer, inner
    return columns


@KINDS.register("npu-gemm")
class NpuGemm:
    """Cycles of every product, its tiles and its memory requests."""

    kind = "npu-gemm"
    truth = (
        "layer_finish_cycle", "dram_read_requests_32B", "dram_write_requests_32B",
        "outer_n", "outer_k", "outer_m", "inner_n", "inner_k", "inner_m",
    )  # fmt: skip
    describe = ("n_tokens", "k_in", "m_out")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column."""
        found = [predict_row(row) for row in rows]
        return {name: [columns.get(name) for columns in found] for name in dataset["truth"]}, [None] * len(rows)
