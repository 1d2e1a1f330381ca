"""VTC (OSDI 2024): the service of backlogged tenants differs by a bound, whatever they ask for."""

from __future__ import annotations

from functools import cache

import numpy as np

from archsim.config import load_model, load_system
from archsim.results import Claim, Replication
from archsim.serving.metrics import service_windows
from archsim.serving.oracle import LatencyOracle
from archsim.serving.placement import Degrees, instance_oracle
from archsim.serving.run import serve
from archsim.validation.papers import PAPERS
from archsim.workload.traces import Trace, make_trace

PAPER = "VTC, OSDI 2024, theorem 4.4"
INPUT_WEIGHT, OUTPUT_WEIGHT = 1.0, 2.0
MEMORY = "24 GiB"  # as on the paper's A10G; leaves room for about its 10 000 tokens
WINDOW_S = 5.0
RATES = (15.0, 30.0)  # requests/s of the tenants


def two_backlogged(seconds: float = 120.0) -> Trace:
    """Two tenants that each ask for more than half of what the machine can do, of 256 + 256 tokens a request."""
    times = [np.arange(0, seconds, 1 / per_second) for per_second in RATES]
    order = np.argsort(np.concatenate(times), kind="stable")
    tenant = np.concatenate([np.full(one.size, name) for one, name in zip(times, "ab", strict=True)])[order]
    count = order.size
    return make_trace(
        "two backlogged tenants",
        np.concatenate(times)[order],
        np.full(count, 256),
        np.full(count, 256),
        tenant.tolist(),
    )


@cache
def machine() -> LatencyOracle:
    """Llama 2 7B on one A100 whose cache is that of the paper's experiments."""
    system = load_system("hgx-a100", [f"units.gpu.memory_capacity={MEMORY}"])
    return instance_oracle(system, load_model("llama2-7b"), Degrees(1, 1))


def service_gap(policy: str, trace: Trace) -> float:
    """Largest difference of accumulated service between the tenants while both are backlogged."""
    report = serve(machine(), None, trace, policy)
    assert report.requests is not None
    served = service_windows(report.requests, WINDOW_S, INPUT_WEIGHT, OUTPUT_WEIGHT).cumsum(axis=0)
    last_arrival = float(trace.arrival_s[-1])
    start = float(np.nanmin(report.requests.first_token_s))
    backlogged = served[: max(1, int((last_arrival - start) // WINDOW_S))]
    return float(np.abs(backlogged[:, 0] - backlogged[:, 1]).max())


def bound(trace: Trace) -> float:
    """2 max(w_p L, w_q M): longest prompt, tokens of a batch."""
    return 2 * max(INPUT_WEIGHT * float(trace.prompt_tokens.max()), OUTPUT_WEIGHT * machine().max_tokens)


@PAPERS.register("vtc")
def replicate_vtc() -> Replication:
    """Largest service difference under VTC, least-counter-first and first come, first served, against the bound."""
    trace = two_backlogged()
    limit = bound(trace)
    claims = [
        Claim(
            f"largest service difference under {policy}, over the bound", "Llama 2 7B, two backlogged tenants", "x",
            1.0 if policy == "vtc" else None, service_gap(policy, trace) / limit, PAPER, note,
        )
        for policy, note in (("vtc", "at most 1"), ("lcf", "no lift"), ("lightllm", "FCFS"))
    ]  # fmt: skip
    configuration = (
        f"{RATES[0]:g} and {RATES[1]:g} requests/s of 256 + 256 tokens for two minutes, service = prompt + 2 x output "
        f"tokens, at most {machine().max_tokens} tokens in the cache, differences every {WINDOW_S:g} s while both are "
        f"backlogged; the bound is {limit:g} token weights"
    )
    return Replication(PAPER, configuration, tuple(claims))
