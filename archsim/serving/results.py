"""What a serving run returns. Seconds, tokens, dollars; JSON schema id archsim.serving/1."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.serving.series import TimeSeries

SERVING_SCHEMA = "archsim.serving/1"
TpotTokens = Literal["further", "all"]


@dataclass(frozen=True)
class Distribution:
    """Mean and percentiles over requests; a percentile between two ranks is interpolated linearly (numpy's default)."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class Counts:
    """Requests of the trace; rejected: would not fit on an empty machine. completed + rejected + unserved = requests.

    displaced  times a request lost its instance and started again on another
    unserved   still there in the end: no instance was left to serve them, or the run was interrupted
    """

    requests: int
    completed: int
    rejected: int
    prompt_tokens: int
    output_tokens: int
    preemptions: int
    iterations: int
    displaced: int = 0
    unserved: int = 0


@dataclass(frozen=True)
class Rates:
    """Of completed requests, over the time from the first arrival to the last completion."""

    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float


@dataclass(frozen=True)
class CacheUse:
    """KV cache. peak: blocks in use; mean: tokens held, averaged over the busy time; both as share of the capacity."""

    capacity_tokens: int
    block_tokens: int
    peak_fraction: float
    mean_fraction: float


@dataclass(frozen=True)
class ServingCost:
    """Price of the machine over the whole run, idle time included; None where the machine's price is unknown."""

    usd_per_hour: float | None
    usd_per_million_output_tokens: float | None


@dataclass(frozen=True)
class ServingEnergy:
    """Of all iterations; per output token of completed requests. Idle power is not in it."""

    joules: float
    j_per_output_token: float


@dataclass(frozen=True)
class Slo:
    """Limits of a request's time to first token and time per output token, seconds; infinite: none."""

    ttft_s: float = float("inf")
    tpot_s: float = float("inf")


@dataclass(frozen=True)
class SloResult:
    """Share of all requests, rejected ones included, that kept each limit, and both (DistServe)."""

    ttft_s: float | None
    tpot_s: float | None
    ttft_attainment: float
    tpot_attainment: float
    attainment: float


@dataclass(frozen=True)
class Fairness:
    """Accumulated service (weights x tokens) of tenants: largest difference in a window, Jain's index of the totals."""

    window_s: float
    difference_mean: float
    difference_max: float
    jain_index: float
    service: tuple[float, ...]
    tenants: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdapterUse:
    """Adapters of the requests, and how often one had to be loaded.

    hits            admissions that found theirs there or on its way; per request with one: hit_rate
    most_resident   on one instance at a time
    stall_s         time iterations waited for loads, over all instances; stall_fraction: of the busy time
    load_s          time the host links were loading
    """

    adapters: int
    loads: int
    hits: int
    hit_rate: float
    evictions: int
    most_resident: int
    stall_s: float
    load_s: float
    stall_fraction: float


@dataclass(frozen=True)
class UnitUse:
    """A unit or link of a machine, or the host: shares of the time of the run, over all instances of the machine.

    busy_fraction     working: prompts + mixed + decodes, in iterations of prompts alone, of both, of decodes alone
    waiting_fraction  an iteration runs, the unit has nothing to do or waits for others, for adapters or for swaps
    idle_fraction     no iteration runs; busy + waiting + idle = 1
    """

    machine: str
    unit: str
    busy_fraction: float
    prompts_fraction: float
    mixed_fraction: float
    decodes_fraction: float
    waiting_fraction: float
    idle_fraction: float


@dataclass(frozen=True)
class InstanceUse:
    """One instance: share of the run it was busy, mean decode batch, and where it is in a disaggregated machine."""

    role: str
    busy_fraction: float
    mean_decode_batch: float
    peak_kv_fraction: float
    preemptions: int
    joules: float
    up_fraction: float = 1.0  # share of the run it was there, loading its weights included
    displaced: int = 0


@dataclass(frozen=True)
class RequestTable:
    """One row a request, in the order of the trace; times in seconds of the trace, NaN if it never was."""

    arrival_s: NDArray[np.float64]
    first_scheduled_s: NDArray[np.float64]
    first_token_s: NDArray[np.float64]
    completed_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    tenant: NDArray[np.int64]
    preemptions: NDArray[np.int64]
    adapter: NDArray[np.int64]  # -1 for none
    instance: NDArray[np.int64]  # where it ended; -1 if rejected

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Which requests were served to the end."""
        return ~np.isnan(self.completed_s)


@dataclass(frozen=True)
class ServingReport:
    """How a machine served a trace under a policy.

    a arrival, s first scheduled, f first token (end of its iteration), c completion, O output tokens:
    ttft_s f - a; tpot_s (c - f) / (O - 1), 0 if O = 1, or (c - f) / O if `tpot_over` is all; tbt_s every gap between
    consecutive tokens of a request; latency_s c - a; normalised_latency_s (c - a) / O; scheduling_delay_s s - a.
    Over completed requests; None if none.
    """

    system: str
    model: str
    trace: str
    policy: str
    duration_s: float
    busy_fraction: float
    counts: Counts
    throughput: Rates
    ttft_s: Distribution | None
    tpot_s: Distribution | None
    tbt_s: Distribution | None
    latency_s: Distribution | None
    normalised_latency_s: Distribution | None
    scheduling_delay_s: Distribution | None
    kv_cache: CacheUse
    cost: ServingCost
    options: dict[str, Any] = field(default_factory=dict)
    archsim_version: str = ""
    instances: tuple[InstanceUse, ...] = ()
    energy: ServingEnergy | None = None
    slo: SloResult | None = None
    fairness: Fairness | None = None
    adapters: AdapterUse | None = None
    units: tuple[UnitUse, ...] = ()
    interrupted: bool = False
    tpot_over: TpotTokens = "further"
    first_rejected: str | None = None  # where it stands in its trace, and what it does not fit
    notes: tuple[str, ...] = ()  # what a reader must know about the models of the machine
    series: TimeSeries | None = None
    series_listed: bool = False  # whether it is part of the JSON document
    requests: RequestTable | None = None
    timeline: NDArray[Any] | None = None  # BATCH_LOG of `state_kernels`, ns

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the table of requests, the timeline and series nobody asked for go to files, not here."""
        left_out = {"requests", "timeline", "series_listed", *(() if self.series_listed else ("series",))}
        result = {key: value for key, value in vars(self).items() if key not in left_out}
        plain = {
            key: asdict(value) if hasattr(value, "__dataclass_fields__") else value for key, value in result.items()
        }
        plain["units"] = [asdict(unit) for unit in self.units]
        plain["instances"] = [asdict(instance) for instance in self.instances]
        return {"schema": SERVING_SCHEMA, **plain}
