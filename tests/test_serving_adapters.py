"""Adapters (LoRA): memory shared with the KV cache, loads over the host link, least recently used ones go first."""

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
from archsim.config import load_model, load_system
from archsim.config.loader import load
from archsim.config.schemas.requests import Adapters
from archsim.errors import InputError, UsageError
from archsim.serving import AffineOracle, Deployment, serve
from archsim.serving.adapters import adapter_rows, adapter_weights
from archsim.serving.hooks import Batch, Instance, Policy, RequestState
from archsim.serving.nodes import Loading, NodeEvent
from archsim.serving.policy import POLICIES
from archsim.serving.run import check_options, run
from archsim.serving.runlog import RunLog
from archsim.serving.system_oracle import SystemOracle
from archsim.workload.synthetic import draw_adapters
from archsim.workload.traces import Adapter, Trace, make_trace, read_trace
from tests import serving_twins

QUICK: dict[str, Any] = {
    "deadline": None, "derandomize": True, "phases": (Phase.explicit, Phase.generate), "database": None,
}  # fmt: skip
BUILT_IN = ("orca", "fcfs-static", "vllm", "vllm-v1", "sarathi", "lightllm", "vtc", "distserve")
MODEL = load_model("llama2-7b")  # no grouped heads: an adapter of rank r takes 4 r tokens
LOADING = Loading(load("link", "pcie4-x16"))
ORACLE = AffineOracle(
    5e-3, 1e-5, 4e-5, 1e-9, 3e-7, max_tokens=2000, base_j=3.0, adapter_byte_s=1e-12, adapter_flop_s=1e-13
)


def _trace(seed: int = 2, adapters: int = 6, count: int = 50) -> Trace:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(0.02, count))
    tenants = [str(t) for t in rng.integers(0, 3, count)]
    plain = make_trace("t", arrival, rng.integers(1, 400, count), rng.integers(1, 150, count), tenants)
    ranks = tuple(Adapter(f"a{k}", (8, 16, 32)[k % 3]) for k in range(adapters))
    return replace(plain, adapter=rng.integers(-1, adapters, count), adapters=ranks)


def _run(
    trace: Trace, policy: str, *, join: bool = True, oracle: AffineOracle = ORACLE, timeline: bool = False, **where: Any
) -> RunLog:  # fmt: skip
    options = {"transfer_s_per_token": 1e-5} if policy == "distserve" else {}
    checked = check_options(policy, POLICIES.get(policy), options)
    count = 3 if policy == "distserve" else 2
    deployment = Deployment(instances=count, loading=LOADING, **{"router": "jsq-tokens", **where})
    return run(POLICIES.get(policy), checked, oracle, MODEL, trace, deployment, join_steps=join, timeline=timeline)


@pytest.mark.parametrize("policy", BUILT_IN)
@given(seed=st.integers(0, 9), prefetch=st.sampled_from([0, 3]), most=st.sampled_from([None, 1, 3]))
@settings(max_examples=8, **QUICK)
def test_laws_of_residency(policy: str, seed: int, prefetch: int, most: int | None) -> None:
    trace = _trace(seed)
    log = _run(trace, policy, prefetch=prefetch, max_adapters=most)
    assert (log.requests["completed"] >= 0).all()
    rows = log.instances
    assert (rows["free"] == rows["total"]).all()
    assert (rows["peak"] <= rows["total"]).all()
    for name in ("held", "allocated", "pending_tokens", "in_use", "adapter_blocks"):
        assert (rows[name] == 0).all(), name
    assert (rows["idle"] >= 0).all()
    assert (rows["loads"] - rows["evictions"] == rows["resident"]).all()
    assert (rows["most_resident"] <= (most or len(trace.adapters))).all()
    assert trace.adapter is not None
    with_one = int((trace.adapter >= 0).sum())
    pulled = int((trace.adapter[trace.output_tokens > 1] >= 0).sum()) if policy == "distserve" else 0
    if prefetch == 0:  # every admission finds its adapter there or loads it
        assert rows["hits"].sum() + rows["loads"].sum() >= with_one + pulled
    single = _run(trace, policy, join=False, prefetch=prefetch, max_adapters=most)
    for name in ("first_scheduled", "first_token", "completed", "restarts"):
        np.testing.assert_array_equal(log.requests[name], single.requests[name])
    for name in ("loads", "hits", "evictions", "stall_ns", "busy_ns"):
        np.testing.assert_array_equal(rows[name], single.instances[name])


@pytest.mark.parametrize("policy", ["vllm", "vtc", "distserve"])
def test_an_instance_that_fails_loses_its_adapters(policy: str) -> None:
    events = (NodeEvent(0.3, 1, "remove"), NodeEvent(0.6, 1, "add"))
    log = _run(_trace(), policy, node_events=events)
    assert (log.requests["completed"] >= 0).all()
    assert (log.instances["free"] == log.instances["total"]).all()


@POLICIES.register("test-watched-vllm")
class Watched(serving_twins.TwinVllm):
    """Looks at every batch that ran."""

    def on_iteration_end(self, instance: Instance, batch: Batch, finished: list[RequestState]) -> None:
        adapters = instance.pool.adapters
        assert adapters is not None
        assert instance.up
        for request in (*batch.prefills, *batch.decodes):
            ready = adapters.ready_ns(request.adapter)
            assert request.adapter < 0 or (ready is not None and ready <= batch.start_ns + batch.stall_ns)
        super().on_iteration_end(instance, batch, finished)


GONE = (NodeEvent(0.3, 1, "remove"), NodeEvent(0.5, 0, "leave"), NodeEvent(0.6, 1, "add"), NodeEvent(2.0, 0, "add"))


@pytest.mark.parametrize("policy", ["orca", "vllm", "sarathi", "watched"])
@given(
    seed=st.integers(0, 9), prefetch=st.sampled_from([0, 3]), most=st.sampled_from([None, 1, 3]),
    router=st.sampled_from(["random", "round-robin", "least-outstanding", "jsq-tokens"]), events=st.booleans(),
)  # fmt: skip
@settings(max_examples=10, **QUICK)
def test_a_policy_in_python_serves_adapters_as_its_compiled_twin(
    policy: str, seed: int, prefetch: int, most: int | None, router: str, events: bool
) -> None:
    where = {"prefetch": prefetch, "max_adapters": most, "router": router, "node_events": GONE if events else ()}
    built_in, own = (policy, f"twin-{policy}") if policy != "watched" else ("vllm", "test-watched-vllm")
    ours, twin = _run(_trace(seed), built_in, **where), _run(_trace(seed), own, timeline=True, **where)
    for name in ("first_scheduled", "first_token", "completed", "restarts", "instance", "rejected", "adapter"):
        np.testing.assert_array_equal(ours.requests[name], twin.requests[name], name)
    for name in (
        "busy_ns", "iterations", "peak", "loads", "hits", "evictions", "stall_ns", "load_ns", "most_resident",
        "resident", "in_use", "idle", "adapter_blocks", "displaced", "up_ns", "closed",
    ):  # fmt: skip
        np.testing.assert_array_equal(ours.instances[name], twin.instances[name], name)
    assert (twin.instances["free"] == twin.instances["total"]).all()
    assert (twin.requests["processed"] == twin.requests["prompt"] + twin.requests["output"]).all()
    assert twin.gaps.weights.sum() == int((twin.requests["output"] - 1).sum())  # every token exactly once
    if events:
        assert twin.batches is not None
        on_1 = twin.batches[twin.batches["instance"] == 1]
        assert ((on_1["end"] <= 300_000_000) | (on_1["start"] >= 600_000_000)).all()  # nothing runs while it is down


def test_an_instance_that_left_comes_back_without_adapters() -> None:
    trace = make_trace("t", [0.0, 2.0], [16, 16], [2, 2])
    trace = replace(trace, adapter=np.array([0, 0]), adapters=(Adapter("x", 8),))
    events = (NodeEvent(1.0, 0, "leave"), NodeEvent(1.5, 0, "add"))
    for policy in ("vllm", "twin-vllm"):
        for gone, loads in (((), 1), (events, 2)):
            where = Deployment(loading=LOADING, node_events=gone)
            report = serve(AffineOracle(0.01, max_tokens=4096), MODEL, trace, policy, deployment=where)
            assert report.adapters is not None
            assert report.adapters.loads == loads


def test_a_policy_that_forgets_the_adapter_is_told() -> None:
    trace = make_trace("t", [0.0], [16], [2])
    trace = replace(trace, adapter=np.array([0]), adapters=(Adapter("x", 8),))
    with pytest.raises(UsageError, match="keeps books of its own and has no place for adapters"):
        serve(ORACLE, MODEL, trace, "splitwise", deployment=Deployment(loading=LOADING))
    with pytest.raises(UsageError, match="over-commits the KV cache: 2 blocks wanted, 0 free"):
        serve(
            AffineOracle(0.01, max_tokens=32), MODEL, trace, "test-all-at-once", deployment=Deployment(loading=LOADING)
        )


@POLICIES.register("test-all-at-once")
class AllAtOnce(Policy):
    """Looks at no memory."""

    def fits(self, request: RequestState, instance: Instance) -> bool:
        return True

    def form_batch(self, instance: Instance) -> Batch:
        if not instance.waiting:
            return Batch([], instance.running)
        request = instance.waiting.popleft()
        instance.pool.grow(request, instance.pool.blocks_for(request.longest))
        return Batch([request], [])


def test_without_adapters_nothing_changes() -> None:
    trace = _trace()
    bare = replace(trace, adapter=None, adapters=())
    unused = replace(trace, adapter=np.full(len(trace), -1))
    ours, other = _run(unused, "vllm"), _run(bare, "vllm")
    np.testing.assert_array_equal(ours.requests["completed"], other.requests["completed"])
    assert ours.total("loads") == 0


def test_loads_hits_and_stalls_by_hand() -> None:
    """Iterations of 10 ms. a0, a1, a0 again: two loads; with one place a0 has to come back."""
    trace = make_trace("t", [0.0, 1.0, 2.0], [16, 16, 16], [2, 2, 2])
    trace = replace(trace, adapter=np.array([0, 1, 0]), adapters=(Adapter("x", 8), Adapter("y", 8)))
    load_s = LOADING.seconds(adapter_weights(MODEL, 8) * 2.0)
    oracle = AffineOracle(0.01, max_tokens=4096)
    for most, loads in ((None, 2), (1, 3)):
        where = Deployment(loading=LOADING, max_adapters=most)
        report = serve(oracle, MODEL, trace, "vllm", deployment=where)
        assert report.adapters is not None
        assert (report.adapters.loads, report.adapters.hits) == (loads, 3 - loads)
        assert report.adapters.stall_s == pytest.approx(loads * load_s, rel=1e-6)
        assert report.requests is not None
        first = report.requests.first_token_s - report.requests.arrival_s
        assert first == pytest.approx([0.01 + load_s, 0.01 + load_s, 0.01 + load_s * (loads == 3)], rel=1e-6)


def test_loads_overlap_with_compute_if_asked() -> None:
    """Three requests, one place in the batch: who waits has its adapter loaded meanwhile."""
    trace = make_trace("t", [0.0, 0.001, 0.002], [16, 16, 16], [20, 20, 20])
    trace = replace(trace, adapter=np.array([0, 1, 2]), adapters=tuple(Adapter(n, 64) for n in "xyz"))
    stalls = []
    for prefetch in (0, 2):
        where = Deployment(loading=LOADING, prefetch=prefetch)
        report = serve(AffineOracle(0.01, max_tokens=4096), MODEL, trace, "vllm", deployment=where, max_batch=1)
        assert report.adapters is not None
        assert report.adapters.loads == 3
        stalls.append(report.adapters.stall_s)
    assert stalls[1] == pytest.approx(stalls[0] / 3, rel=1e-6)  # the first one finds an empty machine


def test_memory_is_one_pool() -> None:
    """S-LoRA: rank r takes the place of 4 r tokens; a request whose adapter leaves no room is rejected."""
    trace = replace(_trace(), adapters=(Adapter("x", 64),) * 6)
    rows = adapter_rows(trace, MODEL, [ORACLE], 16, LOADING)
    assert rows is not None
    assert (rows["blocks"] == 4 * 64 // 16).all()
    lone = make_trace("t", [0.0, 0.1], [900, 900], [50, 50])
    lone = replace(lone, adapter=np.array([-1, 0]), adapters=(Adapter("x", 64),))
    for policy in ("vllm", "orca", "vtc", "sarathi"):
        report = serve(AffineOracle(0.01, max_tokens=1040), MODEL, lone, policy, deployment=Deployment(loading=LOADING))
        assert (report.counts.completed, report.counts.rejected) == (1, 1), policy


def test_an_iteration_takes_longer_by_what_its_adapters_cost() -> None:
    trace = make_trace("t", [0.0, 0.0], [100, 100], [1, 1])
    oracle = AffineOracle(0.01, max_tokens=4096, adapter_byte_s=1e-10, adapter_flop_s=1e-12)
    weights = adapter_weights(MODEL, 8)
    byte_s, flop_s = weights * 2.0 * 1e-10, weights * 2.0 * 1e-12
    for used, distinct in (([0, 0], 1), ([0, 1], 2), ([-1, 1], 1)):
        both = replace(trace, adapter=np.array(used), adapters=(Adapter("x", 8), Adapter("y", 8)))
        log = run(POLICIES.get("vllm"), check_options("vllm", POLICIES.get("vllm"), {}), oracle, MODEL, both,
                  Deployment(loading=LOADING))  # fmt: skip
        tokens = 100 * sum(index >= 0 for index in used)
        span = int(log.requests["completed"][0]) - int(log.total("stall_ns"))
        assert span * 1e-9 == pytest.approx(0.01 + distinct * byte_s + tokens * flop_s, rel=1e-6)


def test_a_described_machine_prices_adapters_below_its_own_weights() -> None:
    oracle = SystemOracle(load_system("dgx-a100"), MODEL)
    weights = adapter_weights(MODEL, 64)
    read, token = oracle.adapter_s(weights * 2.0, 2.0 * weights)
    share = weights / MODEL.weights
    assert 0 < read < 2 * share * oracle.iteration_s([], [1])
    assert 0 < token < 2 * share * oracle.iteration_s([(2048, 0)], []) / 2048


def test_popularity() -> None:
    rng = np.random.default_rng(0)
    even = draw_adapters(Adapters(count=10, popularity="power", alpha=1.0), 20_000, rng)
    np.testing.assert_allclose(np.bincount(even) / 20_000, np.full(10, 0.1), atol=0.01)
    skewed = np.bincount(draw_adapters(Adapters(count=10, alpha=1.0, share=0.5), 20_000, rng) + 1)
    assert skewed[0] / 20_000 == pytest.approx(0.5, abs=0.02)
    assert skewed[1] / skewed[2] == pytest.approx(2.0, rel=0.1)


def test_from_a_file_and_the_command_line(tmp_path: Path) -> None:
    head = "arrival_s,prompt_tokens,output_tokens,adapter_id,adapter_rank\n"
    path = tmp_path / "t.csv"
    path.write_text(head + "0,64,8,x,8\n0.1,64,8,,\n0.2,64,8,x,8\n", "utf-8")
    arguments = ["dgx-a100", "llama2-7b", "--requests", str(path), "--policy", "sarathi"]
    with pytest.raises(UsageError, match="--host-link"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    result = CliRunner().invoke(command, [*arguments, "--host-link", "pcie4-x16"], catch_exceptions=False)
    assert "hit rate 50.0%" in result.stdout
    path.write_text(head + "0,64,8,x,8\n0.2,64,8,x,16\n", "utf-8")
    with pytest.raises(InputError, match=r"t.csv:3: adapter_rank: found 16, adapter 'x' had 8"):
        read_trace(path)
    path.write_text("arrival_s,prompt_tokens,output_tokens,adapter_id\n0,64,8,x\n", "utf-8")
    with pytest.raises(InputError, match="needs a column 'adapter_rank'"):
        read_trace(path)
