"""What a shared cache still holds when a loop comes back to it."""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, nogil=True)
def hit_ratio(working_set: float, capacity: float) -> float:
    """Share of cyclic re-reads of `working_set` bytes that hit a randomly replaced cache of `capacity` bytes.

    Solves h = exp(-(1 - h) x) with x = working_set / capacity: while a line waits for its next use, (1 - h) x lines
    per line of capacity are brought in, and each evicts it with equal chance. h = 1 while everything fits.
    """
    if working_set <= capacity:
        return 1.0
    if capacity <= 0.0:
        return 0.0
    x = working_set / capacity
    if x > 40.0:
        return math.exp(-x)
    # Newton from below: g(h) = h - exp(-(1 - h) x) is concave, its smaller root is the one below 1
    h = math.exp(-x)
    for _ in range(40):
        e = math.exp(-(1.0 - h) * x)
        slope = 1.0 - x * e
        if slope <= 1e-9:
            break
        step = (h - e) / slope
        h -= step
        if abs(step) < 1e-9:
            break
    return min(max(h, 0.0), 1.0)


@njit(cache=True, nogil=True)
def overlapped(a: float, b: float, sharpness: float) -> float:
    """Time of two activities that overlap imperfectly: (a^q + b^q)^(1/q); a hard maximum as q grows."""
    high, low = max(a, b), min(a, b)
    if high <= 0.0:
        return 0.0
    return float(high * (1.0 + (low / high) ** sharpness) ** (1.0 / sharpness))
