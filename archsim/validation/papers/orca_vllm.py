"""Orca (OSDI 2022) and vLLM (SOSP 2023): what iteration-level batching and paged memory are worth."""

from __future__ import annotations

from functools import cache
from typing import Any

from archsim.config import load_model, load_system
from archsim.results import Claim, Replication
from archsim.serving.capacity import Criterion, capacity
from archsim.serving.placement import Degrees, instance_oracle
from archsim.serving.results import Slo
from archsim.validation.papers import PAPERS
from archsim.validation.papers.distserve import chat_lengths

VLLM = "vLLM, SOSP 2023, abstract and section 6.2 (from memory)"
ORCA = "Orca, OSDI 2022, abstract (from memory)"
REQUESTS = 600
SETUPS = (("opt-13b", Degrees(1, 1)), ("opt-66b", Degrees(4, 1)))


@cache
def sustained(model: str, degrees: Degrees, policy: str) -> float:
    """Requests/s a machine keeps up with: the median request waits at most a second to be scheduled."""
    oracle = instance_oracle(load_system("hgx-a100"), load_model(model), degrees)
    criterion = Criterion(Slo(), median_delay_s=1.0)
    reserve = {"max_length": 2048} if policy in ("orca", "fcfs-static") else {}
    options: dict[str, Any] = {"max_batch": 256, **reserve, **({"max_batch_tokens": 4096} if policy == "vllm" else {})}
    found = capacity(
        oracle, None, chat_lengths(), policy, criterion, seeds=(0,), requests=REQUESTS, resolution=0.03, **options
    )
    return found.rate_per_s


@PAPERS.register("orca-vllm")
def replicate_orca_vllm() -> Replication:
    """Rates the machine keeps up with, policy by policy."""
    claims = []
    for model, degrees in SETUPS:
        where = f"{model}, tp {degrees.tp}, ShareGPT-like"
        rates = {policy: sustained(model, degrees, policy) for policy in ("fcfs-static", "orca", "vllm")}
        note = ", ".join(f"{policy} {rate:.2f}/s" for policy, rate in rates.items())
        paged, static, orca = rates["vllm"], rates["fcfs-static"], rates["orca"]
        claims.append(
            Claim("vLLM over Orca that reserves the longest request", where, "x", 8.0, paged / orca, VLLM, note)
        )
        claims.append(Claim("vLLM over static batching (largest of the paper)", where, "x", 22.0, paged / static, VLLM))
        claims.append(
            Claim("Orca over static batching (GPT-3 175B in the paper)", where, "x", 36.9, orca / static, ORCA)
        )
    configuration = (
        f"hgx-a100, {REQUESTS} requests of ShareGPT-like lengths below 2048 tokens, Poisson; a rate is kept up with "
        "while the median scheduling delay is at most 1 s; Orca and static batching reserve 2048 tokens a request; "
        "published figures are largest gains at equal normalised latency, on older GPUs with less free memory"
    )
    return Replication(VLLM, configuration, tuple(claims))
