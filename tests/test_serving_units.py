"""How long units work: the parts add up, and the tables say what the full evaluation of every iteration does."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from archsim.config import load_model, load_system
from archsim.config.loader import load
from archsim.errors import UsageError
from archsim.execution.unit_times import UnitTimes
from archsim.serving import AffineOracle, Deployment, serve
from archsim.serving.nodes import Loading, NodeEvent
from archsim.serving.system_oracle import SystemOracle
from archsim.workload.traces import Adapter, Trace, make_trace
from tests import serving_twins

assert serving_twins  # registers the twins
MODEL = load_model("llama2-7b")


@pytest.fixture(scope="module", params=["dgx-a100", "dgx-a100-attacc-bank"])
def oracle(request: pytest.FixtureRequest) -> SystemOracle:
    return SystemOracle(load_system(request.param), MODEL)


def _trace(count: int = 60, seed: int = 1) -> Trace:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(0.05, count))
    return make_trace("t", arrival, rng.integers(16, 1500, count), rng.integers(1, 120, count))


class Asked:
    """Adds up the units of every iteration by itself."""

    def __init__(self, inner: SystemOracle) -> None:
        self.inner, self.times = inner, UnitTimes(inner)
        self.kv_bytes_per_token, self.kv_capacity_bytes = inner.kv_bytes_per_token, inner.kv_capacity_bytes
        self.max_tokens, self.usd_per_hour = inner.max_tokens, 1.0
        self.busy_s: dict[str, float] = defaultdict(float)

    def iteration_s(self, prefill_tokens: Any, decode_contexts: Any) -> float:
        for unit, seconds in self.times.iteration(prefill_tokens, decode_contexts).items():
            self.busy_s[unit] += seconds
        return self.inner.iteration_s(prefill_tokens, decode_contexts)


@pytest.mark.parametrize("policy", ["vllm", "sarathi", "twin-sarathi", "distserve"])
def test_shares_add_up_and_equal_the_full_evaluation(oracle: SystemOracle, policy: str) -> None:
    where = Deployment(instances=2)
    report = serve(oracle, MODEL, _trace(), policy, deployment=where, units=True)
    asked = Asked(oracle)
    full = serve(asked, MODEL, _trace(), policy, deployment=where)
    assert set(asked.busy_s) - {"host"} == {use.unit for use in report.units} - {"host"}
    for use in report.units:
        parts = use.prompts_fraction + use.mixed_fraction + use.decodes_fraction
        assert use.busy_fraction == pytest.approx(parts)
        assert use.busy_fraction + use.waiting_fraction + use.idle_fraction == pytest.approx(1.0, abs=1e-12)
        assert use.busy_fraction <= report.busy_fraction * (1 + 1e-6)
        assert use.idle_fraction == pytest.approx(1.0 - report.busy_fraction, abs=1e-6)
        expected = asked.busy_s[use.unit] / (2 * full.duration_s)
        assert use.busy_fraction == pytest.approx(expected, rel=0.02)
    if oracle.name == "dgx-a100":  # nothing overlaps
        assert sum(use.busy_fraction for use in report.units) == pytest.approx(report.busy_fraction, rel=1e-4)
    else:
        assert any(use.waiting_fraction > 0.01 for use in report.units)
        prefills = {use.unit: use.prompts_fraction for use in report.units if policy == "vllm"}
        assert prefills.get("pim", 0.0) == 0.0  # prompts attend on the GPU


def test_joined_steps_lost_iterations_and_stages_count_alike(oracle: SystemOracle) -> None:
    trace = replace(_trace(), adapter=np.arange(60) % 3 - 1, adapters=(Adapter("x", 8), Adapter("y", 64)))
    events = (NodeEvent(0.8, 1, "remove"), NodeEvent(1.2, 1, "add"))
    loading = Loading(load("link", "pcie4-x16"))
    for where in (
        Deployment(instances=2, node_events=events, loading=loading, router="least-outstanding"),
        Deployment(instances=2, stages=2, loading=loading),
    ):
        ours = serve(oracle, MODEL, trace, "vllm", deployment=where, units=True)
        for use in ours.units:
            assert 0.0 < use.busy_fraction < ours.busy_fraction * (1 + 1e-6)
        if where.stages == 1:
            twin = serve(oracle, MODEL, trace, "twin-vllm", deployment=where, units=True)
            for use, other in zip(ours.units, twin.units, strict=True):
                assert (use.unit, use.machine) == (other.unit, other.machine)
                assert use.busy_fraction == pytest.approx(other.busy_fraction, rel=0.02)
                assert use.waiting_fraction == pytest.approx(other.waiting_fraction, abs=0.01)


def test_machines_of_a_disaggregated_policy_are_told_apart() -> None:
    where = Deployment(instances=3, decode_system=load_system("dgx-a100-attacc-bank"))
    report = serve(load_system("dgx-a100"), MODEL, _trace(), "distserve", deployment=where, units=True)
    assert {use.machine for use in report.units} == {"dgx-a100", "dgx-a100-attacc-bank"}
    for use in report.units:
        assert (use.decodes_fraction == 0.0) == (use.machine == "dgx-a100")
        assert (use.prompts_fraction == 0.0) == (use.machine != "dgx-a100")


def test_each_instance_costs_what_its_machine_costs() -> None:
    cheap, dear = AffineOracle(0.01, usd_per_hour=1.0), AffineOracle(0.01, usd_per_hour=10.0)
    for policy in ("distserve", "splitwise"):
        options = {"prefill_instances": 2} if policy == "distserve" else {"prompt_instances": 2}
        where = Deployment(instances=3, decode_system=dear)
        report = serve(cheap, None, _trace(), policy, deployment=where, **options)
        assert report.cost.usd_per_hour == pytest.approx(2 * 1.0 + 10.0)
        assert [use.role for use in report.instances] == ["prefill", "prefill", "decode"]
    with pytest.raises(UsageError, match="has no decode instances"):
        serve(cheap, None, _trace(), "vllm", deployment=where)
    with pytest.raises(UsageError, match="none is left for --decode-system"):
        serve(cheap, None, _trace(), "splitwise", deployment=where, prompt_instances=0)
