"""What the DMA engine sees of the off-chip memory: plain tables, made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RUN_CLASSES = 48  # contiguous runs of 1 B, 2 B, 4 B, ...


class MemoryPath(Protocol):
    """Rates of an off-chip memory by access pattern."""

    @property
    def latency_s(self) -> float:
        """From a request to an idle memory to its data."""

    @property
    def joules_per_byte(self) -> float | None:
        """Energy of a sequential byte; None where the memory's description has no currents."""

    @property
    def key(self) -> str:
        """Text that names everything the tables depend on."""

    def seconds_per_byte(self, pitch_bytes: float, write: bool) -> NDArray[np.float64]:
        """(RUN_CLASSES,) for runs of 2**i bytes whose starts are `pitch_bytes` apart; 0: one long run."""


@dataclass(frozen=True)
class FlatMemory:
    """Every pattern runs at the same bandwidth."""

    bandwidth_bytes_per_s: float
    latency_s: float
    joules_per_byte: float | None = None

    @property
    def key(self) -> str:
        """See MemoryPath."""
        return f"flat {self.bandwidth_bytes_per_s!r} {self.latency_s!r}"

    def seconds_per_byte(self, pitch_bytes: float, write: bool) -> NDArray[np.float64]:
        """See MemoryPath."""
        return np.full(RUN_CLASSES, 1.0 / self.bandwidth_bytes_per_s)
