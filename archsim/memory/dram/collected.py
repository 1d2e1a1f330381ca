"""What an engine run leaves behind, with its latencies as histograms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay

Array = NDArray[np.int64]
_COMMON = 1 << 13  # latencies below are counted in an array; those of writes that wait for long are far apart


class Histogram:
    """How often each latency (ticks) occurred."""

    def __init__(self) -> None:
        self._common = np.zeros(_COMMON, np.int64)
        self._rare = np.zeros((2, 0), np.int64)

    def add(self, latencies: Array, times: Array | None = None) -> None:
        """Count latencies, each once or `times` times."""
        if latencies.size == 0:
            return
        if latencies.max() >= _COMMON:
            rare = latencies >= _COMMON
            self._add_rare(latencies[rare], np.ones(rare.sum(), np.int64) if times is None else times[rare])
            latencies, times = latencies[~rare], None if times is None else times[~rare]
        self._common += np.bincount(latencies, times, _COMMON).astype(np.int64)

    def _add_rare(self, latencies: Array, times: Array) -> None:
        values, place = np.unique(np.concatenate((self._rare[0], latencies)), return_inverse=True)
        counts = np.bincount(place, np.concatenate((self._rare[1], times)), values.size)
        self._rare = np.stack((values, counts.astype(np.int64)))

    @property
    def common(self) -> Array:
        """Number of each latency that is not long, to count in directly."""
        return self._common

    def add_long(self, latencies: Array) -> None:
        """Count those of `latencies` that `common` has no place for."""
        self.add(latencies[latencies >= _COMMON])

    def join(self, other: Histogram) -> None:
        """Add another one."""
        self._common = self._common + other._common
        self._add_rare(*other._rare)

    def table(self) -> tuple[Array, Array]:
        """Latencies that occurred, in order, and how often."""
        common = np.flatnonzero(self._common)
        return np.concatenate((common, self._rare[0])), np.concatenate((self._common[common], self._rare[1]))


@dataclass
class Collected:
    """What a run leaves behind; times in ticks.

    reads, writes                    latencies
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
    reads: Histogram = field(default_factory=lambda: Histogram())
    writes: Histogram = field(default_factory=lambda: Histogram())
    commands: list[Array] = field(default_factory=list)
    requests: list[Array] = field(default_factory=list)
    open_ticks: int = 0

    def add(self, other: Collected) -> None:
        """Join the result of another channel."""
        self.end = max(self.end, other.end)
        self.counts = self.counts + other.counts
        for name in ("hits", "misses", "conflicts", "forwarded", "merged", "n_requests", "n_writes", "open_ticks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reads.join(other.reads)
        self.writes.join(other.writes)
        self.commands += other.commands
        self.requests += other.requests
