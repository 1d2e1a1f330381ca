"""The histogram of times between tokens."""

from __future__ import annotations

import numpy as np

from archsim.serving.state_kernels import GAP_BITS, Int, State, hot


@hot
def count_gap(s: State, gap: Int, weight: Int) -> None:
    """`weight` tokens came `gap` ns after the ones before them."""
    shift = 0
    while (gap >> shift) >= 2 << GAP_BITS:
        shift += 1
    s.gaps[(shift << GAP_BITS) + (gap >> shift)] += weight
    c = s.clock[0]
    c["gap_sum"] += np.float64(gap) * weight
    c["gap_count"] += weight
    if gap > c["gap_max"]:
        c["gap_max"] = gap
