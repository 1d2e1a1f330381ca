"""What an engine run leaves behind, and the histograms it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay

Array = NDArray[np.int64]


@dataclass
class Collected:
    """What a run leaves behind; times in ticks.

    read_histogram, write_histogram  latency -> number of requests
    commands                         list of (n, 7) trace blocks (see stack_kernels.attribute)
    requests                         list of (n, 2) blocks: request number, end tick
    open_ticks                       ticks in which a rank (or pseudo channel) has an open row, summed over all of them
    """

    end: int = 0
    counts: Array = field(default_factory=lambda: np.zeros(lay.N_COMMANDS, np.int64))
    hits: int = 0
    misses: int = 0
    conflicts: int = 0
    forwarded: int = 0
    merged: int = 0
    n_requests: int = 0
    n_writes: int = 0
    read_histogram: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    write_histogram: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    commands: list[Array] = field(default_factory=list)
    requests: list[Array] = field(default_factory=list)
    open_ticks: int = 0

    def add(self, other: Collected) -> None:
        """Join the result of another channel."""
        self.end = max(self.end, other.end)
        self.counts = self.counts + other.counts
        for name in ("hits", "misses", "conflicts", "forwarded", "merged", "n_requests", "n_writes", "open_ticks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.read_histogram = join(self.read_histogram, other.read_histogram)
        self.write_histogram = join(self.write_histogram, other.write_histogram)
        self.commands += other.commands
        self.requests += other.requests


def add_values(histogram: Array, values: Array) -> Array:
    """Count each of `values` in a histogram."""
    if values.size == 0:
        return histogram
    return join(histogram, np.bincount(values, minlength=histogram.size).astype(np.int64))


def repeated(latencies: Array, repeats: Array) -> Array:
    """Histogram of ranges of latencies: rows (first, number, times)."""
    values = np.concatenate([latencies[first : first + n] for first, n, _ in repeats])
    return np.bincount(values, np.repeat(repeats[:, 2], repeats[:, 1])).astype(np.int64)


def join(first: Array, second: Array) -> Array:
    """Sum of two histograms of any lengths."""
    if first.size < second.size:
        first, second = second, first
    joined = first.copy()
    joined[: second.size] += second
    return joined
