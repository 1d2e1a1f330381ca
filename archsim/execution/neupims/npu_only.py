"""Attention on the NPU itself, for the device without PIM.

The peer's version is one dependent chain (one head after the other, array filled and drained three times), which its
closed form below reproduces; the other streams K and V through the arrays as fast as memory and arrays allow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.compute import neupims_kernels as npu
from archsim.compute.neupims_kernels import vector_clocks
from archsim.execution.neupims.operators import LayerOperators


def attention_cycles(lengths: NDArray[np.int64], heads: int) -> int:
    """Cycles of the peer's fused attention (casys-kaist/NeuPIMs 57617ee): no overlap between heads."""
    total = 0
    for length in lengths.tolist():
        softmax = vector_clocks(npu.FUSED, length, 128)
        total += 8 + 255 + length // 8 + softmax + 271 * -(-(length + 127) // 128)
    return int(total) * heads


def stream_attention(operators: LayerOperators, lengths: NDArray[np.int64]) -> list[list[int]]:
    """K and V as weights that stream past the query and the logits of their request.

    Per request: scores are (1 x head_dim) times (head_dim x length) per head, the context (1 x length) times
    (length x head_dim); both read the same number of bytes. The heads' products are laid side by side, so that one
    operator per request and half streams length x device_hidden elements; softmax overlaps with the next request.
    """
    width = operators.shape.device_hidden
    rows = []
    total = int(lengths.sum())
    rows.append(operators.gemm("keys", 1, width, total, 0, "qkv", "logits"))
    rows.append(operators.gemm("values", 1, width, total, 0, "logits", "attention"))
    return rows
