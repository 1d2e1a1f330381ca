"""From what happened to the numbers of the report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.serving.results import (
    AdapterUse,
    CacheUse,
    Counts,
    Distribution,
    Fairness,
    Rates,
    RequestTable,
    ServingCost,
    ServingEnergy,
    Slo,
    SloResult,
    TpotTokens,
)
from archsim.serving.runlog import NS_PER_S, Gaps, RunLog
from archsim.serving.state_kernels import DOWN

QUANTILES = (0.5, 0.9, 0.99)
Floats = NDArray[np.float64]


def request_table(log: RunLog) -> RequestTable:
    """One row a request. The arrival is the simulator's, in whole nanoseconds."""

    def seconds(name: str) -> Floats:
        ns = log.requests[name]
        return np.where(ns < 0, np.nan, ns / NS_PER_S)

    def numbers(name: str) -> NDArray[np.int64]:
        return log.requests[name].astype(np.int64)

    return RequestTable(
        seconds("arrival"), seconds("first_scheduled"), seconds("first_token"), seconds("completed"),
        numbers("prompt"), numbers("output"), numbers("tenant"), numbers("restarts"), numbers("adapter"),
        numbers("instance"),
    )  # fmt: skip


def distribution(values: Floats) -> Distribution | None:
    """Mean and percentiles of a sample; None if it is empty."""
    if not values.size:
        return None
    p50, p90, p99 = np.quantile(values, QUANTILES).tolist()
    return Distribution(float(values.mean()), p50, p90, p99, float(values.max()))


def gap_distribution(gaps: Gaps) -> Distribution | None:
    """Of the times between tokens, each as often as it occurred; percentiles interpolated as numpy's."""
    total = int(gaps.weights.sum())
    if total == 0:
        return None
    ends = np.cumsum(gaps.weights)
    found: list[float] = []
    for quantile in QUANTILES:
        rank = quantile * (total - 1)
        low, high = (float(gaps.values_ns[np.searchsorted(ends, int(at), "right")]) for at in (rank, np.ceil(rank)))
        found.append(min(low + (high - low) * (rank - int(rank)), gaps.max_ns) / NS_PER_S)
    p50, p90, p99 = found
    return Distribution(gaps.mean_ns / NS_PER_S, p50, p90, p99, gaps.max_ns / NS_PER_S)


def tpot_s(table: RequestTable, over: TpotTokens = "further") -> Floats:
    """Mean time per output token after the first, 0 if there is one only; NaN where not completed.

    over  `further` divides by O - 1, `all` by O, as simdistserve and Vidur do
    """
    decode = table.completed_s - table.first_token_s
    if over == "all":
        return decode / table.output_tokens
    many = table.output_tokens > 1
    return np.where(many, decode / np.maximum(table.output_tokens - 1, 1), np.where(np.isnan(decode), np.nan, 0.0))


def latency_distributions(
    table: RequestTable, gaps: Gaps, over: TpotTokens = "further"
) -> dict[str, Distribution | None]:
    """The distributions of `ServingReport`, by the name of their field."""
    done = table.completed
    arrival, first, end = table.arrival_s[done], table.first_token_s[done], table.completed_s[done]
    return {
        "ttft_s": distribution(first - arrival),
        "tpot_s": distribution(tpot_s(table, over)[done]),
        "tbt_s": gap_distribution(gaps),
        "latency_s": distribution(end - arrival),
        "normalised_latency_s": distribution((end - arrival) / table.output_tokens[done]),
        "scheduling_delay_s": distribution(table.first_scheduled_s[done] - arrival),
    }


def counts(table: RequestTable, log: RunLog) -> Counts:
    """Requests and tokens; tokens are those of completed requests."""
    done = table.completed
    rejected = int(log.requests["rejected"].sum())
    return Counts(
        requests=len(log.requests),
        completed=int(done.sum()),
        rejected=rejected,
        prompt_tokens=int(table.prompt_tokens[done].sum()),
        output_tokens=int(table.output_tokens[done].sum()),
        preemptions=int(table.preemptions.sum()),
        iterations=int(log.total("iterations")),
        displaced=int(log.total("displaced")),
        unserved=len(log.requests) - int(done.sum()) - rejected,
    )


def duration_s(log: RunLog) -> float:
    """From the first arrival to the last completion; 0 if nothing was served."""
    return float(max(log.end_ns - log.requests["arrival"][0], 0) / NS_PER_S)


def up_s(log: RunLog) -> Floats:
    """Seconds of the run each instance was there, loading its weights included."""
    rows, first = log.instances, log.requests["arrival"][0]
    last = np.where(rows["closed"] == DOWN, rows["up_since"], np.maximum(log.end_ns, rows["up_since"]))
    return np.asarray((rows["up_ns"] + last - np.maximum(rows["up_since"], first)).clip(0) / NS_PER_S)


def rates(total: Counts, seconds: float) -> Rates:
    """Per second of `seconds`; 0 if nothing was served."""
    if seconds <= 0:
        return Rates(0.0, 0.0, 0.0)
    tokens = total.prompt_tokens + total.output_tokens
    return Rates(total.completed / seconds, total.output_tokens / seconds, tokens / seconds)


def cache_use(log: RunLog) -> CacheUse:
    """How full the KV caches of all instances were."""
    total = log.instances["total"]
    capacity = int(total.sum()) * log.block_tokens
    weighted = float((log.instances["busy_ns"] * (total * float(log.block_tokens))).sum())
    mean = log.total("held_token_ns") / weighted if weighted else 0.0
    peak = float((log.instances["peak"] / np.maximum(total, 1)).max())
    return CacheUse(capacity, log.block_tokens, peak, mean)


def slo_result(table: RequestTable, slo: Slo, over: TpotTokens = "further") -> SloResult:
    """Share of all requests, rejected ones included, that kept each limit and both."""
    ttft = table.first_token_s - table.arrival_s <= slo.ttft_s
    tpot = tpot_s(table, over) <= slo.tpot_s
    both = float((ttft & tpot).mean())
    limits = [None if np.isinf(limit) else limit for limit in (slo.ttft_s, slo.tpot_s)]
    return SloResult(limits[0], limits[1], float(ttft.mean()), float(tpot.mean()), both)


def service_windows(table: RequestTable, window_s: float, input_weight: float, output_weight: float) -> Floats:
    """Service each tenant got in each window, shape (windows, tenants).

    A prompt counts when its first token is there, output tokens evenly between the first and the last.
    """
    done = table.completed
    first, end = table.first_token_s[done], table.completed_s[done]
    if not first.size:
        return np.zeros((0, 1))
    edges = np.arange(first.min(), end.max() + window_s, window_s)
    tenants = int(table.tenant.max()) + 1
    service = np.zeros((edges.size, tenants))
    at = np.clip(((first - edges[0]) // window_s).astype(np.int64), 0, edges.size - 1)
    np.add.at(service, (at, table.tenant[done]), input_weight * table.prompt_tokens[done])
    output = output_weight * table.output_tokens[done]
    for tenant in range(tenants):
        mine = table.tenant[done] == tenant
        a, b, w = first[mine], np.maximum(end[mine], first[mine] + 1e-9), output[mine]
        so_far = [float((w * np.clip((edge - a) / (b - a), 0, 1)).sum()) for edge in (*edges, edges[-1] + window_s)]
        service[:, tenant] += np.diff(so_far)
    return service


def fairness(
    table: RequestTable, tenants: tuple[str, ...], window_s: float, input_weight: float, output_weight: float
) -> Fairness | None:
    """Of accumulated service among tenants (their names); None if there is one only."""
    if int(table.tenant.max()) == 0:
        return None
    service = service_windows(table, window_s, input_weight, output_weight)
    total = service.sum(axis=0)
    spread = service.max(axis=1) - service.min(axis=1)
    jain = float(total.sum() ** 2 / (total.size * (total**2).sum())) if total.any() else 1.0
    return Fairness(
        window_s, float(spread.mean()), float(spread.max()), jain, tuple(total.tolist()), tenants[: total.size]
    )


def adapter_use(log: RunLog, adapters: int) -> AdapterUse:
    """Loads, hits and what they cost, over all instances."""
    hits, loads = int(log.total("hits")), int(log.total("loads"))
    busy = log.total("busy_ns")
    return AdapterUse(
        adapters, loads, hits, hits / max(int((log.requests["adapter"] >= 0).sum()), 1), int(log.total("evictions")),
        int(log.instances["most_resident"].max()), log.total("stall_ns") / NS_PER_S, log.total("load_ns") / NS_PER_S,
        log.total("stall_ns") / busy if busy else 0.0,
    )  # fmt: skip


def energy(joules: float, total: Counts) -> ServingEnergy | None:
    """None where the machine's energy is unknown."""
    if joules <= 0:
        return None
    return ServingEnergy(joules, joules / max(total.output_tokens, 1))


def cost(usd_per_hour: float | None, total: Counts, seconds: float, up_fraction: float = 1.0) -> ServingCost:
    """Dollars per million output tokens of completed requests; instances are paid for while they are there."""
    if usd_per_hour is None or total.output_tokens == 0:
        return ServingCost(usd_per_hour, None)
    return ServingCost(usd_per_hour, usd_per_hour * up_fraction * (seconds / 3600) / total.output_tokens * 1e6)
