"""Capacity by bisection against queueing theory, with common random numbers; placement of prefill and decode."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from archsim.config import load_model, load_system
from archsim.errors import UsageError
from archsim.serving.capacity import Criterion, capacity, unit_rate_stream
from archsim.serving.oracle import AffineOracle
from archsim.serving.placement import place
from archsim.serving.results import Slo
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace, make_trace

INFINITE = float("inf")


def one_token_requests(count: int = 100) -> Trace:
    return make_trace("ones", np.arange(count, dtype=float), np.ones(count, dtype=int), np.ones(count, dtype=int))


def test_a_single_server_is_idle_half_of_the_time_at_its_median_delay() -> None:
    """M/D/1: an arrival finds the server free with probability 1 - rate x service, so half wait at 0.5 / service."""
    criterion = Criterion(Slo(), median_delay_s=1e-6)
    found = capacity(
        AffineOracle(base_s=0.01), None, one_token_requests(), "orca", criterion,
        requests=20_000, seeds=range(6), max_batch=1,
    )  # fmt: skip
    assert found.rate_per_s == pytest.approx(50.0, rel=0.03)
    assert found.low is not None
    assert found.high is not None
    assert found.low * 0.98 <= 50.0 <= found.high * 1.02


@pytest.mark.parametrize("policy", ["orca", "vllm", "sarathi"])
def test_what_is_found_meets_the_objective_and_more_does_not(policy: str) -> None:
    trace = load_requests("azure-conv-sample")
    oracle = AffineOracle(base_s=0.01, per_request_s=2e-4, per_prompt_token_s=5e-5, per_context_token_s=1e-8)
    found = capacity(oracle, None, trace, policy, Criterion(Slo(1.0, 0.05)), seeds=(0, 1), requests=400)
    for seed, rate in zip((0, 1), found.rates_per_s, strict=True):
        mine = [trial for trial in found.trials if trial.seed == seed]
        assert any(trial.met and trial.rate_per_s == rate for trial in mine)
        assert min(trial.rate_per_s for trial in mine if not trial.met) <= rate * 1.0201
        for trial in mine:  # attainment falls with the rate, so one crossing tells met from not met
            assert trial.met == (trial.rate_per_s <= rate)


def test_a_faster_machine_has_no_lower_capacity_on_the_same_requests() -> None:
    trace, criterion = load_requests("azure-conv-sample"), Criterion(Slo(1.0, 0.1))
    rates = [
        capacity(AffineOracle(base_s=base, per_prompt_token_s=base / 200), None, trace, "vllm", criterion,
                 seeds=(3,), requests=300).rate_per_s
        for base in (0.04, 0.02, 0.01)
    ]  # fmt: skip
    assert rates == sorted(rates)


def test_the_same_seed_gives_the_same_requests_at_every_rate() -> None:
    trace = load_requests("azure-conv-sample")
    first, again = (unit_rate_stream(trace, 50, 7, "poisson") for _ in range(2))
    np.testing.assert_array_equal(first.arrival_s, again.arrival_s)
    np.testing.assert_array_equal(first.prompt_tokens, again.prompt_tokens)
    recorded = unit_rate_stream(trace, 400, 0, "recorded")
    assert recorded.rate_per_s == pytest.approx(1.0)
    np.testing.assert_array_equal(recorded.output_tokens, trace.output_tokens)


def test_an_objective_no_machine_reaches_has_capacity_zero() -> None:
    slow = AffineOracle(base_s=1.0)
    found = capacity(slow, None, one_token_requests(), "vllm", Criterion(Slo(0.5)), seeds=(0,), requests=20)
    assert found.rate_per_s == 0.0
    assert (found.low, found.high) == (None, None)


@pytest.mark.parametrize(
    ("ttft", "attainment", "says"), [(INFINITE, 0.9, "needs a limit"), (1.0, 1.5, "at most 1"), (-1.0, 0.9, "above 0")]
)
def test_wrong_objectives_are_one_clear_line(ttft: float, attainment: float, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Criterion(Slo(ttft), attainment)


def test_placement_ranks_configurations_by_rate_per_device() -> None:
    trace = load_requests("azure-conv-sample")
    machine = load_system("hgx-a100", ["units.gpu.count=2"])
    found = place(machine, load_model("llama2-7b"), trace, Criterion(Slo(0.5, 0.05)), requests=40, most_pp=1)
    rates = [one.rate_per_device_per_s for one in found.placements]
    assert rates == sorted(rates, reverse=True)
    assert all(one.devices <= 2 for one in found.placements)
    kinds = {(one.prefill.tp, one.decode.tp if one.decode else None) for one in found.placements}
    assert kinds == {(1, None), (2, None), (1, 1)}
    apart = max(one.rate_per_device_per_s for one in found.placements if one.decode)
    both = max(one.rate_per_device_per_s for one in found.placements if one.decode is None)
    assert found.gain == pytest.approx(apart / both)


def test_the_commands_print_json_and_refuse_a_missing_limit() -> None:
    command = [sys.executable, "-m", "archsim", "capacity", "hgx-a100", "llama2-7b", "--requests", "azure-conv-sample"]
    missing = subprocess.run(command, capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    limits = ["--ttft", "1", "--seeds", "1", "--count", "30", "--json"]
    run = subprocess.run([*command, *limits], capture_output=True, text=True, check=True)
    (document,) = json.loads(run.stdout)
    assert document["rate_per_s"] > 0
    assert document["usd_per_million_output_tokens"] > 0
