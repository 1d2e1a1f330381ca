"""SCALE-Sim v2's cycles, scratchpad accesses and utilisation of products without stalls, in closed form.

Behaviour: SCALE-Sim v2 (22f88b1), which walks every cycle. Folds never overlap: each pays load, skew and drain, and
one on the edge costs as much as a full one.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute.scalesim.stream_kernels import ceil_div

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)
def report_all(cases: Ints, counts: Ints, shares: Floats) -> None:
    """Fill the reports of products that never stall.

    cases   (count, >= 6): dataflow (0 output-, 1 weight-, 2 input-stationary), rows, columns, m, n, k
    counts  (count, 5): folds, last cycle, words read of ifmap and filter, words written of ofmap
    shares  (count, 2): cells used by a fold, multiply-adds done of those possible, both means over the folds
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
        folds = row_folds * column_folds
        lines = load + streamed + rows + columns - 2
        counts[at, 0] = folds
        counts[at, 1] = folds * lines - 1
        if flow == 0:
            counts[at, 2], counts[at, 3] = m * k * column_folds, k * n * row_folds
            # Every fold adds the two sides of the array to the words it writes: the peer counts them so.
            counts[at, 4] = m * n + folds * (rows + columns)
        elif flow == 1:
            counts[at, 2], counts[at, 3], counts[at, 4] = m * k * column_folds, k * n, m * n * row_folds
        else:
            counts[at, 2], counts[at, 3], counts[at, 4] = m * k, k * n * column_folds, m * n * row_folds
        shares[at, 0] = held[0] * held[1] / (folds * rows * columns)
        # With stationary operands the peer takes a fold for `columns - 1` cycles longer than it lasts.
        taken = lines if flow == 0 else lines + columns - 1
        shares[at, 1] = shares[at, 0] * streamed / taken
