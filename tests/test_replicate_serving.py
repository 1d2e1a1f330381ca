"""Directions of published serving results on small runs: fairness bound, chunked prefills, memory on demand."""

from __future__ import annotations

import pytest

from archsim.config import load
from archsim.serving.capacity import Criterion, capacity
from archsim.serving.oracle import AffineOracle
from archsim.serving.results import Slo
from archsim.validation.papers import PAPERS
from archsim.validation.papers.distserve import chat_lengths
from archsim.validation.papers.vtc import bound, service_gap, two_backlogged
from archsim.workload.requests import load_requests

# One A100 with a 7B model, as the vidur oracle of the reference data has it: 8 ms, 55 us a prompt token, 0.32 us a
# context token, 12 us a request.
ORACLE = AffineOracle(
    base_s=8e-3, per_request_s=1.2e-5, per_prompt_token_s=5.5e-5, per_prompt_pair_s=2e-9, per_context_token_s=3.2e-7,
    max_tokens=118_784,
)  # fmt: skip


def test_vtc_keeps_backlogged_tenants_within_its_bound() -> None:
    trace = two_backlogged(30.0)
    limit = bound(trace)
    assert service_gap("vtc", trace) <= limit
    assert service_gap("lightllm", trace) > 2 * service_gap("vtc", trace)  # first come, first served has no bound


def test_chunked_prefills_raise_capacity_under_a_tight_time_between_tokens() -> None:
    """Advice of Sarathi-Serve: at least 1.5x vLLM under the strict limit; the gain shrinks as the limit is relaxed."""
    trace = load_requests("poisson-sharegpt-like")

    def gain(limit_s: float) -> float:
        criterion = Criterion(Slo(), tbt_p99_s=limit_s, median_delay_s=2.0)
        rates = [
            capacity(ORACLE, None, trace, policy, criterion, seeds=(0,), requests=500).rate_per_s
            for policy in ("sarathi", "vllm")
        ]
        return rates[0] / rates[1]

    assert gain(0.1) > 1.5
    assert gain(0.1) > gain(1.0)


def test_iteration_level_batching_and_paged_memory_each_raise_the_rate() -> None:
    criterion = Criterion(Slo(), median_delay_s=1.0)
    rates = []
    for policy in ("fcfs-static", "orca", "vllm"):
        reserve = {} if policy == "vllm" else {"max_length": 2048}
        found = capacity(
            ORACLE, None, chat_lengths(), policy, criterion, seeds=(0,), requests=400, max_batch=256, **reserve
        )  # type: ignore[arg-type]
        rates.append(found.rate_per_s)
    assert rates == sorted(rates)
    assert rates[2] > 1.3 * rates[0]


def test_lengths_of_chats_fit_the_model() -> None:
    trace = chat_lengths()
    limit = load("model", "opt-13b").max_positions
    assert len(trace) > 300
    assert int((trace.prompt_tokens + trace.output_tokens).max()) < limit


@pytest.mark.parametrize("paper", ["sarathi-serve", "distserve", "vtc", "orca-vllm"])
def test_the_serving_papers_are_there(paper: str) -> None:
    assert paper in PAPERS.names()
