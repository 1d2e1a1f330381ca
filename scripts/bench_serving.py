"""Requests per CPU second of the serving simulator, on lengths of the Azure conversation trace at 80 % load.

Usage: python scripts/bench_serving.py [REQUESTS]     (default 100000; the trace preset holds the first 400 requests)

One core, warm, metrics on, affine iteration times. The rate of each policy is 0.8 of the highest that keeps its queue
bounded, found on 3000 requests. For comparison: Vidur 7d47513 with the same iteration times, metrics off, 1000 requests
on a loaded two-core machine (requests per CPU second), DistServe's simulator, and splitwise-sim at 2 requests/s.
The splitwise policy is written in Python, as a plug-in would be: it serves a fiftieth of the requests.
"""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import numpy as np

from archsim.serving import AffineOracle, AffineTerms, Deployment, LatencyOracle, serve
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace, make_trace

PEERS = {"orca": 1055.0, "vllm": 898.0, "sarathi": 875.0, "fcfs-static": 791.0, "distserve": 463.0,
         "splitwise": 1020.0}  # fmt: skip
IN_PYTHON = ("splitwise",)
VIDUR = AffineOracle(8e-3, 1.2e-5, 5.5e-5, 2e-9, 3.2e-7, max_tokens=7424 * 16)
FAIR = AffineOracle(20e-3, prompts=(AffineTerms(8e-3, 0.0, 2e-4),),
                    decodes=(AffineTerms(20e-3, 2e-4, 0.0, 0.0, 1.2e-6),), max_tokens=7424 * 16)  # fmt: skip
RUNS: dict[str, tuple[LatencyOracle, dict[str, Any], Deployment]] = {
    "orca": (VIDUR, {"max_length": 4096, "max_batch": 29}, Deployment()),
    "fcfs-static": (VIDUR, {"max_length": 4096, "max_batch": 29}, Deployment()),
    "vllm": (VIDUR, {}, Deployment()),
    "vllm-v1": (VIDUR, {}, Deployment()),
    "sarathi": (VIDUR, {}, Deployment()),
    "lightllm": (VIDUR, {}, Deployment()),
    "vtc": (FAIR, {}, Deployment()),
    "distserve": (VIDUR, {"transfer_s_per_token": 4e-6}, Deployment(instances=2)),
    "splitwise": (VIDUR, {"transfer_s_per_token": 4e-6}, Deployment(instances=2)),
}


def azure(count: int, rate_per_s: float, seed: int = 0) -> Trace:
    """Poisson arrivals; lengths drawn with repetition from the trace, totals up to 4096."""
    source = load_requests("azure-conv-sample")
    fits = np.flatnonzero(source.prompt_tokens + source.output_tokens <= 4096)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(fits, count)
    arrival = np.cumsum(rng.exponential(1 / rate_per_s, count))
    return make_trace("azure", arrival, source.prompt_tokens[chosen], source.output_tokens[chosen], ["a"] * count)


def highest_rate(policy: str) -> float:
    """Requests per second served of 3000 that arrive at once: what a saturated machine manages."""
    oracle, options, where = RUNS[policy]
    burst = azure(3000, 1e6)
    return serve(oracle, None, burst, policy, deployment=where, **options).throughput.requests_per_s


def main() -> None:
    """Print one line a policy."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for policy, (oracle, options, where) in RUNS.items():
        count = max(1, most // 50) if policy in IN_PYTHON else most
        trace = azure(count, 0.8 * highest_rate(policy))
        seconds = []
        for _ in range(3):
            start = time.process_time()
            report = serve(oracle, None, trace, policy, deployment=where, **options)
            seconds.append(time.process_time() - start)
        rate = count / min(seconds)
        beside = f", {rate / PEERS[policy]:,.0f} x its peer" if policy in PEERS else ""
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{policy:12} {count} requests at {trace.rate_per_s:.2f}/s, {report.counts.iterations} iterations, "
            f"{min(seconds):.2f} CPU s: {rate:,.0f} requests/CPU-s{beside}; {megabytes:,.0f} MB so far",
            flush=True,
        )


if __name__ == "__main__":
    main()
