"""Regular stretches of a stream: request i goes where request i - p went, or a fixed step away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
PLACE = ~0xFFF  # a packed location without its column
_LONGEST_PERIOD, _LONGEST_LOOK, _SHORTEST_RUN, _STEP, _SHORT_STEP = 64, 1024, 48, 64, 16


@inner
def row_of(location: int) -> int:
    """The row of a packed location."""
    return int((location >> lay.LOC_ROW) & 0xFFFFFFFF)


@outlined
def _behind_writes(locations: Array, at: int, end: int) -> int:
    """The first place from `at` on before which a write ends, if one comes soon."""
    i = start = at
    while i < min(start + _SHORTEST_RUN, end):
        if locations[i & lay.AT] >> lay.LOC_WRITE:
            start = i + 1
        i += 1
    return start


@outlined
def _end_of_run(locations: Array, at: int, end: int, p: int) -> int:
    step = (locations[(at + p) & lay.AT] & PLACE) - (locations[at & lay.AT] & PLACE)
    i = at + p
    while i < end and (locations[i & lay.AT] & PLACE) - (locations[(i - p) & lay.AT] & PLACE) == step:
        i += 1
    return i


@outlined
def find_run(s: Array, locations: Array, number: int) -> bool:
    """Look for a regular stretch that begins at request `number`, or after a write that comes soon.

    Sets G_RUN_START to the first request of it that goes to the lowest place of a period, so that stretches that are
    alike start alike, and G_RUN_END, G_PERIOD and the lengths of steps.
    """
    first, n = s[lay.G_CHUNK0], s[lay.G_CHUNK1] - s[lay.G_CHUNK0]
    at = _behind_writes(locations, number - first, n)
    end = min(n, at + _LONGEST_LOOK)
    for p in range(1, _LONGEST_PERIOD + 1):
        if at + 2 * p + _SHORTEST_RUN > end:
            break
        i = _end_of_run(locations, at, end, p)
        if i - at < 2 * p + _SHORTEST_RUN // 2 or i - at < _SHORTEST_RUN:
            continue
        lowest = at
        for k in range(at + 1, at + p):
            if locations[k & lay.AT] & PLACE < locations[lowest & lay.AT] & PLACE:
                lowest = k
        s[lay.G_PERIOD], s[lay.G_RUN_START], s[lay.G_RUN_END] = p, first + lowest, first + i
        s[lay.G_STEP] = p * ((_STEP * s[lay.G_CHANNELS] + p - 1) // p)
        s[lay.G_SHORT_STEP] = p * ((_SHORT_STEP * s[lay.G_CHANNELS] + p - 1) // p)
        return True
    return False
