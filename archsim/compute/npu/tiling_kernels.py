"""A tiled product: the durations of its steps, its traffic, and a bound on its time.

Vectors of a problem: `shape` (D_*, integers), `numbers` (F_*, floats), `rates` (5, RATES) ps per byte by the floor of
log2 of the contiguous run: reads of A and B, writes of C, reads and writes of spilled sums (always in sequence).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute.npu.array_kernels import (
    ceil_div,
    drain_cycles,
    entering,
    fill_cycles,
    tile_cycles,
)
from archsim.compute.npu.pipeline_kernels import (
    T_COMPUTE,
    T_CONVERT,
    T_LOAD_A,
    T_LOAD_B,
    T_LOAD_C,
    T_RESULT,
    T_SPILL,
    T_STORE,
    W_DOUBLE,
    W_DRAIN,
    W_FILL,
    W_LATENCY,
    W_PRODUCTS,
    W_SPILLS,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RATES = 48
READ_A, READ_B, WRITE_C, READ_SUMS, WRITE_SUMS = 0, 1, 2, 3, 4
# ---- the problem: product, number of products, 0/1: double buffers, loads multicast to the cores that share them,
# A and B and C stored tile by tile (else row by row)
D_M, D_N, D_K, D_PRODUCTS, D_DOUBLE, D_MULTICAST, D_TILED_A, D_TILED_B, D_TILED_C, D_SIZE = range(10)
# ---- bytes of elements and of a partial sum; capacities of a core; ps of a cycle, of the first access, of the vector
# unit per converted weight and per result element; shares of A and C that go off chip; ps of a core's converters per
# weight that enters an array (0: none)
(F_A, F_B, F_C, F_SUM, F_SCRATCHPAD, F_ACCUMULATOR, F_CYCLE, F_LATENCY, F_CONVERT, F_RESULT, F_SHARE_A, F_SHARE_C,
 F_ENTER, F_SIZE) = range(14)  # fmt: skip


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
        compute = max(
            tile_cycles(dataflow, m, n, k, core) * numbers[F_CYCLE],
            entering(dataflow, m, n, k, core) * numbers[F_ENTER],
        )  # fmt: skip
        tables[T_COMPUTE, code] = np.int64(np.ceil(compute))
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
