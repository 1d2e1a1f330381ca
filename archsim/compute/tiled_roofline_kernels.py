"""Tile searches of the tiled roofline.

Shapes are float64: counts below 2**53 are exact, and a sharded dimension may be fractional. The order of
the loops and of the products matters: the first of several equal minima wins.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def occupancy(blocks: float, cores: float) -> float:
    """Mean share of busy cores when `blocks` equal blocks run in waves of `cores`."""
    return blocks / (math.ceil(blocks / cores) * cores)


@njit(cache=True, nogil=True)
def tile_traffic(
    m: float, n: float, k: float, count: float, a: float, b: float, c: float, tm: float, tn: float
) -> float:
    """Bytes into tiles of tm x tn and out: each operand once per tile row or column, the result once.

    a, b, c  bytes of an element of (m, k), (k, n) and (m, n)
    """
    return math.ceil(n / tn) * m * k * a * count + math.ceil(m / tm) * n * k * b * count + m * n * c * count


@njit(cache=True, nogil=True)
def best_l1_tile(
    m: float, n: float, k: float, count: float, a: float, b: float, c: float,
    sides: NDArray[np.float64], depth: float, capacity: float, cores: float, shared: bool,
) -> tuple[float, float]:  # fmt: skip
    """Tile (tm, tn) with the least traffic / occupancy**2 among `sides` x `sides` that fits; (0, 0) if none does.

    capacity  bytes of L1 for (tm + tn) * depth operands and tm * tn results
    shared    one product is cut into a block per tile; otherwise a block is one of `count` products
    """
    best = math.inf
    best_tm, best_tn = 0.0, 0.0
    for i in range(sides.size):
        tm = min(sides[i], m)
        for j in range(sides.size):
            tn = min(sides[j], n)
            if tm * depth * a + tn * depth * b + tm * tn * c > capacity:
                continue
            blocks = count
            if shared:
                blocks = math.ceil(m / tm) * math.ceil(n / tn) * count
            idle = 1.0 / occupancy(blocks, cores)
            cost = tile_traffic(m, n, k, count, a, b, c, tm, tn) * (idle * idle)
            if cost < best:
                best, best_tm, best_tn = cost, tm, tn
    return best_tm, best_tn


@njit(cache=True, nogil=True)
def best_l2_tile(
    m: float, n: float, k: float, a: float, b: float, c: float,
    step_m: float, step_n: float, depth: float, capacity: float,
) -> tuple[float, float]:  # fmt: skip
    """Tile of whole steps (or all of m, n) with the least traffic that fits; the step itself always fits.

    depth     elements of the reduction held at a time
    capacity  bytes for (tm + tn) * depth operands and tm * tn results
    """
    rows, columns = int(m / step_m), int(n / step_n)
    best = math.inf
    best_tm, best_tn = step_m, step_n
    for i in range(1, rows + 2):
        tm = step_m * i if i <= rows else m
        b_bytes = math.ceil(m / tm) * n * k * b
        for j in range(1, columns + 2):
            tn = step_n * j if j <= columns else n
            need = tm * depth * a + tn * depth * b + tm * tn * c
            if need > capacity and (tm != step_m or tn != step_n):
                continue
            traffic = b_bytes + math.ceil(n / tn) * m * k * a + m * n * c
            if traffic < best:
                best, best_tm, best_tn = traffic, tm, tn
    return best_tm, best_tn
