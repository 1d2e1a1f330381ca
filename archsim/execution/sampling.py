"""The mean over a range of KV lengths from few of them, with a bound on what was left out.

Between two simulated lengths a < b the step time is taken as a line. If it changes monotonically in between, the sum
over the lengths a+1 .. b-1 is off by at most |f(b) - f(a)| / 2 for each of them; the lengths are halved where that
bound is largest until the total is below the tolerance.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FIRST_INTERVALS = 4


@dataclass(frozen=True)
class Sampled:
    """Which lengths stand for a range.

    lengths (samples,) ascending; weights (samples,) adding up to one; error: bound on the mean's relative error.
    """

    lengths: NDArray[np.int64]
    weights: NDArray[np.float64]
    error: float


def sample_lengths(
    first: int, last: int, step_s: Callable[[int], float], tolerance: float, intervals: int = FIRST_INTERVALS
) -> Sampled:
    """Choose lengths in first..last (inclusive) so that the weighted mean of `step_s` is within `tolerance` (relative).

    tolerance 0 takes every length. `step_s` is called once a length; `intervals` are halved until the bound is met.
    """
    if tolerance <= 0 or last - first < 2:
        lengths = np.arange(first, last + 1)
        return Sampled(lengths, np.full(lengths.size, 1.0 / lengths.size), 0.0)
    grid = np.unique(np.linspace(first, last, intervals + 1).round().astype(np.int64))
    times = {int(length): step_s(int(length)) for length in grid}
    queue: list[tuple[float, int, int]] = []
    for a, b in pairwise(grid):
        heapq.heappush(queue, (-_doubt(times, int(a), int(b)), int(a), int(b)))
    while True:
        lengths, weights = _trapezoid(sorted(times))
        mean = float(np.dot(weights, [times[int(length)] for length in lengths]))
        error = sum(-doubt for doubt, _, _ in queue) / (last - first + 1) / mean
        if error <= tolerance:
            return Sampled(lengths, weights, error)
        _, a, b = heapq.heappop(queue)
        middle = (a + b) // 2
        times[middle] = step_s(middle)
        for low, high in ((a, middle), (middle, b)):
            heapq.heappush(queue, (-_doubt(times, low, high), low, high))


def _doubt(times: dict[int, float], a: int, b: int) -> float:
    """Bound on the error of the sum over the lengths strictly between a and b."""
    return abs(times[b] - times[a]) / 2.0 * (b - a - 1)


def _trapezoid(lengths: list[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Weights of the mean over every integer from the first to the last length of the piecewise linear function."""
    points = np.array(lengths, dtype=np.int64)
    weights = np.ones(points.size)
    inner = np.diff(points) - 1  # integers strictly between; their values average the two ends
    weights[:-1] += inner / 2.0
    weights[1:] += inner / 2.0
    return points, weights / weights.sum()
