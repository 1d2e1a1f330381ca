"""Capacity by bisection against queueing theory, with common random numbers; placement of prefill and decode."""

from __future__ import annotations

import json

import numpy as np
import pytest

from archsim.cli.main import run
from archsim.config import load_model, load_system
from archsim.config.loader import load
from archsim.errors import UsageError
from archsim.serving import Deployment, serve
from archsim.serving.capacity import Criterion, capacity, unit_rate_stream
from archsim.serving.nodes import Loading, NodeEvent
from archsim.serving.oracle import AffineOracle
from archsim.serving.placement import place
from archsim.serving.results import Slo
from archsim.serving.transfer import cache_seconds_per_token
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace, make_trace
from tests import serving_twins

assert serving_twins  # registers the twins
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


def test_a_failure_costs_capacity_and_adapters_take_part() -> None:
    """Two instances of one request/s each; one that is never there leaves half."""
    trace = one_token_requests()
    oracle, criterion = AffineOracle(base_s=1.0, max_tokens=4096), Criterion(Slo(), median_delay_s=1e-6)
    rates = []
    for events in ((), (NodeEvent(1e-6, 1, "remove"),)):
        for policy in ("orca", "twin-orca"):
            where = Deployment(instances=2, router="random", node_events=events)
            found = capacity(oracle, None, trace, policy, criterion, deployment=where, seeds=(0,), requests=3000,
                             max_batch=1)  # fmt: skip
            rates.append(found.rate_per_s)
    assert rates[0] == rates[1]
    assert rates[2] == rates[3]
    assert rates[2] == pytest.approx(0.5, rel=0.1)  # M/D/1, as above
    assert rates[0] == pytest.approx(1.0, rel=0.1)
    late = Deployment(node_events=(NodeEvent(1e7, 0, "remove"),))
    noted = capacity(oracle, None, trace, "orca", criterion, deployment=late, seeds=(0,), requests=50, max_batch=1)
    assert "1 of 1 events come after the" in noted.notes[-1]


def test_a_cache_that_moves_takes_the_time_of_its_link_in_capacity_too() -> None:
    """The limit lies between the time to the second token with and without the transfer."""
    system, model = load_system("dgx-a100"), load_model("llama2-7b")
    span = 1000 * cache_seconds_per_token(system, model)
    trace = make_trace("t", np.arange(20.0), np.full(20, 1000), np.full(20, 2))
    lone = serve(system, model, trace, "distserve", deployment=Deployment(instances=2), transfer_s_per_token=0.0)
    assert lone.tpot_s is not None
    criterion = Criterion(Slo(tpot_s=lone.tpot_s.max + span / 2))
    for policy in ("distserve", "splitwise"):
        rates = [
            capacity(system, model, trace, policy, criterion, deployment=Deployment(instances=2), seeds=(0,),
                     requests=20, resolution=0.5, **options).rate_per_s
            for options in ({"transfer_s_per_token": 0.0}, {})
        ]  # fmt: skip
        assert rates[0] > 0.0 == rates[1], policy


def test_swaps_take_the_time_of_the_host_link() -> None:
    model, link = load_model("llama2-7b"), load("link", "pcie4-x16")
    trace = make_trace("t", [0.0, 0.0], [100, 100], [100, 100])
    oracle = AffineOracle(0.01, max_tokens=320)
    options = {"preemption": "swap", "watermark": 0}
    free = serve(oracle, model, trace, "vllm", **options).duration_s
    tokens = (serve(oracle, model, trace, "vllm", swap_s_per_token=1e-6, **options).duration_s - free) / 1e-6
    linked = serve(oracle, model, trace, "vllm", deployment=Deployment(loading=Loading(link)), **options).duration_s
    assert tokens > 100
    assert 1.0 < (linked - free) / (tokens * model.kv_bytes(1) / link.bandwidth) < 1.5  # headers, latency


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


def test_the_commands_print_json_and_refuse_a_missing_limit(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["capacity", "hgx-a100", "llama2-7b", "--requests", "azure-conv-sample"]
    assert run(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    limits = ["--ttft", "1", "--seeds", "1", "--count", "30", "--json"]
    assert run([*command, *limits]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["rate_per_s"] > 0
    assert document["usd_per_million_output_tokens"] > 0
