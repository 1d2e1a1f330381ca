"""GEMM on a GPU: tiles, split-K, waves, operand delivery, conversion, L2 residency and DRAM, in closed form.

Structured arrays (all fields float64, SI units) carry shapes, the device, the kernel path and the answer; see
`archsim.compute.gpu.records` for the meaning of every field.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute.gpu.cache_kernels import hit_ratio, overlapped

STAGE_BYTES = 128.0  # of a row of operands in one stage of the pipeline: a line of shared memory
WIDEST_TILE = 32768.0  # elements of the tile that tile efficiencies are relative to, 128 x 256
MMA_ROWS = 8.0  # smallest multiple of rows that a kernel loads
MAX_SPLIT = 32


@njit(cache=True, nogil=True)
def waves(blocks: float, slots: float, tail_hidden: float) -> float:
    """Rounds of `blocks` equal blocks over `slots`; persistent kernels hide a share of the last round's loss."""
    x = blocks / slots
    if x <= 1.0:
        return 1.0
    return (1.0 - tail_hidden) * math.ceil(x - 1e-9) + tail_hidden * x


@njit(cache=True, nogil=True)
def padded_depth(k: float, element_bytes: float) -> float:
    """Elements of the reduction that whole stages cover: of 64 at two bytes, 128 at one, 256 at half a byte."""
    step = 0.5 * STAGE_BYTES * max(1.0, math.floor(2.0 / element_bytes + 0.5))  # scales aside, hence rounded
    return float(step * math.ceil(k / step))


@njit(cache=True, nogil=True)
def block_seconds(shape: Any, device: Any, path: Any, bm: float, bn: float, k: float, answer: Any) -> float:
    """Seconds of one block of bm x bn over k elements of the reduction; notes what limits it in `answer`."""
    sm_flops = path["peak_flops"] * path["tensor_share"] / device["sms"]
    widest = min(WIDEST_TILE, path["largest_tile"])
    tile_efficiency = 1.0 - path["tile_slope"] * (1.0 - min(1.0, bm * bn / widest))
    rows = min(bm, MMA_ROWS * math.ceil(shape["m"] / MMA_ROWS))
    columns = min(bn, MMA_ROWS * math.ceil(shape["n"] / MMA_ROWS))
    clock = device["clock_hz"]
    multiplied = bm * bn if path["matrix_unit"] > 0.0 else rows * columns
    tensor = 2.0 * multiplied * k / (sm_flops * tile_efficiency)
    port = path["operand_bytes_per_clock"] * path["multicast"] * clock
    operand = (rows * shape["a_bytes"] + columns * shape["b_bytes"]) * k / port
    slots = columns * k * shape["b_slots"] + rows * k * shape["a_slots"]
    conversion = slots / (device["convert_lanes"] * clock)
    answer["tensor_s"], answer["operand_s"], answer["conversion_s"] = tensor, operand, conversion
    store = rows * columns * shape["c_bytes"] * path["epilogue_depth"] * device["sms"] / device["fp16_flops"]
    return float(max(tensor, operand, conversion) + store)


@njit(cache=True, nogil=True)
def tile_seconds(shape: Any, device: Any, path: Any, bm: float, bn: float, split: float, answer: Any) -> float:
    """Seconds on the SMs of a whole product cut into bm x bn tiles and `split` parts of the reduction."""
    blocks = math.ceil(shape["m"] / bm) * math.ceil(shape["n"] / bn) * split * shape["count"]
    depth = padded_depth(math.ceil(shape["k"] / split), shape["a_bytes"])
    rounds = waves(blocks, device["sms"], path["tail_hidden"])
    block = block_seconds(shape, device, path, bm, bn, depth, answer)
    answer["tensor_s"] *= rounds
    answer["operand_s"] *= rounds
    answer["conversion_s"] *= rounds
    second_pass = 0.0
    if split > 1.0:
        partial = 8.0 * shape["m"] * shape["n"] * shape["count"] * split
        second_pass = path["split_s"] + partial / l2_rate(device, path)
    answer["split_s"] = second_pass
    answer["waves"] = rounds
    return float(rounds * block + second_pass)


@njit(cache=True, nogil=True)
def l2_rate(device: Any, path: Any) -> float:
    """Bytes per second that the L2 hands to all SMs together."""
    return float(path["l2_bytes_per_clock"] * device["sms"] * device["clock_hz"])


@njit(cache=True, nogil=True)
def choose_tile(shape: Any, device: Any, path: Any, tiles: NDArray[np.float64], trial: Any, answer: Any) -> float:
    """The fastest tile and split; fills `answer` with its parts and returns its seconds on the SMs."""
    best = math.inf
    for t in range(tiles.shape[0]):
        bm, bn = tiles[t, 0], tiles[t, 1]
        if bm * bn > path["largest_tile"] or bm < min(path["dispatch_rows"], 0.5 * shape["m"]):
            continue
        blocks = math.ceil(shape["m"] / bm) * math.ceil(shape["n"] / bn) * shape["count"]
        split = 1
        while split <= path["largest_split"]:
            if split > 1 and (shape["k"] < split * path["split_depth"] or blocks * split > 2.0 * device["sms"]):
                break
            seconds = tile_seconds(shape, device, path, bm, bn, float(split), trial)
            if seconds < best:
                best = seconds
                answer["tensor_s"], answer["operand_s"] = trial["tensor_s"], trial["operand_s"]
                answer["conversion_s"], answer["split_s"] = trial["conversion_s"], trial["split_s"]
                answer["waves"], answer["tile_m"], answer["tile_n"] = trial["waves"], bm, bn
                answer["split_k"] = float(split)
            split *= 2
    return best


@njit(cache=True, nogil=True)
def traffic(shape: Any, device: Any, path: Any, answer: Any) -> None:
    """Bytes from L2 and from DRAM, by what the L2 still holds from the round before."""
    weights = shape["count"] * shape["n"] * shape["k"] * shape["b_bytes"]
    inputs = shape["count"] * shape["m"] * shape["k"] * shape["a_bytes"]
    outputs = shape["count"] * shape["m"] * shape["n"] * shape["c_bytes"]
    usable = path["l2_share"] * device["l2_bytes"]
    weight_hits, activation_hits = 0.0, 0.0
    if shape["weight_copies"] > 0.0:
        weight_hits = hit_ratio(shape["weight_copies"] * weights + inputs + outputs, usable)
    if shape["warm_activations"] > 0.0:
        activation_hits = hit_ratio(weights + inputs + outputs, usable)
    moved = inputs + path["write_factor"] * outputs
    answer["dram_bytes"] = weights * (1.0 - weight_hits) + moved * (1.0 - activation_hits)
    answer["cold_share"] = answer["dram_bytes"] / (weights + moved)
    answer["l2_bytes"] = weights + inputs + outputs


@njit(cache=True, nogil=True)
def quantise_seconds(shape: Any, device: Any, path: Any) -> float:
    """Seconds of the kernel that quantises the activations first: one block per row, then bandwidth."""
    if shape["quantise"] <= 0.0:
        return 0.0
    rows = shape["m"]
    moved = rows * shape["k"] * (2.0 + shape["a_bytes"])
    resident = hit_ratio(moved, path["l2_share"] * device["l2_bytes"])
    stream = moved / (path["quantise_bandwidth_share"] * device["bandwidth"])
    stream *= 1.0 - resident * (1.0 - path["quantise_l2_gain"])
    per_row = max(rows - device["sms"], 0.0) * path["quantise_row_s"] / device["sms"]
    return float(path["quantise_s"] + per_row + stream)


@njit(cache=True, nogil=True)
def gemm_row(shape: Any, device: Any, path: Any, tiles: NDArray[np.float64], trial: Any, answer: Any) -> None:
    """One product; every part of its time goes to `answer`."""
    on_chip = choose_tile(shape, device, path, tiles, trial, answer)
    traffic(shape, device, path, answer)
    answer["l2_s"] = answer["l2_bytes"] / l2_rate(device, path)
    answer["memory_s"] = answer["dram_bytes"] / (device["bandwidth"] * path["bandwidth_share"])
    answer["launch_s"] = path["launch_s"]
    answer["fill_s"] = path["fill_s"] + path["cold_s"] * answer["cold_share"]
    answer["quantise_s"] = quantise_seconds(shape, device, path)
    busy = max(answer["tensor_s"], answer["operand_s"], answer["conversion_s"], answer["l2_s"], answer["memory_s"])
    body = overlapped(max(on_chip, answer["l2_s"]), answer["memory_s"], path["overlap"])
    answer["exposed_s"] = body - busy
    answer["seconds"] = answer["launch_s"] + answer["fill_s"] + answer["quantise_s"] + body


@njit(cache=True, nogil=True)
def gemm_rows(shapes: Any, device: Any, path: Any, tiles: NDArray[np.float64], trial: Any, answers: Any) -> None:
    """`gemm_row` for every row of `shapes`; `device`, `path` and `trial` are arrays of one record."""
    for i in range(shapes.size):
        gemm_row(shapes[i], device[0], path[0], tiles, trial[0], answers[i])
