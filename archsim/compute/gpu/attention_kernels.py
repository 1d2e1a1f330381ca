"""Flash attention on a GPU: tiles of queries scheduled over SMs (prefill, mixed), keys split over SMs (decode)."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from archsim.compute.gpu.cache_kernels import hit_ratio, overlapped


@njit(cache=True, nogil=True)
def tile_clocks(shape: Any, device: Any, path: Any, answer: Any) -> float:
    """Clocks of one query tile against one key; what the tensor and exponent units need, and how they overlap."""
    rows = path["query_tile"]
    per_clock = path["peak_flops"] * path["tensor_share"] / (device["sms"] * device["clock_hz"])
    tensor = 4.0 * rows * shape["head_dim"] / per_clock
    exponent = rows * (1.0 / device["exponents_per_clock"] + path["score_slots"] / device["vector_lanes"])
    answer["tensor_s"], answer["exponent_s"] = tensor, exponent
    return float(max(tensor, exponent) + path["serial"] * min(tensor, exponent))


@njit(cache=True, nogil=True)
def keys_of_tiles(tiles: float, rows: float, tokens: float, past: float, granule: float) -> float:
    """Keys that `tiles` causal query tiles of `rows` tokens pass together, in whole key tiles."""
    if tiles <= 1.0:
        return granule * math.ceil((past + tokens) / granule)
    full = tiles * past + rows * tiles * (tiles + 1.0) / 2.0 - (tiles * rows - tokens)
    if rows < granule:
        full += tiles * (granule - rows) / 2.0
    return full


@njit(cache=True, nogil=True)
def makespan(total: float, longest: float, units: float, device: Any, path: Any) -> float:
    """Time to run `units` units of `total` work on the SMs, none longer than `longest`."""
    if units <= 0.0:
        return 0.0
    sms = device["sms"]
    mean = total / units
    x = units / sms
    if x <= 1.0:
        return longest
    return float(max(longest, math.ceil(x - 1e-9) * mean + path["spread"] * (longest - mean)))


@njit(cache=True, nogil=True)
def prefill_row(shape: Any, device: Any, path: Any, answer: Any) -> None:
    """`batch` prompts of equal length after `past_tokens` cached tokens, with `decodes` sequences beside them."""
    rows, granule = path["query_tile"], path["kv_tile"]
    group = shape["heads"] / shape["kv_heads"]
    packed = shape["new_tokens"] < rows and (path["pack"] > 0.0 or shape["new_tokens"] <= 1.0)
    tokens_per_tile, heads = rows, shape["heads"]
    tiles = math.ceil(shape["new_tokens"] / rows)
    if packed:
        heads = shape["kv_heads"]
        tokens_per_tile = max(1.0, rows / group)
        tiles = math.ceil(shape["new_tokens"] * group / rows)
    keys = keys_of_tiles(tiles, tokens_per_tile, shape["new_tokens"], shape["past_tokens"], granule)
    last = shape["past_tokens"] + shape["new_tokens"]
    units = shape["batch"] * heads * tiles
    busy = units + shape["decodes"] * shape["heads"]
    all_keys = shape["batch"] * heads * keys + shape["decodes"] * shape["heads"] * shape["decode_tokens"]
    longest = max(last, shape["decode_tokens"])
    per_key = tile_clocks(shape, device, path, answer) / device["clock_hz"]
    answer["tensor_s"] *= all_keys / (device["sms"] * device["clock_hz"])
    answer["exponent_s"] *= all_keys / (device["sms"] * device["clock_hz"])
    walk_s = granule * math.ceil(longest / granule) * per_key
    on_chip = makespan(all_keys * per_key + busy * path["unit_s"], walk_s + path["unit_s"], busy, device, path)
    split = 2.0
    answer["split"] = 1.0
    while split <= path["largest_split"] and busy * split <= device["sms"]:  # few tiles: their keys are shared out
        parted = max(walk_s / split, granule * per_key) + path["unit_s"] + path["combine_s"]
        if parted < on_chip:
            on_chip = parted
            answer["split"] = split
        split *= 2.0
    if shape["decodes"] > 0.0:
        empty = (shape["decodes"] + shape["batch"]) * heads * tiles + shape["heads"] - busy
        on_chip += max(empty, 0.0) * path["empty_unit_s"] / device["sms"]
    hits = prefill_traffic(shape, device, path, answer)
    answer["units"] = busy
    answer["rounds"] = max(1.0, busy / device["sms"])
    answer["launch_s"], answer["fill_s"] = path["launch_s"], 0.0
    written = shape["batch"] * shape["new_tokens"] + shape["decodes"]
    new_bytes = 2.0 * written * shape["kv_heads"] * shape["head_dim"] * shape["kv_bytes"]
    answer["kv_write_s"] = 0.0
    if shape["write_kv"] > 0.0:
        stream = 2.0 * new_bytes / (path["bandwidth_share"] * device["bandwidth"])
        stream *= 1.0 - hits * (1.0 - path["l2_gain"])
        answer["kv_write_s"] = path["kv_write_s"] * written / device["sms"] + stream
    body = overlapped(on_chip, answer["memory_s"], path["overlap"])
    answer["exposed_s"] = body - max(answer["tensor_s"], answer["exponent_s"], answer["memory_s"])
    answer["seconds"] = answer["launch_s"] + answer["kv_write_s"] + body


@njit(cache=True, nogil=True)
def prefill_traffic(shape: Any, device: Any, path: Any, answer: Any) -> float:
    """Queries, results, keys and values once; what the round before left in L2 comes from there. Returns its share."""
    tokens = shape["batch"] * shape["new_tokens"] + shape["decodes"]
    queries = 2.0 * tokens * shape["heads"] * shape["head_dim"] * shape["q_bytes"]
    keys = shape["batch"] * (shape["past_tokens"] + shape["new_tokens"]) + shape["decodes"] * shape["decode_tokens"]
    cached = 2.0 * keys * shape["kv_heads"] * shape["head_dim"] * shape["kv_bytes"]
    hits = 0.0
    if shape["warm"] > 0.0:
        hits = hit_ratio(queries + cached, path["l2_share"] * device["l2_bytes"])
    answer["dram_bytes"] = (queries + cached) * (1.0 - hits)
    rate = device["bandwidth"] * path["bandwidth_share"]
    # what hits is l2_gain times as expensive as what does not
    answer["memory_s"] = (answer["dram_bytes"] + (queries + cached) * hits * path["l2_gain"]) / rate
    answer["l2_s"] = (queries + cached) / (path["l2_bytes_per_clock"] * device["sms"] * device["clock_hz"])
    return float(hits)


@njit(cache=True, nogil=True)
def split_seconds(shape: Any, device: Any, path: Any, answer: Any) -> float:
    """Seconds on the SMs with the best number of parts of each sequence's keys."""
    group = shape["heads"] / shape["kv_heads"]
    units = shape["batch"] * shape["kv_heads"] * math.ceil(group / path["group_tile"])
    key_bytes = 2.0 * shape["head_dim"] * shape["kv_bytes"]
    rate = path["stream_bandwidth"]
    l2 = path["l2_bytes_per_clock"] * device["sms"] * device["clock_hz"]
    partial = 4.0 * shape["batch"] * shape["heads"] * (shape["head_dim"] + 2.0)
    may_split = path["split_mha"] > 0.0 or group > 1.0
    best = math.inf
    split = 1.0
    while split <= path["largest_split"]:
        part = math.ceil(shape["kv_tokens"] / split)
        if split > 1.0 and (shape["kv_tokens"] <= path["split_tokens"] or not may_split):
            break
        rounds = max(1.0, units * split / device["sms"])
        penalty = path["round_penalty"] if rounds > 1.0 else 1.0
        seconds = rounds * (part * key_bytes / rate + path["prologue_s"] * penalty)
        if split > 1.0:
            seconds += path["combine_part_s"] * split + 2.0 * partial * split / l2
        if seconds < best:
            best = seconds
            answer["split"], answer["rounds"], answer["units"] = split, rounds, units
        split *= 2.0
    return float(best + path["query_row_s"] * shape["batch"] * shape["heads"] / device["sms"])


@njit(cache=True, nogil=True)
def decode_row(shape: Any, device: Any, path: Any, answer: Any) -> None:
    """One new token for each of `batch` sequences with `kv_tokens` keys each (the new one included)."""
    granule = path["kv_granule"]
    tokens = granule * math.ceil(shape["kv_tokens"] / granule)
    cached = 2.0 * shape["batch"] * shape["kv_heads"] * shape["head_dim"] * shape["kv_bytes"] * tokens
    queries = 2.0 * shape["batch"] * shape["heads"] * shape["head_dim"] * shape["q_bytes"]
    hits = 0.0
    if shape["warm"] > 0.0:
        hits = hit_ratio(cached, path["l2_share"] * device["l2_bytes"])
    on_chip = split_seconds(shape, device, path, answer)
    answer["stream_s"] = on_chip
    padded = path["group_tile"] * math.ceil(shape["heads"] / shape["kv_heads"] / path["group_tile"])
    flops = 4.0 * shape["batch"] * shape["kv_heads"] * padded * tokens * shape["head_dim"]
    answer["tensor_s"] = flops / (path["tensor_share"] * path["peak_flops"])
    answer["exponent_s"] = 0.0
    answer["dram_bytes"] = cached * (1.0 - hits) + queries * (1.0 - min(hits, 1.0))
    answer["memory_s"] = answer["dram_bytes"] / (device["bandwidth"] * path["bandwidth_share"])
    answer["l2_s"] = (cached + queries) / (path["l2_bytes_per_clock"] * device["sms"] * device["clock_hz"])
    answer["launch_s"] = path["launch_s"]
    if shape["heads"] > shape["kv_heads"] > 1.0 and shape["batch"] > 1.0:  # otherwise a view does it
        answer["launch_s"] += path["regroup_s"]
    answer["fill_s"] = path["cold_s"] * (1.0 - hits)
    answer["kv_write_s"] = path["kv_write_s"] * shape["batch"] / device["sms"] * shape["write_kv"]
    inside = max(on_chip, answer["tensor_s"], answer["l2_s"])
    body = overlapped(inside, answer["memory_s"], path["overlap"])
    answer["exposed_s"] = body - max(inside, answer["memory_s"])
    answer["seconds"] = answer["launch_s"] + answer["fill_s"] + answer["kv_write_s"] + body


@njit(cache=True, nogil=True)
def prefill_rows(shapes: Any, device: Any, path: Any, answers: Any) -> None:
    """`prefill_row` for every row; `device` and `path` are arrays of one record."""
    for i in range(shapes.size):
        prefill_row(shapes[i], device[0], path[0], answers[i])


@njit(cache=True, nogil=True)
def decode_rows(shapes: Any, device: Any, path: Any, answers: Any) -> None:
    """`decode_row` for every row; `device` and `path` are arrays of one record."""
    for i in range(shapes.size):
        decode_row(shapes[i], device[0], path[0], answers[i])
