"""The front end by itself."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def offered_at(
    times: NDArray[np.int64],
    gap: float,
    first: int,
    budget: int,
    front: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """Clocks at which the front end offers requests that no queue refuses.

    times   (n,) earliest clock of each request, or empty
    gap     request i is not offered before clock i * gap
    first   number of the first request
    budget  requests offered in one clock at most
    front   (2,) the clock reached and the requests offered in it, kept from chunk to chunk
    out     (n,) clocks
    """
    t, used = front[0], front[1]
    for k in range(out.size):
        if used >= budget:
            t, used = t + 1, 0
        if times.size > 0 and t < times[k]:
            t, used = times[k], 0
        if gap > 0.0:
            due = int(np.ceil((first + k) * gap))
            if t < due:
                t, used = due, 0
        out[k] = t
        used += 1
    front[0], front[1] = t, used
