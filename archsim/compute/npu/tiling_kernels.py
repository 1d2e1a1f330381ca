"""Every legal tiling of a product: its step durations, a bound on its time, and the search for the best.

Vectors of a problem: `shape` (D_*, integers), `numbers` (F_*, floats), `rates` (5, RATES) ps per byte by the floor of
log2 of the contiguous run: reads of A and B, writes of C, reads and writes of spilled sums (always in sequence).
"""

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
    drain_cycles,
    fill_cycles,
    tile_cycles,
)
from archsim.compute.npu.pipeline_kernels import (
    S_SIZE,
    T_COMPUTE,
    T_CONVERT,
    T_LOAD_A,
    T_LOAD_B,
    T_LOAD_C,
    T_RESULT,
    T_SIZE,
    T_SPILL,
    T_STORE,
    W_DOUBLE,
    W_DRAIN,
    W_FILL,
    W_LATENCY,
    W_PRODUCTS,
    W_SIZE,
    W_SPILLS,
    pipeline_ps,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RATES = 48
READ_A, READ_B, WRITE_C, READ_SUMS, WRITE_SUMS = 0, 1, 2, 3, 4
# ---- the problem: product, number of products, 0/1: double buffers, loads multicast to the cores that share them,
# A and B and C stored tile by tile (else row by row)
D_M, D_N, D_K, D_PRODUCTS, D_DOUBLE, D_MULTICAST, D_TILED_A, D_TILED_B, D_TILED_C, D_SIZE = range(10)
# ---- bytes of elements and of a partial sum; capacities of a core; ps of a cycle, of the first access, of the vector
# unit per converted weight and per result element; shares of A and C that go off chip
(F_A, F_B, F_C, F_SUM, F_SCRATCHPAD, F_ACCUMULATOR, F_CYCLE, F_LATENCY, F_CONVERT, F_RESULT, F_SHARE_A, F_SHARE_C,
 F_SIZE) = range(13)  # fmt: skip
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
def run_class(run_bytes: float) -> int:
    """Row of a rate table for a contiguous run."""
    found = 0
    while run_bytes >= 2.0 and found < RATES - 1:
        run_bytes *= 0.5
        found += 1
    return found


@njit(cache=True, nogil=True)
def moved_ps(rows: int, columns: int, width: int, element: float, tiled: int, rate: Floats) -> float:
    """ps to move a tile of rows x columns out of a matrix whose rows hold `width` elements."""
    run = columns * element
    if tiled == 1 or columns == width:
        run *= rows
    return float(rows * columns * element * rate[run_class(run)])


@njit(cache=True, nogil=True)
def multiplicity(share: Ints, shape: Ints, out: Floats) -> None:
    """How often a core's A, B and C tile is moved, over all cores together (cores work in lock step)."""
    along_m, along_n = shape[D_M] / share[0], shape[D_N] / share[1]
    copies = shape[D_PRODUCTS] / share[2]
    alone = 0.0 if shape[D_MULTICAST] == 1 else 1.0
    out[0] = along_m * copies * max(1.0, alone * along_n)
    out[1] = along_n * copies * max(1.0, alone * along_m)
    out[2] = along_m * along_n * copies


@njit(cache=True, nogil=True)
def make_tables(
    dataflow: int, tile: Ints, counts: Ints, share: Ints, often: Floats, shape: Ints, numbers: Floats, rates: Floats,
    core: Ints, tables: Ints,
) -> None:  # fmt: skip
    """Durations of every kind of step, see archsim.compute.npu.pipeline_kernels."""
    size = np.empty(3, np.int64)
    for code in range(8):
        known = True
        for axis in range(3):
            size[axis] = tile[axis]
            if code & (4 >> axis):
                size[axis] = share[axis] - (counts[axis] - 1) * tile[axis]
                known = known and counts[axis] > 1
        if not known:
            tables[:, code] = 0
            continue
        m, n, k = size[0], size[1], size[2]
        a = moved_ps(m, k, shape[D_K], numbers[F_A], shape[D_TILED_A], rates[READ_A]) * often[0] * numbers[F_SHARE_A]
        b = moved_ps(k, n, shape[D_N], numbers[F_B], shape[D_TILED_B], rates[READ_B]) * often[1]
        c = moved_ps(m, n, shape[D_N], numbers[F_C], shape[D_TILED_C], rates[WRITE_C]) * often[2] * numbers[F_SHARE_C]
        sums = m * n * numbers[F_SUM] * often[2]
        tables[T_COMPUTE, code] = np.int64(np.ceil(tile_cycles(dataflow, m, n, k, core) * numbers[F_CYCLE]))
        tables[T_LOAD_A, code], tables[T_LOAD_B, code] = np.int64(np.ceil(a)), np.int64(np.ceil(b))
        tables[T_STORE, code] = np.int64(np.ceil(c))
        tables[T_LOAD_C, code] = np.int64(np.ceil(sums * rates[READ_SUMS, RATES - 1]))
        tables[T_SPILL, code] = np.int64(np.ceil(sums * rates[WRITE_SUMS, RATES - 1]))
        tables[T_RESULT, code] = np.int64(np.ceil(m * n * numbers[F_RESULT]))
        tables[T_CONVERT, code] = np.int64(np.ceil(k * n * numbers[F_CONVERT]))


@njit(cache=True, nogil=True)
def fetches(order: Ints, counts: Ints, out: Ints) -> None:
    """How often each tile of A, B, C is brought: as often as the axis it does not have is walked outside of another."""
    for operand in range(3):
        axis = 1 - operand if operand < 2 else 2  # A lacks n, B lacks m, C lacks k
        inside = False
        out[operand] = 1
        for level in range(2, -1, -1):
            if order[level] == axis:
                out[operand] = counts[axis] if inside else 1
                break
            inside = inside or counts[order[level]] > 1


@njit(cache=True, nogil=True)
def steps_of(counts: Ints, code: int) -> int:
    """Steps with an edge code in one product."""
    steps = 1
    for axis in range(3):
        if counts[axis] == 1:
            steps *= 0 if code & (4 >> axis) else 1
        elif not code & (4 >> axis):
            steps *= counts[axis] - 1
    return steps


@njit(cache=True, nogil=True)
def sums_of(counts: Ints, tables: Ints, out: Ints) -> None:
    """Per product, over the steps: compute; loads of A, of B, stores, spills and reloads of C if moved once; vector."""
    out[:] = 0
    for code in range(8):
        steps = steps_of(counts, code)
        if steps == 0:
            continue
        out[0] += steps * tables[T_COMPUTE, code]
        if not code & 2:
            out[1] += steps_of_two(counts, code, 0, 2) * tables[T_LOAD_A, code]
        if not code & 4:
            out[2] += steps_of_two(counts, code, 1, 2) * tables[T_LOAD_B, code]
            out[5] += steps_of_two(counts, code, 1, 2) * tables[T_CONVERT, code]
        if not code & 1:
            pairs = steps_of_two(counts, code, 0, 1)
            out[3] += pairs * tables[T_STORE, code]
            out[4] += pairs * (tables[T_SPILL, code] + tables[T_LOAD_C, code])
            out[6] += pairs * tables[T_RESULT, code]


@njit(cache=True, nogil=True)
def steps_of_two(counts: Ints, code: int, first: int, second: int) -> int:
    """Tiles of a matrix with two axes that have the edge code."""
    tiles = 1
    for axis in (first, second):
        if not code & (4 >> axis):
            tiles *= max(1, counts[axis] - 1)
    return tiles


@njit(cache=True, nogil=True)
def traffic_bytes(often: Floats, fetched: Ints, share: Ints, numbers: Floats, out: Floats) -> float:
    """Off-chip bytes over all cores: out = reads of A, of B, writes of C, spills with reloads. Returns the sum."""
    m, n, k, products = float(share[0]), float(share[1]), float(share[3]), float(share[2])
    out[0] = m * k * numbers[F_A] * fetched[0] * often[0] * products * numbers[F_SHARE_A]
    out[1] = k * n * numbers[F_B] * fetched[1] * often[1] * products
    out[2] = m * n * numbers[F_C] * often[2] * products * numbers[F_SHARE_C]
    out[3] = 2.0 * m * n * numbers[F_SUM] * (fetched[2] - 1) * often[2] * products
    return float(out[0] + out[1] + out[2] + out[3])


@njit(cache=True, nogil=True)
def make_walk(
    dataflow: int, order: Ints, counts: Ints, tile: Ints, share: Ints, shape: Ints, numbers: Floats, core: Ints,
    fetched: Ints, walk: Ints,
) -> None:  # fmt: skip
    """The walk vector of archsim.compute.npu.pipeline_kernels."""
    fetches(order, counts, fetched)
    walk[W_PRODUCTS], walk[W_DOUBLE] = share[2], shape[D_DOUBLE]
    walk[W_SPILLS] = 1 if fetched[2] > 1 else 0
    walk[W_LATENCY] = np.int64(np.ceil(numbers[F_LATENCY]))
    walk[W_FILL] = np.int64(np.ceil(fill_cycles(dataflow, core) * numbers[F_CYCLE]))
    m = share[0] - (counts[0] - 1) * tile[0]
    n = share[1] - (counts[1] - 1) * tile[1]
    k = share[3] - (counts[2] - 1) * tile[2]
    walk[W_DRAIN] = np.int64(np.ceil(drain_cycles(dataflow, m, n, k, core) * numbers[F_CYCLE]))


@njit(cache=True, nogil=True)
def bound_ps(sums: Ints, fetched: Ints, counts: Ints, tables: Ints, walk: Ints) -> int:
    """A time that no schedule beats: first load, all compute and last store; all traffic; all vector work."""
    products = walk[W_PRODUCTS]
    last = 0
    for axis in range(3):
        last += (4 >> axis) if counts[axis] > 1 else 0
    first_load = tables[T_LOAD_A, 0] + tables[T_LOAD_B, 0] + tables[T_CONVERT, 0]
    ends = tables[T_RESULT, last] + tables[T_STORE, last]
    computed = first_load + walk[W_FILL] + products * sums[0] + walk[W_DRAIN] + ends
    moved = sums[1] * fetched[0] + sums[2] * fetched[1] + sums[3] + sums[4] * (fetched[2] - 1)
    vector = products * (sums[5] * fetched[1] + sums[6])
    return int(walk[W_LATENCY] + max(computed, products * moved, vector))


@njit(cache=True, nogil=True)
def core_share(split: Ints, shape: Ints, out: Ints) -> None:
    """The largest share of one core: m, n, products, k."""
    out[0], out[1] = ceil_div(shape[D_M], split[0]), ceil_div(shape[D_N], split[1])
    out[2], out[3] = ceil_div(shape[D_PRODUCTS], split[2]), shape[D_K]


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
