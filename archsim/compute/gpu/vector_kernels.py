"""Norms, softmax, activations, rope, residuals and look-ups: launch, bandwidth or cache, lanes, and serial rows."""

from __future__ import annotations

import math
from typing import Any

from numba import njit


@njit(cache=True, nogil=True)
def vector_row(shape: Any, device: Any, path: Any, answer: Any) -> None:
    """One kernel over `rows` rows of `width` elements, one block of threads a row."""
    elements = shape["rows"] * shape["width"]
    moved = elements * shape["bytes_per_element"]
    if path["on_chip_row"] > 0.0 and shape["width"] > path["on_chip_row"]:
        moved *= path["spill_scale"]  # the row no longer fits on chip and is read again
    hit = 0.0
    if moved > 0.0:
        hit = min(max(path["l2_reach"] * device["l2_bytes"] / moved - 1.0, 0.0), 1.0)
    stream = moved / (device["bandwidth"] * path["bandwidth_share"])
    answer["memory_s"] = stream * (hit / path["l2_gain"] + 1.0 - hit)
    answer["dram_bytes"] = moved * (1.0 - hit)
    lanes = device["sms"] * device["vector_lanes"] * device["clock_hz"]
    answer["vector_s"] = path["slots_per_element"] * elements / lanes
    rounds = math.ceil(shape["rows"] / (path["rows_per_sm"] * device["sms"]))
    answer["row_s"] = path["row_clocks_per_element"] * shape["width"] / device["clock_hz"] * rounds
    answer["launch_s"] = path["launch_s"] + path["row_s"] * shape["repeats"]
    q = path["sharpness"]
    high = max(answer["memory_s"], answer["vector_s"], answer["row_s"])
    body = 0.0
    if high > 0.0:
        parts = (answer["memory_s"] / high) ** q + (answer["vector_s"] / high) ** q + (answer["row_s"] / high) ** q
        body = high * parts ** (1.0 / q)
    answer["exposed_s"] = body - high
    answer["seconds"] = answer["launch_s"] + body


@njit(cache=True, nogil=True)
def vector_rows(shapes: Any, device: Any, path: Any, answers: Any) -> None:
    """`vector_row` for every row; `device` and `path` are arrays of one record."""
    for i in range(shapes.size):
        vector_row(shapes[i], device[0], path[0], answers[i])
