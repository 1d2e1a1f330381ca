"""The structured arrays that carry descriptions into the GPU kernels and answers out. All fields are float64, SI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Records = NDArray[np.void]


def record_type(names: Iterable[str]) -> np.dtype[np.void]:
    """A structured dtype of float64 fields."""
    return np.dtype([(name, np.float64) for name in names])


def one_record(dtype: np.dtype[np.void], values: Mapping[str, Any]) -> Records:
    """An array of one record; every field must have a value."""
    made = np.zeros(1, dtype)
    for name in dtype.names or ():
        made[name] = float(values[name])
    return made


DEVICE = record_type(
    ("sms", "clock_hz", "bandwidth", "l2_bytes", "vector_lanes", "convert_lanes", "exponents_per_clock", "fp16_flops")
)

GEMM_SHAPE = record_type((
    "m", "n", "k", "count",  # (m, k) x (k, n), `count` products with operands of their own
    "a_bytes", "b_bytes", "c_bytes",  # stored bytes of an element, scales included
    "a_slots", "b_slots",  # lane slots that convert an element to the compute dtype
    "weight_copies",  # copies of the weights that the caller cycles through; 0: the weights are cold
    "warm_activations",  # 1: activations and results may be in L2 from the round before
    "quantise",  # 1: a separate kernel quantises the activations first
))  # fmt: skip

GEMM_PATH = record_type((
    "matrix_unit",  # 1: whole tiles are multiplied, padding too; 0: by lanes, which skip rows that are not there
    "peak_flops", "launch_s", "tensor_share", "bandwidth_share", "l2_share", "fill_s", "cold_s", "overlap",
    "tail_hidden", "tile_slope", "largest_tile", "operand_bytes_per_clock", "l2_bytes_per_clock", "split_s",
    "split_depth", "largest_split", "write_factor", "quantise_s", "quantise_row_s", "quantise_bandwidth_share",
    "quantise_l2_gain", "epilogue_depth", "dispatch_rows", "multicast",
))  # fmt: skip

GEMM_ANSWER = record_type((
    "seconds", "launch_s", "fill_s", "quantise_s", "exposed_s", "tensor_s", "operand_s", "conversion_s", "l2_s",
    "memory_s", "split_s", "dram_bytes", "l2_bytes", "cold_share", "tile_m", "tile_n", "split_k", "waves",
))  # fmt: skip

PREFILL_SHAPE = record_type((
    "batch", "new_tokens", "past_tokens", "heads", "kv_heads", "head_dim", "q_bytes", "kv_bytes",
    "decodes", "decode_tokens",  # sequences of one new token in the same launch, and the keys of each
    "warm", "write_kv",  # 1: operands may be in L2 from the round before
))  # fmt: skip

PREFILL_PATH = record_type((
    "peak_flops", "launch_s", "tensor_share", "bandwidth_share", "query_tile", "kv_tile", "serial", "unit_s",
    "spread", "largest_split", "combine_s", "l2_gain", "l2_share", "pack",
    "score_slots", "kv_write_s", "overlap",
    "empty_unit_s", "l2_bytes_per_clock",
))  # fmt: skip

DECODE_SHAPE = record_type(
    ("batch", "kv_tokens", "heads", "kv_heads", "head_dim", "q_bytes", "kv_bytes", "warm", "write_kv")
)

DECODE_PATH = record_type((
    "peak_flops", "launch_s", "bandwidth_share", "l2_share", "stream_bandwidth", "prologue_s", "round_penalty",
    "largest_split", "split_mha", "tensor_share", "group_tile", "l2_bytes_per_clock", "cold_s",
    "kv_write_s", "kv_granule", "split_tokens", "overlap", "regroup_s", "combine_part_s", "query_row_s",
))  # fmt: skip

ATTENTION_ANSWER = record_type((
    "seconds", "launch_s", "fill_s", "kv_write_s", "exposed_s", "tensor_s", "exponent_s", "stream_s", "l2_s",
    "memory_s", "dram_bytes", "units", "split", "rounds",
))  # fmt: skip

MOE_SHAPE = record_type((
    "tokens", "hidden", "inter", "matrices", "assignments", "active", "experts", "routings", "a_bytes", "b_bytes",
    "c_bytes", "b_slots", "warm",
))  # fmt: skip

MOE_PATH = record_type((
    "peak_flops", "launch_s", "tensor_share", "bandwidth_share", "l2_share", "operand_bytes_per_clock", "round_s",
    "tile_n", "full_rows", "l2_bytes_per_clock", "overlap", "aligned_inter",
    "unaligned_loads",
))  # fmt: skip

MOE_ANSWER = record_type((
    "seconds", "launch_s", "permute_s", "rounds_s", "exposed_s", "tensor_s", "operand_s", "conversion_s", "memory_s",
    "dram_bytes", "tile_m",
))  # fmt: skip

VECTOR_SHAPE = record_type(("rows", "width", "bytes_per_element", "repeats"))

VECTOR_PATH = record_type((
    "launch_s", "bandwidth_share", "slots_per_element", "row_clocks_per_element", "l2_gain", "l2_reach", "sharpness",
    "rows_per_sm", "on_chip_row", "spill_scale", "row_s",
))  # fmt: skip

VECTOR_ANSWER = record_type((
    "seconds", "launch_s", "exposed_s", "memory_s", "vector_s", "row_s", "dram_bytes",
))  # fmt: skip
