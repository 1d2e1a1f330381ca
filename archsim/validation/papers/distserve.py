"""DistServe (OSDI 2024): prefill and decode apart, rate per device within the objective."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.config import load_model, load_system
from archsim.results import Claim, Replication
from archsim.serving.capacity import Criterion, capacity
from archsim.serving.placement import Degrees, PlacementReport, instance_oracle, place
from archsim.serving.results import Slo
from archsim.validation.papers import PAPERS
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace

PAPER = "DistServe, OSDI 2024"
REQUESTS = 300


@dataclass(frozen=True)
class Setup:
    """A chatbot: model, objective (s), the parallelism the paper gives vLLM."""

    model: str
    slo: Slo
    vllm: Degrees


SETUPS = (
    Setup("opt-13b", Slo(0.25, 0.1), Degrees(1, 1)),
    Setup("opt-66b", Slo(2.5, 0.15), Degrees(4, 1)),
)


def chat_lengths() -> Trace:
    """ShareGPT-like lengths that fit OPT's 2048 positions."""
    trace = load_requests("poisson-sharegpt-like")
    fits = trace.prompt_tokens + trace.output_tokens < 2048
    return Trace(
        trace.name, trace.arrival_s[fits], trace.prompt_tokens[fits], trace.output_tokens[fits], trace.tenant[fits]
    )


def search(setup: Setup, scale: float = 1.0) -> tuple[PlacementReport, float]:
    """The placements of a node, and vLLM's rate per device; `scale` below 1 tightens the objective."""
    system, model, trace = load_system("hgx-a100"), load_model(setup.model), chat_lengths()
    criterion = Criterion(Slo(setup.slo.ttft_s * scale, setup.slo.tpot_s * scale))
    found = place(system, model, trace, criterion, most_pp=2, requests=REQUESTS)
    oracle = instance_oracle(system, model, setup.vllm)
    alone = capacity(oracle, model, trace, "vllm", criterion, seeds=(0,), requests=REQUESTS, resolution=0.05)
    return found, alone.rate_per_s / setup.vllm.devices


@PAPERS.register("distserve")
def replicate_distserve() -> Replication:
    """Best placement apart over vLLM, at the objective of the paper and at tighter ones."""
    claims = []
    for setup in SETUPS:
        for scale in (1.0, 0.6):
            found, alone = search(setup, scale)
            best = next((one for one in found.placements if one.decode is not None), None)
            limits = f"TTFT {setup.slo.ttft_s * scale:g} s, TPOT {setup.slo.tpot_s * scale:g} s"
            where = f"{setup.model}, {limits}, vLLM tp {setup.vllm.tp}"
            gain = best.rate_per_device_per_s / alone if best and alone else None
            note = (
                f"{best.prefill} + {best.decode}, {best.rate_per_device_per_s:.2f}/s a device" if best else "none fits"
            )
            published = 7.4 if scale == 1.0 else None
            claims.append(Claim("requests over vLLM (largest of the paper)", where, "x", published, gain, PAPER, note))
            text = "best apart over best together, both with free parallelism"
            claims.append(Claim(text, where, "x", None, found.gain, PAPER))
    configuration = (
        f"hgx-a100 (one NVSwitch node of 8), {REQUESTS} requests with ShareGPT-like lengths below 2048 tokens, 90 % of "
        "requests within both limits; the paper's largest gain is over three tasks with vLLM's default parallelism"
    )
    return Replication(PAPER, configuration, tuple(claims))
