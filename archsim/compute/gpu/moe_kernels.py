"""The feed-forward block of a mixture of experts: two grouped GEMMs, permute, activation, combine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute.gpu.cache_kernels import hit_ratio, overlapped
from archsim.compute.gpu.gemm_kernels import padded_depth

NARROWEST = 32.0  # columns of the narrowest tile of a grouped GEMM


@njit(cache=True, nogil=True)
def tiles_of(loads: NDArray[np.float64], rows: float) -> float:
    """Row tiles of `rows` that the experts' token counts `loads` fill."""
    tiles = 0.0
    for i in range(loads.size):
        if loads[i] > 0.0:
            tiles += math.ceil(loads[i] / rows)
    return tiles


@njit(cache=True, nogil=True)
def grouped_seconds(
    shape: Any, device: Any, path: Any, tiles: float, bm: float, bn: float, n: float, k: float, answer: Any
) -> float:
    """Seconds on the SMs of one grouped GEMM; adds its parts to `answer`."""
    rounds = max(1.0, tiles * math.ceil(n / bn) / device["sms"])
    depth = padded_depth(k, shape["a_bytes"])
    efficiency = path["tensor_share"] * min(1.0, bm / path["full_rows"])
    tensor = 2.0 * bm * bn * depth / (path["peak_flops"] * efficiency / device["sms"])
    rate = path["operand_bytes_per_clock"] * device["clock_hz"]
    operand = (bm * shape["a_bytes"] + bn * shape["b_bytes"]) * depth / rate
    conversion = bn * depth * shape["b_slots"] / (device["convert_lanes"] * device["clock_hz"])
    if shape["inter"] % path["aligned_inter"] > 0.0:  # rows that do not start on a vector load's boundary
        operand *= path["unaligned_loads"]
        tensor *= path["unaligned_loads"]
    answer["tensor_s"] += rounds * tensor
    answer["operand_s"] += rounds * operand
    answer["conversion_s"] += rounds * conversion
    answer["rounds_s"] += rounds * path["round_s"]
    return float(rounds * max(tensor, operand, conversion))


@njit(cache=True, nogil=True)
def best_rows(shape: Any, device: Any, path: Any, loads: NDArray[np.float64], trial: Any, answer: Any) -> float:
    """Seconds of both grouped GEMMs with the best tile height, without the fixed time per round."""
    best, found = math.inf, 0.0
    up = (shape["matrices"] - 1.0) * shape["inter"]
    bm = 16.0
    while bm <= 256.0:
        tiles = tiles_of(loads, bm)
        bn = path["tile_n"]
        while bn >= min(NARROWEST, path["tile_n"]):
            trial["tensor_s"], trial["operand_s"], trial["conversion_s"], trial["rounds_s"] = 0.0, 0.0, 0.0, 0.0
            busy = grouped_seconds(shape, device, path, tiles, bm, bn, up, shape["hidden"], trial)
            busy += grouped_seconds(shape, device, path, tiles, bm, bn, shape["hidden"], shape["inter"], trial)
            if busy + trial["rounds_s"] < best:
                best, found = busy + trial["rounds_s"], busy
                answer["tensor_s"], answer["operand_s"] = trial["tensor_s"], trial["operand_s"]
                answer["conversion_s"], answer["rounds_s"] = trial["conversion_s"], trial["rounds_s"]
                answer["tile_m"] = bm
            bn /= 2.0
        bm *= 2.0
    return found


@njit(cache=True, nogil=True)
def moe_row(shape: Any, device: Any, path: Any, loads: NDArray[np.float64], trial: Any, answer: Any) -> None:
    """One mixture-of-experts block whose experts get `loads` tokens each."""
    on_chip = best_rows(shape, device, path, loads, trial, answer)
    expert_bytes = shape["matrices"] * shape["hidden"] * shape["inter"] * shape["b_bytes"]
    weights = expert_bytes * shape["active"]
    resident = 0.0
    if shape["warm"] > 0.0:
        touched = min(shape["experts"], shape["active"] * shape["routings"])
        resident = hit_ratio(expert_bytes * touched, path["l2_share"] * device["l2_bytes"])
    l2 = path["l2_bytes_per_clock"] * device["sms"] * device["clock_hz"]
    answer["dram_bytes"] = weights * (1.0 - resident)
    weight_s = answer["dram_bytes"] / (device["bandwidth"] * path["bandwidth_share"])
    answer["memory_s"] = weight_s
    hidden_bytes = 2.0 * shape["tokens"] * shape["hidden"] * shape["c_bytes"]
    routed = shape["assignments"] * shape["c_bytes"]
    moved = hidden_bytes + routed * 2.0 * shape["hidden"]
    answer["permute_s"] = moved / (device["bandwidth"] * path["bandwidth_share"])
    answer["launch_s"] = path["launch_s"]
    chip = max(on_chip + answer["rounds_s"], weights / l2)
    body = overlapped(chip, weight_s, path["overlap"])
    answer["exposed_s"] = body - max(answer["tensor_s"], answer["operand_s"], answer["conversion_s"], weight_s)
    answer["seconds"] = answer["launch_s"] + answer["permute_s"] + body


@njit(cache=True, nogil=True)
def moe_rows(
    shapes: Any, device: Any, path: Any, loads: NDArray[np.float64], first: NDArray[np.int64], trial: Any, answers: Any
) -> None:
    """`moe_row` for every row; the loads of row i are loads[first[i]:first[i + 1]]."""
    for i in range(shapes.size):
        moe_row(shapes[i], device[0], path[0], loads[first[i] : first[i + 1]], trial[0], answers[i])
