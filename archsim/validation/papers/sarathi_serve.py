"""Sarathi-Serve (OSDI 2024): serving capacity of chunked prefills under a limit of the time between tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from archsim.config import load_model, load_system
from archsim.results import Claim, Replication
from archsim.serving.capacity import Criterion, capacity
from archsim.serving.placement import Degrees, instance_oracle
from archsim.serving.results import Slo
from archsim.serving.run import Deployment
from archsim.validation.papers import PAPERS
from archsim.workload.requests import load_requests

PAPER = "Sarathi-Serve, OSDI 2024, abstract"
REQUESTS, MEDIAN_DELAY_S = 1000, 2.0


@dataclass(frozen=True)
class Setup:
    """A model on A100 and its limits of the P99 time between tokens, strict and relaxed (README of the artifact)."""

    model: str
    degrees: Degrees
    strict_s: float
    relaxed_s: float
    published: float


SETUPS = (
    Setup("mistral-7b", Degrees(1, 1), 0.1, 0.5, 2.6),
    Setup("yi-34b", Degrees(2, 1), 0.2, 1.0, 3.7),
    Setup("falcon-180b", Degrees(4, 2), 1.0, 5.0, 5.6),
)
CHUNKS = (512, 2048)  # tokens of an iteration under the strict and the relaxed limit


def capacities(setup: Setup, limit_s: float, chunk: int, requests: int = REQUESTS) -> dict[str, float]:
    """Requests/s by policy: the highest rate with a P99 time between tokens and a median delay within limits."""
    oracle = instance_oracle(load_system("hgx-a100"), load_model(setup.model), setup.degrees)
    trace = load_requests("poisson-sharegpt-like")
    criterion = Criterion(Slo(), tbt_p99_s=limit_s, median_delay_s=MEDIAN_DELAY_S)
    options: dict[str, dict[str, Any]] = {
        "vllm": {"max_batch": 128, "max_batch_tokens": 4096},
        "sarathi": {"max_batch": 128, "chunk_tokens": chunk},
        "orca": {"max_batch": 16},
    }
    return {
        policy: capacity(
            oracle, None, trace, policy, criterion, deployment=Deployment(stages=setup.degrees.pp), seeds=(0,),
            requests=requests, resolution=0.03, **chosen,
        ).rate_per_s
        for policy, chosen in options.items()
    }  # fmt: skip


@PAPERS.register("sarathi-serve")
def replicate_sarathi() -> Replication:
    """Capacity over vLLM and Orca, strict and relaxed."""
    claims = []
    for setup in SETUPS:
        where = f"{setup.model}, tp {setup.degrees.tp} pp {setup.degrees.pp}"
        for name, limit, chunk in zip(("strict", "relaxed"), (setup.strict_s, setup.relaxed_s), CHUNKS, strict=True):
            found = capacities(setup, limit, chunk)
            text = f"{where}, P99 TBT <= {limit:g} s ({name}), chunk {chunk}"
            published = setup.published if name == "strict" else None
            rates = ", ".join(f"{policy} {rate:.2f}/s" for policy, rate in found.items())
            gain = found["sarathi"] / found["vllm"] if found["vllm"] else None
            claims.append(Claim("capacity over vLLM (largest of the paper)", text, "x", published, gain, PAPER, rates))
    configuration = (
        f"hgx-a100, {REQUESTS} requests with ShareGPT-like lengths (lognormal), Poisson, median scheduling delay <= "
        f"{MEDIAN_DELAY_S:g} s, vLLM with prefills first and 128 requests, Orca with 16; the paper's figures are the "
        "largest over two traces and both limits on its own testbed"
    )
    return Replication(PAPER, configuration, tuple(claims))
