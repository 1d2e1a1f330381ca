"""Cycles of one tile on the systolic arrays of a core.

`core` is a vector of integers (C_*). A tile larger than an array is cut into folds: the part of the product that the
cells hold at once. Dataflows name the operand that stays in the cells.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# ---- dataflows; TREES is the second matrix engine some machines have
OUTPUT_STATIONARY, WEIGHT_STATIONARY, INPUT_STATIONARY, TREES = 0, 1, 2, 3
# ---- the core: array size, arrays, 0/1 options, reduction elements a cell takes per cycle (or passes it needs for
# one), multiply-adds per cycle of the trees
C_ROWS, C_COLUMNS, C_ARRAYS, C_PRELOAD, C_OVERLAP, C_PACK, C_PASSES, C_TREES, C_SIZE = range(9)


@njit(cache=True, nogil=True)
def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


@njit(cache=True, nogil=True)
def fold_count(dataflow: int, m: int, n: int, k: int, core: Ints) -> int:
    """Folds of an (m, k) x (k, n) product."""
    rows, columns = core[C_ROWS], core[C_COLUMNS]
    if dataflow == OUTPUT_STATIONARY:
        return int(ceil_div(m, rows) * ceil_div(n, columns))
    held = n if dataflow == WEIGHT_STATIONARY else m
    return int(ceil_div(ceil_div(k, core[C_PACK]), rows) * ceil_div(held, columns))


@njit(cache=True, nogil=True)
def fold_stream(dataflow: int, m: int, n: int, k: int, core: Ints) -> int:
    """Elements that pass each row or column of the array in a fold, cycles."""
    if dataflow == OUTPUT_STATIONARY:
        return int(ceil_div(k, core[C_PACK]))
    return int(m if dataflow == WEIGHT_STATIONARY else n)


@njit(cache=True, nogil=True)
def entering(dataflow: int, m: int, n: int, k: int, core: Ints) -> int:
    """Elements of the second operand that enter the arrays for a tile: once per fold along the rows of results."""
    if dataflow == WEIGHT_STATIONARY:
        return k * n
    return int(k * n * ceil_div(m, core[C_COLUMNS] if dataflow == INPUT_STATIONARY else core[C_ROWS]))


@njit(cache=True, nogil=True)
def fold_period(dataflow: int, stream: int, core: Ints) -> int:
    """Cycles from the start of a fold to that of the next.

    With preload the next stationary values enter (finished sums leave) their second register while this fold streams,
    through `rows` cells; without, the array waits for them. Without overlap the skew of rows + columns - 2 is paid
    by every fold, which makes SCALE-Sim's array (a set of sums then leaves with the skew).
    """
    rows = core[C_ROWS]
    if core[C_OVERLAP] == 1:
        return int(max(stream, rows) if core[C_PRELOAD] == 1 else stream + rows)
    load = 0 if core[C_PRELOAD] == 1 or dataflow == OUTPUT_STATIONARY else rows
    return int(stream + load + rows + core[C_COLUMNS] - 2)


@njit(cache=True, nogil=True)
def tile_cycles(dataflow: int, m: int, n: int, k: int, core: Ints) -> int:
    """Cycles of an (m, k) x (k, n) tile between other tiles, its folds dealt out over the core's arrays.

    Where folds are fewer than arrays, several arrays share a fold and each takes a part of its stream (not with
    outputs stationary, whose stream is the reduction).
    """
    if dataflow == TREES:
        return int(ceil_div(m * n * k * core[C_PASSES], core[C_TREES] * core[C_PACK]))
    folds, arrays = fold_count(dataflow, m, n, k, core), core[C_ARRAYS]
    stream = fold_stream(dataflow, m, n, k, core)
    if dataflow != OUTPUT_STATIONARY and folds < arrays:
        stream = ceil_div(stream, arrays // folds)
    return int(ceil_div(folds, arrays) * fold_period(dataflow, stream, core) * core[C_PASSES])


@njit(cache=True, nogil=True)
def fill_cycles(dataflow: int, core: Ints) -> int:
    """Extra cycles before the first tile: the first stationary values have nothing to hide behind."""
    if dataflow in (TREES, OUTPUT_STATIONARY) or core[C_PRELOAD] == 0:
        return 0
    return int(core[C_ROWS])


@njit(cache=True, nogil=True)
def drain_cycles(dataflow: int, m: int, n: int, k: int, core: Ints) -> int:
    """Extra cycles after the last tile, of m x n x k: the skew; but nothing follows its last fold in the array."""
    if dataflow == TREES or core[C_OVERLAP] == 0:
        return 0
    stream = fold_stream(dataflow, m, n, k, core)
    folds, arrays = fold_count(dataflow, m, n, k, core), core[C_ARRAYS]
    if dataflow != OUTPUT_STATIONARY and folds < arrays:
        stream = ceil_div(stream, arrays // folds)
    waited = fold_period(dataflow, stream, core) - stream
    return int(core[C_ROWS] + core[C_COLUMNS] - 2 - (waited if core[C_PRELOAD] == 1 else 0))
