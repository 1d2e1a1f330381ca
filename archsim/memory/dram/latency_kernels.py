"""Counting the latencies that a run puts out."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def count_latencies(latencies: NDArray[np.int64], reads: NDArray[np.int64], writes: NDArray[np.int64]) -> int:
    """Count each latency, those of writes given as negative numbers; returns how many were too long to be counted.

    reads, writes  (n,) number of requests of each latency below n
    """
    far = 0
    n = reads.size
    for latency in latencies:
        if latency >= n or latency <= -n:
            far += 1
        elif latency >= 0:
            reads[latency] += 1
        else:
            writes[-latency] += 1
    return far
