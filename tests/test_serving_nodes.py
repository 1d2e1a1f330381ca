"""Instances that go and come: nobody is lost, nothing is counted twice, and it costs what it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from archsim.cli.serve import serve as command
from archsim.config import load_model
from archsim.config.loader import load
from archsim.config.schemas.events import NodeEvents
from archsim.errors import UsageError
from archsim.serving import AffineOracle, Deployment, serve
from archsim.serving.nodes import Loading, NodeEvent, node_events
from archsim.serving.policy import POLICIES
from archsim.serving.run import check_options, run
from archsim.serving.runlog import RunLog
from archsim.workload.traces import Trace, make_trace
from tests import serving_twins

assert serving_twins  # registers the twins
QUICK: dict[str, Any] = {
    "deadline": None, "derandomize": True, "phases": (Phase.explicit, Phase.generate), "database": None,
}  # fmt: skip
BUILT_IN = ("orca", "fcfs-static", "vllm", "vllm-v1", "sarathi", "lightllm", "vtc", "lcf", "distserve")
ORACLE = AffineOracle(5e-3, 1e-5, 4e-5, 1e-9, 3e-7, max_tokens=2000, base_j=3.0, per_context_token_j=1e-3)


def _trace(count: int = 60, seed: int = 2) -> Trace:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(0.02, count))
    tenants = [str(t) for t in rng.integers(0, 3, count)]
    return make_trace("t", arrival, rng.integers(1, 500, count), rng.integers(1, 200, count), tenants)


def _run(trace: Trace, policy: str, where: Deployment, *, join: bool = True, **options: Any) -> RunLog:
    checked = check_options(policy, POLICIES.get(policy), options)
    return run(POLICIES.get(policy), checked, ORACLE, None, trace, where, join_steps=join, timeline=True)


@st.composite
def event_lists(draw: st.DrawFn) -> tuple[NodeEvent, ...]:
    """Instances 0 to 3 go in some way, and all come back."""
    found = []
    for instance in range(4):
        gone = draw(st.sampled_from([0.0, 0.1, 0.333, 0.8, 2.0]))
        back = gone + draw(st.sampled_from([0.01, 0.2, 1.0]))
        for event in draw(st.sampled_from([["remove"], ["drain"], ["leave"], []])):
            found.append(NodeEvent(gone, instance, event))
            if event == "drain":
                found.append(NodeEvent((gone + back) / 2, instance, "remove"))
            found.append(NodeEvent(back, instance, "add", gone + 0.005))
    return tuple(sorted(found, key=lambda event: event.time_s))


@pytest.mark.parametrize("policy", BUILT_IN)
@given(events=event_lists(), seed=st.integers(0, 5))
@settings(max_examples=8, **QUICK)
def test_nothing_is_lost_and_memory_is_whole(policy: str, events: tuple[NodeEvent, ...], seed: int) -> None:
    where = Deployment(instances=4, router="jsq-tokens", node_events=events)
    options = {"prefill_instances": 2, "transfer_s_per_token": 1e-5} if policy == "distserve" else {}
    trace = _trace(seed=seed)
    log = _run(trace, policy, where, **options)
    assert (log.requests["completed"] >= 0).all()
    assert (log.requests["processed"] == log.requests["prompt"] + log.requests["output"]).all()
    assert (log.instances["free"] == log.instances["total"]).all()
    for name in ("held", "allocated", "pending_tokens", "requests", "in_flight", "promised", "swapped"):
        assert (log.instances[name] == 0).all(), name
    assert log.gaps.weights.sum() == int((trace.output_tokens - 1).sum())  # every token exactly once
    assert log.batches is not None
    assert log.batches["joules"].sum() == pytest.approx(log.total("joules"))
    assert log.batches["tokens"].sum() == int(trace.output_tokens.sum())
    again = _run(trace, policy, where, join=False, **options)
    for name in ("first_scheduled", "first_token", "completed", "restarts", "instance"):
        np.testing.assert_array_equal(log.requests[name], again.requests[name])
    for name in ("busy_ns", "displaced", "up_ns", "iterations"):
        np.testing.assert_array_equal(log.instances[name], again.instances[name])
    np.testing.assert_allclose(log.instances["joules"], again.instances["joules"])


@pytest.mark.parametrize("policy", ["orca", "vllm", "sarathi"])
@given(events=event_lists(), seed=st.integers(0, 5))
@settings(max_examples=8, **QUICK)
def test_policies_in_python_see_the_same(policy: str, events: tuple[NodeEvent, ...], seed: int) -> None:
    where = Deployment(instances=4, router="least-outstanding", node_events=events)
    ours, twin = _run(_trace(seed=seed), policy, where), _run(_trace(seed=seed), f"twin-{policy}", where)
    for name in ("first_scheduled", "first_token", "completed", "restarts", "instance"):
        np.testing.assert_array_equal(ours.requests[name], twin.requests[name])
    for name in ("busy_ns", "displaced", "up_ns", "iterations", "closed"):
        np.testing.assert_array_equal(ours.instances[name], twin.instances[name])
    np.testing.assert_allclose(ours.instances["joules"], twin.instances["joules"])


def test_one_failure_by_hand() -> None:
    """10 ms an iteration; instance 1 fails at 505 ms, 50 tokens into its answer of 100."""
    trace = make_trace("two", [0.0, 0.0], [10, 10], [100, 100])
    events = (NodeEvent(0.505, 1, "remove"),)
    report = serve(AffineOracle(0.01, usd_per_hour=3600.0), None, trace, "orca", max_length=110,
                   deployment=Deployment(instances=2, node_events=events))  # fmt: skip
    table = report.requests
    assert table is not None
    # at 510 ms it joins the other, which recomputes 60 tokens in one iteration and makes token 51 with it
    np.testing.assert_allclose(table.completed_s, [1.0, 0.51 + 0.01 * 50])
    assert (report.counts.displaced, report.counts.preemptions, report.counts.unserved) == (1, 1, 0)
    assert [use.up_fraction for use in report.instances] == pytest.approx([1.0, 0.505 / 1.01])
    assert report.cost.usd_per_million_output_tokens == pytest.approx((1.01 + 0.505) / 200 * 1e6)


def test_a_lobby_waits_and_what_nobody_takes_is_counted() -> None:
    trace = make_trace("three", [0.0, 0.5, 0.6], [10, 10, 10], [3, 3, 3])
    back = (NodeEvent(0.2, 0, "remove"), NodeEvent(2.0, 0, "add"))
    for policy in ("vllm", "twin-vllm"):
        report = serve(AffineOracle(0.01), None, trace, policy, deployment=Deployment(node_events=back))
        assert report.requests is not None
        np.testing.assert_allclose(report.requests.first_token_s, [0.01, 2.01, 2.01])
        gone = serve(AffineOracle(0.01), None, trace, policy, deployment=Deployment(node_events=back[:1]))
        assert (gone.counts.completed, gone.counts.unserved) == (1, 2)


def test_a_joining_instance_loads_its_weights_first() -> None:
    model = load_model("llama2-7b")
    loading = Loading(load("link", "pcie4-x16"), devices=2)
    events = NodeEvents.model_validate({"name": "e", "startup": 5.0, "events": [
        {"time": 10.0, "instance": 0, "event": "fail"}, {"time": 20.0, "instance": 0, "event": "join"},
        {"time": 30.0, "instance": 1, "event": "join", "load_time": 4.0}]})  # fmt: skip
    found = node_events(events, 2, model, loading)
    # 13.5 GB over two links of 32 GB/s each, and no faster
    assert found[1].time_s - 25.0 > model.weight_bytes / 2 / 32e9
    assert found[1].time_s - 25.0 == pytest.approx(model.weight_bytes / 2 / 32e9, rel=0.4)
    assert (found[1].since_s, found[2].time_s) == (20.0, 34.0)
    slow = replace(loading, storage_bytes_per_s=1e9)
    assert node_events(events, 2, model, slow)[2].time_s == pytest.approx(25.0 + model.weight_bytes / 1e9)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("{time: 1, instance: 5, event: fail}", "instance 5, there are 2"),
        ("{time: 1, instance: 0, event: notice}", "grace"),
        ("{time: 1, instance: 0, event: explode}", "explode"),
        ("{time: -1, instance: 0, event: fail}", "-1"),
        ("{time: 1, instance: 0, event: fail}\n  - {time: 2, instance: 0, event: leave}", "not there"),
        ("{time: 1, instance: 0, event: leave}\n  - {time: 2, instance: 0, event: join}", "--host-link"),
    ],
)
def test_bad_events_are_one_line(tmp_path: Path, event: str, message: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(f"kind: events\nname: e\nevents:\n  - {event}\n", encoding="utf-8")
    arguments = ["vidur-llama2-7b", "llama2-7b", "--requests", "azure-conv-sample", "--instances", "2"]
    result = CliRunner().invoke(command, [*arguments, "--events", str(path)])
    assert result.exception is not None
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_events_from_the_command_line() -> None:
    arguments = ["vidur-llama2-7b", "llama2-7b", "--requests", "azure-conv-sample", "--instances", "2",
                 "--events", "spot-notice", "--host-link", "pcie4-x16"]  # fmt: skip
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "there 9" in result.stdout
    assert "400 of 400" in result.stdout
    with pytest.raises(UsageError, match="node events"):
        CliRunner().invoke(command, [*arguments, "--policy", "splitwise"], catch_exceptions=False)
