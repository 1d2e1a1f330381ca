"""SCALE-Sim v2's cycles, scratchpad accesses and utilisation of products without stalls, in closed form.

Behaviour: SCALE-Sim v2 (22f88b1), which walks every cycle. Folds never overlap: each pays load, skew and drain, and
one on the edge costs as much as a full one.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute.scalesim.stream_kernels import ceil_div

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
LARGEST = 2.0**62


@njit(cache=True, nogil=True)
def first_fault(cases: Ints) -> tuple[int, int]:
    """Row and column of the first impossible number, column -1 for a product too large to count; (-1, -1) if none.

    cases   (count, 10): dataflow, rows, columns, m, n, k, words of three buffers, bandwidth (0: unlimited)
    """
    for at in range(len(cases)):
        for column in range(1, 10):
            lowest = 1 if column <= 5 else (2 if column < 9 and cases[at, 9] > 0 else 0)
            if cases[at, column] < lowest:
                return at, column
        rows, columns = float(cases[at, 1]), float(cases[at, 2])
        m, n, k = float(cases[at, 3]), float(cases[at, 4]), float(cases[at, 5])
        folds = (m / rows + 1.0) * (n / columns + 1.0) * (k / min(rows, columns) + 1.0)
        if max(m * n * k, folds * (m + n + k + 2.0 * rows + columns)) >= LARGEST:
            return at, -1
    return -1, -1


@njit(cache=True, nogil=True)
def report_all(cases: Ints, counts: Ints) -> None:
    """Fill the counts of products as if they never stalled.

    cases   (count, 10), as for `first_fault`; dataflow: 0 output-, 1 weight-, 2 input-stationary
    counts  (count, 10): folds, lines of a fold, words read of ifmap and filter, words written of ofmap, last cycle,
            stall cycles (0), DRAM words of ifmap, filter and ofmap (-1, unknown without a bandwidth)
    """
    for at in range(len(cases)):
        flow, rows, columns = cases[at, 0], cases[at, 1], cases[at, 2]
        m, n, k = cases[at, 3], cases[at, 4], cases[at, 5]
        if flow == 0:
            held, streamed, load = (m, n), k, 0
        elif flow == 1:
            held, streamed, load = (k, n), m, rows
        else:
            held, streamed, load = (k, m), n, rows
        row_folds, column_folds = ceil_div(held[0], rows), ceil_div(held[1], columns)
        folds, lines = row_folds * column_folds, load + streamed + rows + columns - 2
        if flow == 0:
            ifmap, filters = m * k * column_folds, k * n * row_folds
            # Every fold adds the two sides of the array to the words it writes: the peer counts them so.
            ofmap = m * n + folds * (rows + columns)
        elif flow == 1:
            ifmap, filters, ofmap = m * k * column_folds, k * n, m * n * row_folds
        else:
            ifmap, filters, ofmap = m * k, k * n * column_folds, m * n * row_folds
        counts[at, 0], counts[at, 1] = folds, lines
        counts[at, 2], counts[at, 3], counts[at, 4] = ifmap, filters, ofmap
        counts[at, 5], counts[at, 6] = folds * lines - 1, 0
        counts[at, 7], counts[at, 8], counts[at, 9] = -1, -1, -1


@njit(cache=True, nogil=True)
def share_all(cases: Ints, counts: Ints, shares: Floats) -> None:
    """Fill `shares` (count, 3): multiply-adds of those possible until the last cycle, cells that hold an operand and
    multiply-adds of those possible without stalls; the last two are means over the folds.
    """
    for at in range(len(cases)):
        flow, rows, columns = cases[at, 0], cases[at, 1], cases[at, 2]
        m, n, k = cases[at, 3], cases[at, 4], cases[at, 5]
        work, cells = float(m) * n * k, float(rows) * columns
        # A single multiply-add on a single cell ends in cycle 0, where the peer divides by zero.
        shares[at, 0] = work / (counts[at, 5] * cells) if counts[at, 5] else math.inf
        held = m * n if flow == 0 else (k * n if flow == 1 else k * m)
        shares[at, 1] = held / (counts[at, 0] * cells)
        # With stationary operands the peer takes a fold for `columns - 1` cycles longer than it lasts.
        lines = counts[at, 1] if flow == 0 else counts[at, 1] + columns - 1
        shares[at, 2] = work / (counts[at, 0] * cells * lines)
