"""Requests per CPU second of the serving simulator, on lengths like those of the Azure conversation trace.

Usage: python scripts/bench_serving.py [REQUESTS]

For comparison: Vidur 7d47513 with the same affine iteration times, metrics off, 1000 requests of the Azure conversation
lengths at 4 requests/s on a loaded two-core machine: orca 1055, vllm 898 requests per CPU second.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from archsim.serving import AffineOracle, serve
from archsim.workload.traces import Trace, make_trace

VIDUR = {"orca": 1055.0, "vllm": 898.0}
ORACLE = AffineOracle(8e-3, 1.2e-5, 5.5e-5, 2e-9, 3.2e-7, max_tokens=7424 * 16)
OPTIONS = {"orca": {"max_length": 4096, "max_batch": 29}, "vllm": {}}


def azure_like(count: int, rate_per_s: float) -> Trace:
    """Poisson arrivals; lognormal lengths with the medians and spreads of the trace, total at most 4096."""
    rng = np.random.default_rng(0)
    prompt = np.clip(rng.lognormal(np.log(1020), 0.94, count), 2, 3000).astype(np.int64)
    output = np.clip(rng.lognormal(np.log(200), 0.9, count), 10, 1000).astype(np.int64)
    return make_trace("azure-like", np.cumsum(rng.exponential(1 / rate_per_s, count)), prompt, output)


def main() -> None:
    """Print one line a policy."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    trace = azure_like(count, rate_per_s=3.0)
    for policy, options in OPTIONS.items():
        serve(ORACLE, None, azure_like(100, 3.0), policy, **options)
        start = time.process_time()
        report = serve(ORACLE, None, trace, policy, **options)
        seconds = time.process_time() - start
        rate = count / seconds
        print(
            f"{policy:6} {count} requests, {report.counts.iterations} iterations, {seconds:.2f} CPU s: "
            f"{rate:,.0f} requests/CPU-s, {report.counts.iterations / seconds:,.0f} iterations/CPU-s, "
            f"{rate / VIDUR[policy]:.1f} x Vidur"
        )


if __name__ == "__main__":
    main()
