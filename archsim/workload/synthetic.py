"""Requests drawn at random. Every draw comes from the generator that is passed in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.requests import (
    ConstantArrivals,
    FixedLength,
    GammaArrivals,
    LognormalLength,
    PoissonArrivals,
    UniformLength,
)


def draw_arrivals(
    process: PoissonArrivals | GammaArrivals | ConstantArrivals, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Arrival times in seconds, shape (count,); the first request arrives after the first gap (constant: at 0)."""
    if isinstance(process, ConstantArrivals):
        return np.arange(count, dtype=np.float64) * process.gap
    if isinstance(process, GammaArrivals):
        shape = process.cv**-2.0  # cv of a gamma variable is 1 / sqrt(shape)
        return np.cumsum(rng.gamma(shape, 1.0 / (process.rate * shape), count))
    return np.cumsum(rng.exponential(1.0 / process.rate, count))


def draw_lengths(
    length: FixedLength | UniformLength | LognormalLength, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Lengths in tokens, shape (count,)."""
    if isinstance(length, FixedLength):
        return np.full(count, length.tokens, dtype=np.int64)
    if isinstance(length, UniformLength):
        return rng.integers(length.low, length.high, count, endpoint=True)
    drawn = np.rint(rng.lognormal(np.log(length.median), length.sigma, count))
    return np.clip(drawn, length.low, length.high).astype(np.int64)
