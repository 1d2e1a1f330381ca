"""The highest request rate that meets a service level objective, by bisection.

Every rate is tried on the same requests: one stream is drawn per seed at rate 1 and its arrival times are divided by
the rate (common random numbers), so that the answers of two machines or policies differ by the machine or the policy
and not by luck. Each seed gives one rate; their mean comes with Student's t interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from archsim.config.schemas.model import Model
from archsim.errors import UsageError
from archsim.serving.oracle import LatencyOracle
from archsim.serving.results import ServingReport, Slo
from archsim.serving.run import Deployment, make_oracle, serve
from archsim.workload.traces import Trace

if TYPE_CHECKING:
    from archsim.config.schemas.system import System

CAPACITY_SCHEMA = "archsim.capacity/1"
Arrivals = Literal["poisson", "recorded"]
_MOST_DOUBLINGS = 40
_LONGEST_S = 1e8


@dataclass(frozen=True)
class Criterion:
    """What a run must satisfy; infinite limits do not count.

    attainment         share of requests that must keep both limits of the objective (DistServe: 0.9)
    tbt_p99_s          limit of the 99th percentile of all times between tokens (Sarathi-Serve)
    median_delay_s     limit of the median scheduling delay (Sarathi-Serve)
    """

    slo: Slo
    attainment: float = 0.9
    tbt_p99_s: float = math.inf
    median_delay_s: float = math.inf

    def __post_init__(self) -> None:
        limits = (self.slo.ttft_s, self.slo.tpot_s, self.tbt_p99_s, self.median_delay_s)
        if all(math.isinf(limit) for limit in limits):
            raise UsageError("a capacity needs a limit: give at least one of TTFT, TPOT, P99 TBT and scheduling delay")
        if not 0 < self.attainment <= 1 or not all(limit > 0 for limit in limits):
            raise UsageError(f"found attainment {self.attainment} and limits {limits} s, allowed: above 0, at most 1")

    def met(self, report: ServingReport) -> bool:
        """Whether a run keeps every limit; a rejected request keeps none."""
        assert report.slo is not None
        tbt = report.tbt_s.p99 if report.tbt_s else 0.0
        delay = report.scheduling_delay_s.p50 if report.scheduling_delay_s else math.inf
        return report.slo.attainment >= self.attainment and tbt <= self.tbt_p99_s and delay <= self.median_delay_s


@dataclass(frozen=True)
class Trial:
    """One simulated rate."""

    seed: int
    rate_per_s: float
    attainment: float
    met: bool


@dataclass(frozen=True)
class Capacity:
    """The highest rate that meets the criterion, requests/s.

    rate_per_s        mean over the seeds
    low, high         95 % interval of that mean (Student's t over the seeds); None with one seed
    rates_per_s       per seed, each within `resolution` below the lowest rate found to fail
    usd_per_million_output_tokens, j_per_output_token   of the first seed at its highest rate; None where unknown
    trials            every rate simulated
    notes             what a reader must know about the models of the machine and its framework
    """

    system: str
    model: str
    policy: str
    rate_per_s: float
    low: float | None
    high: float | None
    rates_per_s: tuple[float, ...]
    resolution: float
    requests: int
    usd_per_million_output_tokens: float | None
    j_per_output_token: float | None
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    schema: str = CAPACITY_SCHEMA


def capacity(
    system: System | LatencyOracle,
    model: Model | None,
    trace: Trace,
    policy: str,
    criterion: Criterion,
    *,
    deployment: Deployment | None = None,
    seeds: Sequence[int] = range(5),
    requests: int = 2000,
    arrivals: Arrivals = "poisson",
    resolution: float = 0.02,
    **options: Any,
) -> Capacity:
    """The highest rate at which `policy` on `system` meets `criterion`.

    trace       where lengths come from, drawn with repetition; `recorded` keeps its order, arrivals and tenants and
                stretches them
    requests    of each run (`recorded`: the first so many)
    resolution  relative width at which the bisection ends
    deployment  its node events keep their times at every rate: they are of the machine, not of the stream
    options     of the policy

    The rate is 0 where not even lonely requests keep the limits. Raises UsageError for options out of range.
    """
    if not seeds or requests < 1 or not 1e-4 <= resolution < 1:
        raise UsageError(
            f"found {len(seeds)} seeds, {requests} requests, resolution {resolution}; needs 1, 1, 1e-4 to 1"
        )
    if arrivals == "recorded":
        seeds = seeds[:1]  # there is one recording
    oracle, name = make_oracle(system, model)
    run = _Runner(system, oracle, model, policy, criterion, deployment or Deployment(), options)
    rates: list[float] = []
    best: ServingReport | None = None
    for seed in seeds:
        stream = unit_rate_stream(trace, requests, seed, arrivals)
        rate, report = _bisect(run, stream, seed, resolution, rates[-1] if rates else None)
        rates.append(rate)
        best = best or report
    low, high = _interval(rates)
    return Capacity(
        name, model.name if model else "", policy, float(np.mean(rates)), low, high, tuple(rates), resolution, requests,
        best.cost.usd_per_million_output_tokens if best else None,
        best.energy.j_per_output_token if best and best.energy else None, tuple(run.trials),
        (*run.notes, *_late_events(run.deployment, best)),
    )  # fmt: skip


def _late_events(deployment: Deployment, best: ServingReport | None) -> tuple[str, ...]:
    """Which events no run at the highest rate has lived to see."""
    if best is None or best.requests is None:
        return ()
    end_s = float(best.requests.arrival_s[0]) + best.duration_s
    late = sum(event.time_s > end_s for event in deployment.node_events)
    if not late:
        return ()
    what = f"{late} of {len(deployment.node_events)} events come after the {end_s:.4g} s of a run at the highest rate"
    return (f"{what}: more requests a stream include them",)


def unit_rate_stream(trace: Trace, requests: int, seed: int, arrivals: Arrivals) -> Trace:
    """A stream of mean rate 1/s with the lengths of `trace`."""
    if arrivals == "recorded":
        part = slice(0, requests)
        if not math.isfinite(trace.rate_per_s):
            raise UsageError(f"{trace.name}: all requests arrive at once, recorded arrivals have no rate")
        times = (trace.arrival_s[part] - trace.arrival_s[0]) * trace.rate_per_s
        return trace.take(part, times)
    gaps, picks = np.random.default_rng(seed).spawn(2)
    chosen = picks.integers(0, len(trace), requests)
    times = np.cumsum(gaps.exponential(1.0, requests))
    return replace(trace.take(chosen, times), cached_tokens=None)  # drawn one by one, they follow no conversation


@dataclass
class _Runner:
    system: System | LatencyOracle
    oracle: LatencyOracle
    model: Model | None
    policy: str
    criterion: Criterion
    deployment: Deployment
    options: dict[str, Any]

    def __post_init__(self) -> None:
        self.trials: list[Trial] = []
        self.notes: tuple[str, ...] = ()

    def __call__(self, stream: Trace, seed: int, rate_per_s: float) -> tuple[bool, ServingReport]:
        at_rate = replace(stream, arrival_s=stream.arrival_s / rate_per_s)
        report = serve(
            self.oracle, self.model, at_rate, self.policy, deployment=self.deployment, slo=self.criterion.slo,
            **self.options,
        )  # fmt: skip
        assert report.slo is not None
        met, self.notes = self.criterion.met(report), report.notes
        self.trials.append(Trial(seed, rate_per_s, report.slo.attainment, met))
        return met, report


def _bisect(
    run: _Runner, stream: Trace, seed: int, resolution: float, guess: float | None
) -> tuple[float, ServingReport | None]:
    """Bracket by doubling from a guess, then halve in the logarithm."""
    low, report = 0.0, None
    high = math.inf
    rate = guess or 1.0
    for _ in range(_MOST_DOUBLINGS):
        if stream.arrival_s[-1] / rate > _LONGEST_S:
            break  # requests this far apart never meet: not even a lonely one keeps the limits
        met, found = run(stream, seed, rate)
        if met:
            low, report = rate, found
            rate = rate * 2 if math.isinf(high) else rate
        else:
            high = rate
            rate = rate / 2 if low == 0.0 else rate
        if low > 0.0 and not math.isinf(high):
            break
    if low == 0.0 or math.isinf(high):
        return low, report
    while high / low > 1 + resolution:
        middle = math.sqrt(low * high)
        met, found = run(stream, seed, middle)
        if met:
            low, report = middle, found
        else:
            high = middle
    return low, report


def _interval(rates: Sequence[float]) -> tuple[float | None, float | None]:
    if len(rates) < 2:
        return None, None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(rates) - 1)) * float(np.std(rates, ddof=1)) / math.sqrt(len(rates))
    return max(0.0, float(np.mean(rates)) - half), float(np.mean(rates)) + half
