"""The best of all legal tilings of a product. The vectors of a problem are those of tiling_kernels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute.npu.array_kernels import (
    C_COLUMNS,
    C_PACK,
    C_ROWS,
    INPUT_STATIONARY,
    OUTPUT_STATIONARY,
    TREES,
    WEIGHT_STATIONARY,
    ceil_div,
)
from archsim.compute.npu.pipeline_kernels import (
    S_SIZE,
    T_SIZE,
    W_SIZE,
    pipeline_ps,
)
from archsim.compute.npu.tiling_kernels import (
    D_DOUBLE,
    F_A,
    F_ACCUMULATOR,
    F_B,
    F_SCRATCHPAD,
    F_SUM,
    bound_ps,
    core_share,
    make_tables,
    make_walk,
    multiplicity,
    sums_of,
    traffic_bytes,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# ---- objectives: shortest time, then fewest bytes; the other way round; fewest bytes within SLACK of the shortest time
LATENCY, TRAFFIC, BALANCED = 0, 1, 2
SLACK = 0.005
# ---- what a search answers
(A_FOUND, A_SPLIT, A_DATAFLOW, A_M, A_N, A_K, A_ORDER, A_PS, A_TIMED, A_BOUNDED, A_SIZE) = range(11)  # fmt: skip
MOST_SIZES = 1024


@njit(cache=True, nogil=True)
def granules(dataflow: int, core: Ints, out: Ints) -> None:
    """Step of tile sizes along m, n, k: what fills an array; rows along the streamed axis."""
    rows, columns = core[C_ROWS], core[C_COLUMNS]
    out[0] = columns if dataflow == INPUT_STATIONARY else rows
    out[1] = columns if dataflow in (OUTPUT_STATIONARY, WEIGHT_STATIONARY, TREES) else rows
    out[2] = rows * core[C_PACK]


@njit(cache=True, nogil=True)
def tile_sizes(size: int, granule: int, fixed: int, out: Ints) -> int:
    """Candidate tile sizes along an axis, ascending: for each number of tiles the smallest multiple of `granule`."""
    if fixed > 0:
        out[0] = min(fixed, size)
        return 1
    blocks = ceil_div(size, granule)
    found = 0
    tiles = blocks
    while tiles >= 1 and found < out.size:
        deep = ceil_div(blocks, tiles)
        out[found] = min(deep * granule, size)
        found += 1
        if deep == blocks:
            break
        tiles = ceil_div(blocks, deep) - 1  # the next larger tile
    return found


@njit(cache=True, nogil=True)
def fits(tile: Ints, counts: Ints, products: int, shape: Ints, numbers: Floats) -> bool:
    """Whether the tiles fit: twice where another follows and buffers are double."""
    copies = 2 if shape[D_DOUBLE] == 1 else 1
    a = copies if counts[0] * counts[2] * products > 1 else 1
    b = copies if counts[1] * counts[2] * products > 1 else 1
    c = copies if counts[0] * counts[1] * products > 1 else 1
    operands = a * tile[0] * tile[2] * numbers[F_A] + b * tile[2] * tile[1] * numbers[F_B]
    sums = c * tile[0] * tile[1] * numbers[F_SUM]
    return bool(operands <= numbers[F_SCRATCHPAD] and sums <= numbers[F_ACCUMULATOR])


@njit(cache=True, nogil=True)
def better(ps: int, moved: float, best_ps: int, best_bytes: float, objective: int) -> bool:
    """Whether (ps, moved) beats the best so far."""
    if objective == LATENCY:
        return ps < best_ps or (ps == best_ps and moved < best_bytes)
    return moved < best_bytes or (moved == best_bytes and ps < best_ps)


@njit(cache=True, nogil=True)
def search(
    shape: Ints, numbers: Floats, rates: Floats, core: Ints, splits: Ints, dataflows: Ints, orders: Ints, fixed: Ints,
    objective: int,
) -> Ints:  # fmt: skip
    """The best of all splits over cores, dataflows, tiles and loop orders; A_FOUND is 0 if no tile fits.

    splits (n, 3) cores along m, n and products; orders (n, 3); fixed (3,) tile sizes, 0 where free
    Every candidate that fits is bounded; one is timed exactly unless its bound shows that it cannot be the best. A
    first pass times candidates whose bound is the lowest so far, so that the later ones have little left to time.
    """
    answer = np.zeros(A_SIZE, np.int64)
    best = np.array([np.inf, np.inf, np.inf])  # ps, bytes of the best so far, limit of the ps
    lowest = np.array([np.inf, np.inf])  # bound, bytes of the most promising
    tiles, many = 0, orders.shape[0]
    for s in range(splits.shape[0]):
        for d in range(dataflows.size):
            tiles += tilings(shape, core, splits[s], dataflows[d], fixed, np.empty((3, MOST_SIZES), np.int64))
    kept, bounds = np.empty((tiles, 5), np.int64), np.empty((tiles * many, 2))  # only what fits is written
    aim = objective if objective != BALANCED else LATENCY
    found = 0
    for s in range(splits.shape[0]):
        for d in range(dataflows.size):
            sizes = np.empty((3, MOST_SIZES), np.int64)
            tilings(shape, core, splits[s], dataflows[d], fixed, sizes)
            found = keep_tiles(shape, numbers, splits[s], sizes, s, dataflows[d], kept, found)
    for timing in range(3 if objective == BALANCED else 2):
        if timing == 2:
            aim = TRAFFIC
            best[2] = np.floor(best[0] * (1.0 + SLACK))
        for at in range(found):
            time_orders(
                shape, numbers, rates, core, splits, orders, kept[at], bounds[at * many : at * many + many], aim,
                timing, best, lowest, answer,
            )  # fmt: skip
    return answer


@njit(cache=True, nogil=True)
def tilings(shape: Ints, core: Ints, split: Ints, dataflow: int, fixed: Ints, sizes: Ints) -> int:
    """Fill in the candidate sizes along m, n, k, 0-terminated, and return the number of tiles they make."""
    share, step = np.empty(4, np.int64), np.empty(3, np.int64)
    core_share(split, shape, share)
    granules(dataflow, core, step)
    tiles = 1
    for axis in range(3):
        size = share[3] if axis == 2 else share[axis]
        found = tile_sizes(size, step[axis], fixed[axis], sizes[axis, : MOST_SIZES - 1])
        sizes[axis, found] = 0
        tiles *= found
    return tiles


@njit(cache=True, nogil=True)
def may_win(low: float, moved: float, best: Floats, objective: int) -> bool:
    """Whether a candidate with this bound and traffic can beat the best so far."""
    return bool(low <= best[2] and better(low, moved, best[0], best[1], objective))


@njit(cache=True, nogil=True)
def keep_tiles(
    shape: Ints, numbers: Floats, split: Ints, sizes: Ints, s: int, dataflow: int, kept: Ints, found: int
) -> int:
    """Append (split, dataflow, m, n, k) of every tile that fits to kept[found:]; returns the new end."""
    share = np.empty(4, np.int64)
    core_share(split, shape, share)
    tile, counts = np.empty(3, np.int64), np.empty(3, np.int64)
    i = j = h = 0
    while sizes[0, i] > 0:
        tile[0], tile[1], tile[2] = sizes[0, i], sizes[1, j], sizes[2, h]
        h += 1
        if sizes[2, h] == 0:
            h, j = 0, j + 1
        if sizes[1, j] == 0:
            j, i = 0, i + 1
        counts[0], counts[1] = ceil_div(share[0], tile[0]), ceil_div(share[1], tile[1])
        counts[2] = ceil_div(share[3], tile[2])
        if fits(tile, counts, share[2], shape, numbers):
            kept[found, 0], kept[found, 1] = s, dataflow
            kept[found, 2:] = tile
            found += 1
    return found


@njit(cache=True, nogil=True)
def time_orders(
    shape: Ints, numbers: Floats, rates: Floats, core: Ints, splits: Ints, orders: Ints, candidate: Ints,
    bounds: Floats, objective: int, timing: int, best: Floats, lowest: Floats, answer: Ints,
) -> None:  # fmt: skip
    """Every order of one tile: timing 0 fills in their bounds and times the lowest as it falls; later passes time what
    may still win."""
    open_orders = 0
    for o in range(orders.shape[0]):
        open_orders += timing == 0 or may_win(bounds[o, 0], bounds[o, 1], best, objective)
    if open_orders == 0:
        return
    s, dataflow, tile = candidate[0], candidate[1], candidate[2:]
    share, often, counts = np.empty(4, np.int64), np.empty(3), np.empty(3, np.int64)
    core_share(splits[s], shape, share)
    multiplicity(share, shape, often)
    dims = np.array([share[0], share[1], share[3]])
    for axis in range(3):
        counts[axis] = ceil_div(dims[axis], tile[axis])
    tables, walk, sums = np.empty((T_SIZE, 8), np.int64), np.empty(W_SIZE, np.int64), np.empty(7, np.int64)
    fetched, seen, parts = np.empty(3, np.int64), np.empty((4, S_SIZE), np.int64), np.empty(4)
    make_tables(dataflow, tile, counts, dims, often, shape, numbers, rates, core, tables)
    sums_of(counts, tables, sums)
    for o in range(orders.shape[0]):
        if timing > 0 and not may_win(bounds[o, 0], bounds[o, 1], best, objective):
            continue
        make_walk(dataflow, orders[o], counts, tile, share, shape, numbers, core, fetched, walk)
        if timing == 0:
            low = bound_ps(sums, fetched, counts, tables, walk)
            bounds[o, 0], bounds[o, 1] = low, traffic_bytes(often, fetched, share, numbers, parts)
            answer[A_BOUNDED] += 1
            if not better(low, bounds[o, 1], lowest[0], lowest[1], objective):
                continue
            lowest[0], lowest[1] = low, bounds[o, 1]
        ps = pipeline_ps(orders[o], counts, tables, walk, seen)
        answer[A_TIMED] += 1
        if ps <= best[2] and better(ps, bounds[o, 1], best[0], best[1], objective):
            best[0], best[1] = ps, bounds[o, 1]
            answer[A_FOUND], answer[A_SPLIT], answer[A_DATAFLOW] = 1, s, dataflow
            answer[A_M], answer[A_N], answer[A_K] = tile[0], tile[1], tile[2]
            answer[A_ORDER], answer[A_PS] = o, ps
