"""Attention on the NPU itself, for the device without PIM.

The peer's version is one dependent chain (one head after the other, array filled and drained three times), which its
closed form below reproduces; the other is co-simulated: K and V stream through the arrays while the next heads and
requests load, softmax runs on the vector units in between (`neupims_kernels.attention_program`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.compute import neupims_kernels as npu
from archsim.compute.neupims_kernels import vector_clocks
from archsim.execution.neupims.operators import ELEMENT_BYTES, LayerOperators

REQUESTS_A_TILE = 16  # enough that filling and draining the arrays at a tile's ends does not count


def attention_cycles(lengths: NDArray[np.int64], heads: int) -> int:
    """Cycles of the peer's fused attention (casys-kaist/NeuPIMs 57617ee): no overlap between heads."""
    total = 0
    for length in lengths.tolist():
        softmax = vector_clocks(npu.FUSED, length, 128)
        total += 8 + 255 + length // 8 + softmax + 271 * -(-(length + 127) // 128)
    return int(total) * heads


def stream_attention(operators: LayerOperators, lengths: NDArray[np.int64]) -> list[int]:
    """One operator; a tile is a few requests, and the next tile loads while one computes."""
    shape, memory = operators.shape, operators.memory
    token_bytes = 2 * shape.device_hidden * ELEMENT_BYTES
    tile = min(REQUESTS_A_TILE, len(lengths), max(1, operators.tile_bytes // (int(lengths.max()) * token_bytes)))
    kv_bytes = int(lengths.sum()) * token_bytes
    row_bytes = len(lengths) * shape.device_hidden * ELEMENT_BYTES
    return [
        npu.FUSED, len(lengths), shape.head_dim, shape.device_heads, tile, shape.head_dim, shape.device_heads,
        -(-len(lengths) // tile),
        memory.place("kv", kv_bytes), memory.place("qkv 0", row_bytes), 0, memory.place("attention 0", row_bytes), 0,
    ]  # fmt: skip
