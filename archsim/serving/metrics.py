"""From what happened to the numbers of the report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.serving.engine import NS_PER_S, RunLog
from archsim.serving.policy import Policy
from archsim.serving.results import CacheUse, Counts, Distribution, Rates, RequestTable, ServingCost

QUANTILES = (0.5, 0.9, 0.99)


def request_table(log: RunLog) -> RequestTable:
    """One row a request. The arrival is the simulator's, in whole nanoseconds."""

    def seconds(name: str) -> NDArray[np.float64]:
        ns = np.array([getattr(request, name) for request in log.requests], dtype=np.int64)
        return np.where(ns < 0, np.nan, ns / NS_PER_S)

    def numbers(name: str) -> NDArray[np.int64]:
        return np.array([getattr(request, name) for request in log.requests], dtype=np.int64)

    return RequestTable(
        seconds("arrival_ns"), seconds("first_scheduled_ns"), seconds("first_token_ns"), seconds("completed_ns"),
        numbers("prompt"), numbers("output"), numbers("tenant"), numbers("restarts"),
    )  # fmt: skip


def distribution(values: NDArray[np.float64]) -> Distribution | None:
    """Mean and percentiles of a sample; None if it is empty."""
    if not values.size:
        return None
    p50, p90, p99 = np.quantile(values, QUANTILES).tolist()
    return Distribution(float(values.mean()), p50, p90, p99, float(values.max()))


def weighted_distribution(values: NDArray[np.float64], weights: NDArray[np.int64]) -> Distribution | None:
    """As `distribution` of the sample in which each value occurs `weight` times, without writing it out."""
    total = int(weights.sum())
    if total == 0:
        return None
    order = np.argsort(values, kind="stable")
    ordered, ends = values[order], np.cumsum(weights[order])
    found = []
    for quantile in QUANTILES:
        rank = quantile * (total - 1)
        low, high = (float(ordered[np.searchsorted(ends, int(at), side="right")]) for at in (rank, np.ceil(rank)))
        found.append(low + (high - low) * (rank - int(rank)))
    p50, p90, p99 = found
    return Distribution(float(np.dot(values, weights) / total), p50, p90, p99, float(ordered[-1]))


def latency_distributions(table: RequestTable, log: RunLog) -> dict[str, Distribution | None]:
    """The distributions of `ServingReport`, by the name of their field."""
    done = table.completed
    arrival, first, end = table.arrival_s[done], table.first_token_s[done], table.completed_s[done]
    outputs = table.output_tokens[done]
    gaps = np.array(log.gap_ns, dtype=np.int64) / NS_PER_S
    tpot = np.where(outputs > 1, (end - first) / np.maximum(outputs - 1, 1), 0.0)
    return {
        "ttft_s": distribution(first - arrival),
        "tpot_s": distribution(tpot),
        "tbt_s": weighted_distribution(gaps, np.array(log.gap_weight, dtype=np.int64)),
        "latency_s": distribution(end - arrival),
        "normalised_latency_s": distribution((end - arrival) / outputs),
        "scheduling_delay_s": distribution(table.first_scheduled_s[done] - arrival),
    }


def counts(table: RequestTable, log: RunLog) -> Counts:
    """Requests and tokens; tokens are those of completed requests."""
    done = table.completed
    return Counts(
        requests=len(log.requests),
        completed=int(done.sum()),
        rejected=len(log.rejected),
        prompt_tokens=int(table.prompt_tokens[done].sum()),
        output_tokens=int(table.output_tokens[done].sum()),
        preemptions=int(table.preemptions.sum()),
        iterations=log.iterations,
    )


def duration_s(log: RunLog) -> float:
    """From the first arrival to the last completion; 0 if nothing was served."""
    return max(log.end_ns - log.requests[0].arrival_ns, 0) / NS_PER_S


def rates(total: Counts, seconds: float) -> Rates:
    """Per second of `seconds`; 0 if nothing was served."""
    if seconds <= 0:
        return Rates(0.0, 0.0, 0.0)
    tokens = total.prompt_tokens + total.output_tokens
    return Rates(total.completed / seconds, total.output_tokens / seconds, tokens / seconds)


def cache_use(policy: Policy, log: RunLog) -> CacheUse:
    """How full the KV cache was."""
    pool = policy.pool
    capacity = pool.total * pool.block_tokens
    mean = log.held_token_ns / (log.busy_ns * capacity) if log.busy_ns and capacity else 0.0
    return CacheUse(capacity, pool.block_tokens, pool.peak / pool.total if pool.total else 0.0, mean)


def cost(usd_per_hour: float | None, total: Counts, seconds: float) -> ServingCost:
    """Dollars per million output tokens of completed requests."""
    if usd_per_hour is None or total.output_tokens == 0:
        return ServingCost(usd_per_hour, None)
    return ServingCost(usd_per_hour, usd_per_hour * (seconds / 3600) / total.output_tokens * 1e6)
