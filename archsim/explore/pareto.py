"""Non-dominated sorting: which points are not beaten in everything at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def front_ranks(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each row of `losses` (points, objectives; smaller is better): 0 is the Pareto front, 1 the next, ...

    A row dominates another if it is nowhere worse and somewhere better; equal rows share a rank. Rows with a NaN get
    -1. Method: rows in lexicographic order go to the first front none of whose rows dominates them (Zhang et al.,
    "An Efficient Approach to Nondominated Sorting", 2015), found by bisection.
    """
    ranks = np.full(len(losses), -1, dtype=np.int64)
    usable = np.flatnonzero(~np.isnan(losses).any(axis=1))
    order = usable[np.lexsort(losses[usable].T[::-1])]
    fronts: list[_Front] = []
    for row in order:
        low, high = 0, len(fronts)
        while low < high:  # if a front dominates the row, so does every front before it
            middle = (low + high) // 2
            if fronts[middle].dominates(losses[row]):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append(_Front(losses.shape[1]))
        fronts[low].add(losses[row])
        ranks[row] = low
    return ranks


class _Front:
    """The rows of one front in an array that grows by doubling."""

    def __init__(self, objectives: int) -> None:
        self._rows, self._used = np.empty((16, objectives)), 0

    def dominates(self, row: NDArray[np.float64]) -> bool:
        """Whether a row of this front is nowhere worse than `row` and somewhere better."""
        rows = self._rows[: self._used]
        return bool(((rows <= row).all(axis=1) & (rows < row).any(axis=1)).any())

    def add(self, row: NDArray[np.float64]) -> None:
        """Take `row` in."""
        if self._used == len(self._rows):
            self._rows = np.vstack([self._rows, np.empty_like(self._rows)])
        self._rows[self._used] = row
        self._used += 1
