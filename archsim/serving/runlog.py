"""What happened in a run: the same columns whichever engine ran it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.serving.state_kernels import GAP_BITS, State
from archsim.workload.traces import Trace

NS_PER_S = 1e9
UnitSeconds = dict[tuple[int, str], NDArray[np.float64]]
"""By (machine, unit): seconds in iterations of phase MIXED, PROMPTS and DECODES of `oracle_kernels`."""


@dataclass(frozen=True)
class Gaps:
    """Times between consecutive tokens of a request: distinct values (ns, to a relative 2**-17) and how often."""

    values_ns: NDArray[np.float64]
    weights: NDArray[np.int64]
    mean_ns: float
    max_ns: float


@dataclass(frozen=True)
class RunLog:
    """Totals over instances, and one row a request (integer nanoseconds, -1 for what never was).

    requests       (n,) REQUEST of `state_kernels`
    held_token_ns  integral of the tokens in the cache over the busy time
    decode_*       iterations with decodes, decode steps of all requests in them, and the sum of their contexts
    joules         energy of all iterations; 0 where the oracle has none
    batches        (m,) BATCH_LOG, if a timeline was asked for
    interrupted    Ctrl-C ended the run; what is here is what had happened
    unit_s         seconds that units worked, see `unit_use`, if asked for
    """

    trace: Trace
    requests: NDArray[Any]
    instances: NDArray[Any]
    gaps: Gaps
    end_ns: int
    block_tokens: int
    batches: NDArray[Any] | None = None
    interrupted: bool = False
    unit_s: UnitSeconds = field(default_factory=dict)

    @classmethod
    def from_state(cls, trace: Trace, state: State, batches: NDArray[Any] | None, interrupted: bool) -> RunLog:
        """The facts in the arrays of the compiled engine."""
        clock = state.clock[0]
        bins = np.flatnonzero(state.gaps)
        total = int(clock["gap_count"])
        mean = float(clock["gap_sum"]) / total if total else 0.0
        gaps = Gaps(bin_values(bins), state.gaps[bins], mean, float(clock["gap_max"]))
        block = int(state.options[0]["block"])
        return cls(trace, state.requests, state.instances, gaps, int(clock["end"]), block, batches, interrupted)

    def total(self, name: str) -> float:
        """Sum of a column over the instances."""
        return self.instances[name].sum().item()  # type: ignore[no-any-return]


def bin_values(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Middle of each bin of the gap histogram, in ns; exact below 2**17 ns."""
    shift = np.maximum((bins >> GAP_BITS) - 1, 0)
    mantissa = bins - (shift << GAP_BITS)
    width = np.ldexp(1.0, shift)
    return np.asarray(mantissa * width + (width - 1) / 2, dtype=np.float64)
