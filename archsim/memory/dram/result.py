"""What a memory run answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MEMORY_SCHEMA = "archsim.memory/1"


@dataclass(frozen=True)
class Latency:
    """Of reads (request to data) or writes (request to end of the burst), in ticks; all -1 where there are none."""

    count: int
    mean_ticks: float
    min_ticks: int
    p50_ticks: int
    p95_ticks: int
    p99_ticks: int
    max_ticks: int


def latency_of(values: NDArray[np.int64], counts: NDArray[np.int64]) -> Latency:
    """Statistics of latencies `values` (n,), ascending, that occurred `counts` (n,) > 0 times.

    Percentile p is sorted[int(p * (requests - 1) + 0.5)].
    """
    n = int(counts.sum())
    if n == 0:
        return Latency(0, -1.0, -1, -1, -1, -1, -1)
    places = np.searchsorted(np.cumsum(counts), [int(p * (n - 1) + 0.5) for p in (0.5, 0.95, 0.99)], side="right")
    p50, p95, p99 = (int(values[place]) for place in places)
    return Latency(n, int(values @ counts) / n, int(values[0]), p50, p95, p99, int(values[-1]))


@dataclass(frozen=True)
class CommandTrace:
    """Every command, in order of issue per channel: 1-D int64 arrays of equal length.

    Bank coordinates are -1 below the scope of an all-bank command; row and column are -1 where no request asked.
    """

    tick: NDArray[np.int64]
    command: NDArray[np.int64]
    names: tuple[str, ...]
    channel: NDArray[np.int64]
    coordinates: dict[str, NDArray[np.int64]]
    row: NDArray[np.int64]
    column: NDArray[np.int64]


@dataclass(frozen=True)
class RequestTrace:
    """Per request: byte address, write flag, end tick (int64; -1: merged into an earlier write)."""

    address: NDArray[np.int64]
    write: NDArray[np.int64]
    end_tick: NDArray[np.int64]


@dataclass(frozen=True)
class MemoryResult:
    """One run. Times in ticks of `tick_s` seconds; bandwidths in bytes per second; energies in joules.

    peak_bytes_per_s, pin_bytes_per_s  data of back-to-back bursts; the same with the metadata that travels in them
    bandwidth_stack  share of the peak: `data` and what the rest was lost to, adding up to 1
    energy_j         by command class and background, adding up to the total; empty where no source is known
    commands         command name -> times issued
    """

    device: str
    stream: str
    channels: int
    n_requests: int
    n_writes: int
    tx_bytes: int
    end_ticks: int
    tick_s: float
    time_s: float
    bandwidth_bytes_per_s: float
    peak_bytes_per_s: float
    pin_bytes_per_s: float
    share_of_peak: float
    read_latency: Latency
    write_latency: Latency
    row_hits: int
    row_misses: int
    row_conflicts: int
    forwarded_reads: int
    merged_writes: int
    commands: dict[str, int]
    bandwidth_stack: dict[str, float] = field(default_factory=dict)
    bound_by: str = ""
    energy_j: dict[str, float] = field(default_factory=dict)
    energy_source: str = ""
    energy_pj_per_bit: float | None = None
    not_modelled: tuple[str, ...] = ()
    trace: CommandTrace | None = None
    requests: RequestTrace | None = None
    schema: str = MEMORY_SCHEMA
