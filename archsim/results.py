"""The result dataclasses that travel up the house. Plain data: SI units, no behaviour beyond sums.

Every breakdown adds up to the number it explains; tests assert it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

REPORT_SCHEMA = "archsim.report/1"
VALIDATION_SCHEMA = "archsim.validation/1"


@dataclass(frozen=True)
class Timeline:
    """A scheduled task table as columns of equal length: what is exported and plotted.

    Prefill starts at 0; the decode step (the first sampled length at or above the mean) follows it.
    """

    name: tuple[str, ...]
    resource: tuple[str, ...]
    phase: tuple[str, ...]
    layer: NDArray[np.int64]  # -1 for what is outside the layers
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]


@dataclass(frozen=True)
class Request:
    """The request shape that was evaluated."""

    batch: int
    input_len: int
    output_len: int


@dataclass(frozen=True)
class Latency:
    """prefill_s: prompt of the whole batch; ttft_s: prefill; tpot_s: mean decode step; request_s: prefill + all steps.

    breakdown: phase -> {cause -> s}; causes compute, memory, link, launch, pim... plus `overlap` (negative), adding up
    to prefill_s and tpot_s. `interpolation_error`: bound on the relative error of tpot_s from sampled KV lengths.
    """

    prefill_s: float
    ttft_s: float
    tpot_s: float
    request_s: float
    breakdown: dict[str, dict[str, float]] = field(default_factory=dict)
    decode_lengths_simulated: int = 0
    decode_steps: int = 0
    interpolation_error: float = 0.0


@dataclass(frozen=True)
class Throughput:
    """Steady decode rate of the whole batch, and whole requests per second with prefill counted."""

    decode_tokens_per_s: float
    requests_per_s: float


@dataclass(frozen=True)
class Energy:
    """Joules of the prefill, of the mean decode step, and per generated token (prefill and all steps shared out).

    breakdown: component -> J per mean decode step, adding up to decode_step_j.
    """

    prefill_j: float
    decode_step_j: float
    j_per_token: float
    breakdown: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitCapacity:
    """What one kind of unit must hold and can hold, bytes over all its devices."""

    unit: str
    required_bytes: float
    available_bytes: float
    contents: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Capacity:
    """Memory over the whole machine; `fits` and `max_batch` respect every unit (or the pool, if the system pools)."""

    required_bytes: float
    available_bytes: float
    fits: bool
    max_batch: int
    units: tuple[UnitCapacity, ...] = ()


@dataclass(frozen=True)
class Cost:
    """Dollars and carbon. breakdown: part -> USD per million tokens, adding up to usd_per_million_tokens."""

    capex_usd: float
    opex_usd_per_year: float
    usd_per_million_tokens: float
    embodied_kgco2e: float
    operational_kgco2e_per_year: float
    breakdown: dict[str, float] = field(default_factory=dict)
    capex_breakdown: dict[str, float] = field(default_factory=dict)
    assumptions: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorResult:
    """One operator of one phase; seconds, joules, flop and bytes are totals over its `count` runs in the step.

    overlap_s is the part of `seconds` hidden behind other work: the sum of seconds - overlap_s is the step.
    """

    phase: str
    name: str
    unit: str
    count: int
    seconds: float
    joules: float
    flop: float
    bytes: float
    bound: str
    overlap_s: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A published number beside ours; `ours` is None where archsim does not model it yet."""

    name: str
    setup: str
    unit: str
    published: float | None
    ours: float | None
    source: str
    note: str = ""


@dataclass(frozen=True)
class Replication:
    """What a paper claims and what archsim finds in the configuration it states."""

    paper: str
    configuration: str
    claims: tuple[Claim, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"schema": "archsim.replication/1", **asdict(self)}


@dataclass(frozen=True)
class Report:
    """Everything `evaluate` finds out about one machine and one workload."""

    system: str
    model: str
    request: Request
    latency: Latency
    throughput: Throughput
    energy: Energy
    capacity: Capacity
    cost: Cost
    operators: tuple[OperatorResult, ...]
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a reader must know about the models, e.g. that a device is not calibrated
    timeline: Timeline | None = None
    configuration: dict[str, Any] = field(default_factory=dict)
    archsim_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the timeline and the resolved configuration go to HDF5, not here."""
        result = asdict(replace(self, timeline=None, configuration={}))
        del result["timeline"], result["configuration"]
        return {"schema": REPORT_SCHEMA, **result}
