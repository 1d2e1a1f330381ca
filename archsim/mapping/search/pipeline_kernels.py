"""Cutting equal layers into pipeline stages on a row of devices: dynamic programming over (layers, devices)."""

from typing import Any

import numpy as np
from numba import njit

NEVER = np.int64(2) ** 62


@njit(cache=True, nogil=True)
def partition(
    stage_ps: Any, sizes: Any, node: int, hop_ps: Any, low: Any, high: Any, next_cut: Any, bound_ps: int, total: Any,
    back: Any,
) -> None:  # fmt: skip
    """Least sum of stage times and hops with no stage above `bound_ps`.

    stage_ps  (sizes, layers + 1, 2, 2) time of a stage by group size, layers, whether first, last; -1: impossible
    sizes     (sizes,) devices of a group
    node      devices of a node; a group lies in one node or takes whole nodes
    hop_ps    (sizes, 2) time to hand a micro-batch to a group from within its node, from another
    low, high (layers,) devices a layer's stage may use, [low, high)
    next_cut  (layers,) the first layer after this one in front of which a stage must begin, or `layers`
    total     (stages + 1, layers + 1, devices + 1) out: least sum for so many layers on the devices before this one;
              with one row of stages their number is free and row 0 is read and written
    back      (stages + 1, layers + 1, devices + 1, 3) out: size index, layers before, devices before
    """
    counted = total.shape[0] > 1
    layers, devices = total.shape[1] - 1, total.shape[2] - 1
    total[:] = NEVER
    back[:] = -1
    total[0, 0, 0] = 0
    for d in range(1, devices + 1):
        if d % node == 0 or d == devices:  # devices left idle at the end of a node
            _idle(total, back, d, node)
        for s in range(sizes.size):
            begin = d - sizes[s]
            if begin < 0 or not fits(begin, sizes[s], node):
                continue
            floor_first, ceiling_first = np.int64(0), np.int64(devices)
            for k in range(1, layers + 1):
                floor_first, ceiling_first = max(floor_first, low[k - 1]), min(ceiling_first, high[k - 1])
                if k <= next_cut[0] and begin >= floor_first and d <= ceiling_first:
                    time = stage_ps[s, k, 1, int(k == layers)]
                    if 0 <= time <= bound_ps:
                        _improve(total, back, k, d, 0, begin, time, s, counted)
                hop = hop_ps[s, int(begin % node == 0)]
                if hop > bound_ps:
                    continue
                floor, ceiling = np.int64(0), np.int64(devices)
                for j in range(k - 1, 0, -1):
                    floor, ceiling = max(floor, low[j]), min(ceiling, high[j])
                    time = stage_ps[s, k - j, 0, int(k == layers)]
                    if k > next_cut[j] or begin < floor or d > ceiling or time < 0 or time > bound_ps:
                        break  # a longer stage takes more time and memory and has the same limits
                    _improve(total, back, k, d, j, begin, time + hop, s, counted)


@njit(cache=True, nogil=True)
def fits(begin: int, size: int, node: int) -> bool:
    """Whether a group of `size` devices may start at `begin`: inside one node, or on whole nodes."""
    if size <= node:
        return begin // node == (begin + size - 1) // node
    return begin % node == 0 and size % node == 0


@njit(cache=True, nogil=True)
def _improve(
    total: Any, back: Any, k: int, d: int, j: int, begin: int, cost: int, size: int, counted: bool
) -> None:  # fmt: skip
    """Take the stage of layers [j, k) on devices [begin, d) where it helps, for every number of stages before it."""
    for before in range(total.shape[0] - 1 if counted else 1):
        p = before + 1 if counted else 0
        if total[before, j, begin] < NEVER and total[before, j, begin] + cost < total[p, k, d]:
            total[p, k, d] = total[before, j, begin] + cost
            back[p, k, d, 0], back[p, k, d, 1], back[p, k, d, 2] = size, j, begin


@njit(cache=True, nogil=True)
def _idle(total: Any, back: Any, d: int, node: int) -> None:
    first = (d - 1) // node * node
    for p in range(total.shape[0]):
        for k in range(total.shape[1]):
            for e in range(first, d):
                if total[p, k, e] < total[p, k, d]:
                    total[p, k, d] = total[p, k, e]
                    back[p, k, d, 0], back[p, k, d, 1], back[p, k, d, 2] = -2, k, e
