"""Two queues of memory accesses, one stream of grants: the arbiter in front of shared DRAM controllers."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.int64]
NEVER = 1 << 62


@njit(cache=True, nogil=True)
def arbitrate(host: Array, other: Array, interval: int, host_weight: int, out_time: Array, out_source: Array) -> None:
    """Grant every access of both queues, one each `interval`, and write when and whose each grant is.

    host, other  (n,), (m,) when the k-th access of a queue is there, ascending; any unit of time
    host_weight  of 1000 grants while both wait, those for the host: 1000 host first, 0 the other first
    out_time     (n + m,) written: time of each grant, ascending; out_source: 0 host, 1 the other
    """
    i = k = 0
    now, owed = 0, 0  # thousandths of a grant that the host has coming
    for at in range(host.size + other.size):
        first = host[i] if i < host.size else NEVER
        second = other[k] if k < other.size else NEVER
        now = max(now, min(first, second))
        if first <= now and second <= now:
            owed += host_weight
            source = 0 if owed >= 1000 else 1
            owed -= 1000 if source == 0 else 0
        else:
            source = 0 if first <= now else 1
        if source == 0:
            i += 1
        else:
            k += 1
        out_time[at], out_source[at] = now, source
        now += interval
