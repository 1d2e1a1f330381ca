"""Laws every policy keeps, on random workloads: nothing lost, nothing over-committed, no effect before its cause."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from archsim.errors import InfeasibleError, UsageError
from archsim.serving import AffineOracle, AffineTerms, Deployment, LatencyOracle, ServingReport, serve
from archsim.serving.policy import POLICIES
from archsim.serving.run import check_options, run
from archsim.serving.runlog import RunLog
from archsim.workload.requests import load_requests
from archsim.workload.traces import Trace, make_trace
from tests import serving_twins

assert serving_twins  # registers the twins
QUICK: dict[str, Any] = {
    "deadline": None, "derandomize": True, "phases": (Phase.explicit, Phase.generate), "database": None,
}  # fmt: skip
BUILT_IN = ("orca", "fcfs-static", "vllm", "vllm-v1", "sarathi", "lightllm", "vtc", "lcf")
TWINS = ("orca", "vllm", "sarathi")
DISAGGREGATED = Deployment(instances=3)
ORACLE = AffineOracle(
    5e-3, 1e-5, 4e-5, 1e-9, 3e-7, max_tokens=2000, usd_per_hour=36.0,
    decodes=(AffineTerms(5e-3, 1e-5, 0, 0, 3e-7), AffineTerms(4e-3, 5e-5, 0, 0, 3e-7, from_decodes=5)),
    base_j=3.0, per_prompt_token_j=0.2, per_context_token_j=1e-3,
)  # fmt: skip


class Watched:
    """An oracle that only knows single iterations, and remembers what it was asked."""

    def __init__(self, inner: AffineOracle) -> None:
        self.inner = inner
        self.calls: list[tuple[list[tuple[int, int]], list[int]]] = []
        self.kv_bytes_per_token, self.kv_capacity_bytes = inner.kv_bytes_per_token, inner.kv_capacity_bytes
        self.max_tokens, self.usd_per_hour = inner.max_tokens, inner.usd_per_hour
        self.iteration_j = inner.iteration_j

    def iteration_s(self, prefill_tokens: Any, decode_contexts: Any) -> float:
        self.calls.append((list(prefill_tokens), list(decode_contexts)))
        return self.inner.iteration_s(prefill_tokens, decode_contexts)


@st.composite
def traces(draw: st.DrawFn, longest: int = 900) -> Trace:
    """Up to 40 requests, some arriving together, of three tenants, with lengths that make memory tight."""
    count = draw(st.integers(1, 40))
    gaps = draw(st.lists(st.sampled_from([0.0, 1e-9, 0.003, 0.02, 0.4]), min_size=count, max_size=count))
    prompts = draw(st.lists(st.integers(1, longest - 200), min_size=count, max_size=count))
    outputs = draw(st.lists(st.integers(1, 200), min_size=count, max_size=count))
    tenants = draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    return make_trace("random", np.cumsum(gaps), prompts, outputs, tenants)


def _run(trace: Trace, policy: str, oracle: LatencyOracle = ORACLE, *, join: bool = True, deployment: Any = None,
         **options: Any) -> RunLog:  # fmt: skip
    chosen = POLICIES.get(policy)
    checked = check_options(policy, chosen, options)
    where = deployment or (DISAGGREGATED if policy == "distserve" else Deployment())
    return run(chosen, checked, oracle, None, trace, where, join_steps=join)


def _facts(log: RunLog) -> tuple[object, ...]:
    columns = ("first_scheduled", "first_token", "completed", "restarts", "processed", "instance")
    totals = ("iterations", "busy_ns", "peak", "held_token_ns", "joules", "decode_tokens", "decode_contexts")
    gaps = np.repeat(log.gaps.values_ns, log.gaps.weights)
    return (
        [log.requests[name].tolist() for name in columns],
        [log.instances[name].tolist() for name in totals],
        log.end_ns, gaps.tolist(),
    )  # fmt: skip


@pytest.mark.parametrize("policy", [*BUILT_IN, "distserve"])
@given(trace=traces())
@settings(max_examples=8, **QUICK)
def test_a_joined_run_of_decodes_equals_the_single_steps(policy: str, trace: Trace) -> None:
    single = _facts(_run(trace, policy, join=False))
    assert _facts(_run(trace, policy)) == single


@pytest.mark.parametrize("policy", ["vllm", "sarathi", "vtc"])
@pytest.mark.parametrize("router", ["random", "round-robin", "least-outstanding", "jsq-tokens"])
@given(trace=traces())
@settings(max_examples=4, **QUICK)
def test_joined_runs_are_exact_on_several_instances(policy: str, router: str, trace: Trace) -> None:
    three = Deployment(instances=3, router=router)
    assert _facts(_run(trace, policy, deployment=three)) == _facts(_run(trace, policy, join=False, deployment=three))


@pytest.mark.parametrize("policy", TWINS)
@given(trace=traces())
@settings(max_examples=8, **QUICK)
def test_kernels_equal_their_twins_in_python(policy: str, trace: Trace) -> None:
    ours, twin = _run(trace, policy), _run(trace, f"twin-{policy}")
    for name in ("first_scheduled", "first_token", "completed", "restarts", "rejected"):
        np.testing.assert_array_equal(ours.requests[name], twin.requests[name])
    for name in ("iterations", "busy_ns", "decode_tokens", "decode_contexts", "peak"):
        assert ours.total(name) == twin.total(name), name
    assert ours.total("held_token_ns") == pytest.approx(twin.total("held_token_ns"))
    assert ours.total("joules") == pytest.approx(twin.total("joules"))
    assert ours.gaps.weights.sum() == twin.gaps.weights.sum()
    assert (ours.gaps.mean_ns, ours.gaps.max_ns) == (pytest.approx(twin.gaps.mean_ns), twin.gaps.max_ns)


@pytest.mark.parametrize("policy", [*BUILT_IN, "distserve"])
@given(trace=traces())
@settings(max_examples=6, **QUICK)
def test_nothing_is_lost_and_no_effect_precedes_its_cause(policy: str, trace: Trace) -> None:
    oracle = Watched(ORACLE)
    log = _run(trace, policy, oracle)
    assert _facts(log) == _facts(_run(trace, policy))  # asked in Python or compiled: the same
    served = log.requests[log.requests["rejected"] == 0]
    assert (served["processed"] == served["prompt"] + served["output"]).all()
    assert (log.requests["blocks"] == 0).all()
    assert (served["arrival"] <= served["first_scheduled"]).all()
    assert (served["first_scheduled"] < served["first_token"]).all()
    assert (served["first_token"] <= served["completed"]).all()
    assert (log.requests["completed"][log.requests["rejected"] == 1] == -1).all()
    # every token exactly once: each output token comes from one decode step or from the end of a prompt
    decodes = sum(len(contexts) for _, contexts in oracle.calls)
    prompts = int(served["output"].sum()) - decodes
    assert log.total("preempted") + len(served) == prompts or policy in ("vllm-v1", "sarathi", "distserve")
    assert log.gaps.weights.sum() == int((served["output"] - 1).sum())
    processed = sum(new for chunks, _ in oracle.calls for new, _ in chunks)
    assert processed >= int(served["prompt"].sum())
    if not served["restarts"].any():
        assert processed == int(served["prompt"].sum())


@pytest.mark.parametrize("policy", [*BUILT_IN, "distserve"])
@given(trace=traces())
@settings(max_examples=6, **QUICK)
def test_cache_is_never_over_committed_and_freed_in_the_end(policy: str, trace: Trace) -> None:
    oracle = Watched(ORACLE)
    log = _run(trace, policy, oracle)
    assert (log.instances["free"] == log.instances["total"]).all()
    assert (log.instances["peak"] <= log.instances["total"]).all()
    assert (log.instances["held"] == 0).all()
    assert (log.instances["allocated"] == 0).all()
    assert (log.instances["pending_tokens"] == 0).all()
    for chunks, contexts in oracle.calls:  # what an iteration touches must be in the cache
        assert sum(new + before for new, before in chunks) + sum(contexts) <= oracle.max_tokens


@given(trace=traces())
@settings(max_examples=6, **QUICK)
def test_machine_never_idles_while_somebody_is_there(trace: Trace) -> None:
    """Work conservation: whoever fits an empty machine is served, so idle time ends with an arrival."""
    for policy in BUILT_IN:
        log = _run(trace, policy)
        served = log.requests[log.requests["rejected"] == 0]
        ends = [(int(t), 1, -1) for t in served["completed"]]
        present = sorted([(int(t), 0, 1) for t in served["arrival"]] + ends)
        busy, inside, since = 0, 0, 0
        for time_ns, _, change in present:  # arrivals before completions of the same instant
            busy += time_ns - since if inside else 0
            inside, since = inside + change, time_ns
        assert log.total("busy_ns") == busy, policy


@pytest.mark.parametrize("policy", ["orca", "fcfs-static", "vllm", "vllm-v1", "sarathi", "lightllm"])
@given(trace=traces())
@settings(max_examples=4, **QUICK)
def test_first_come_first_scheduled(policy: str, trace: Trace) -> None:
    scheduled = _run(trace, policy).requests["first_scheduled"]
    scheduled = scheduled[scheduled >= 0]
    assert (np.diff(scheduled) >= 0).all()


@given(trace=traces(), max_batch=st.integers(1, 5))
@settings(max_examples=4, **QUICK)
def test_policies_obey_their_limits(trace: Trace, max_batch: int) -> None:
    for policy in BUILT_IN:
        oracle = Watched(ORACLE)
        log = _run(trace, policy, oracle, max_batch=max_batch)
        assert all(len(chunks) + len(contexts) <= max_batch for chunks, contexts in oracle.calls)
        if policy in ("orca", "fcfs-static", "lightllm", "vtc", "lcf"):
            assert not log.requests["restarts"].any()
    oracle = Watched(ORACLE)
    _run(trace, "vllm", oracle, max_batch_tokens=1000)
    for chunks, contexts in oracle.calls:
        assert not (chunks and contexts)
        assert len(chunks) * max((new for new, _ in chunks), default=0) <= 1000 or len(chunks) == 1
    for policy, key in (("sarathi", "chunk_tokens"), ("vllm-v1", "max_batch_tokens")):
        oracle = Watched(ORACLE)
        _run(trace, policy, oracle, **{key: 64})
        assert all(sum(new for new, _ in chunks) + len(contexts) <= 64 for chunks, contexts in oracle.calls)


def _service(log: RunLog, until_ns: int) -> NDArray[np.float64]:
    """Prompt + 2 x output tokens each tenant was charged by a time at which all were backlogged (decodes linear)."""
    r = log.requests
    span = np.maximum(r["completed"] - r["first_token"], 1)
    done = np.clip((until_ns - r["first_token"]) / span, 0, 1)
    started = r["first_token"] <= until_ns
    per_request = np.where(started, r["prompt"] + 2 * done * r["output"], 0)
    return np.bincount(r["tenant"], per_request)


def test_vtc_bounds_the_difference_in_service() -> None:
    """Two backlogged tenants differ by at most 2 max(w_p L_input, w_q M) (Sheng et al. 2024, theorem 4.4)."""
    rng = np.random.default_rng(1)
    count = 600
    tenants = ["heavy" if x < 0.8 else "light" for x in rng.random(count)]
    trace = make_trace("backlog", np.sort(rng.uniform(0, 1, count)), rng.integers(50, 200, count),
                       rng.integers(50, 200, count), tenants)  # fmt: skip
    bound = 2 * max(1 * 200, 2 * ORACLE.max_tokens)
    log = _run(trace, "vtc")
    light_done = log.requests["completed"][log.requests["tenant"] == trace.tenants.index("light")].max()
    for share in (0.3, 0.6, 0.9):
        service = _service(log, int(light_done * share))
        assert abs(service[0] - service[1]) <= bound
    fcfs = _service(_run(trace, "lightllm"), int(light_done * 0.9))
    assert abs(fcfs[0] - fcfs[1]) > bound


def test_swapping_keeps_what_was_computed() -> None:
    rng = np.random.default_rng(3)
    trace = make_trace("tight", np.zeros(30), rng.integers(50, 300, 30), rng.integers(100, 200, 30))
    oracle = Watched(ORACLE)
    log = _run(trace, "vllm", oracle, preemption="swap", swap_s_per_token=1e-5)
    assert log.requests["restarts"].sum() > 0
    assert sum(new for chunks, _ in oracle.calls for new, _ in chunks) == trace.prompt_tokens.sum()
    assert (log.instances["free"] == log.instances["total"]).all()


def test_a_pipeline_keeps_several_batches_in_flight() -> None:
    """Two stages at equal work: with two full micro-batches each step of a request still takes the whole depth."""
    trace = make_trace("burst", np.zeros(8), np.full(8, 10), np.full(8, 20))
    constant = AffineOracle(0.010)
    one = _run(trace, "orca", constant, max_batch=4)
    two = _run(trace, "orca", constant, max_batch=8, deployment=Deployment(stages=2))
    # one stage: two batches of four, 20 iterations of 10 ms each; two stages: both at once, 5 ms apart
    assert one.end_ns == 400_000_000
    assert two.end_ns == 20 * 10_000_000 + 5_000_000


def test_disaggregation_by_hand() -> None:
    oracle = AffineOracle(0.010, prompts=(AffineTerms(0.100),), max_tokens=1600)
    trace = make_trace("two", [0.0, 0.0], [100, 100], [3, 3])
    log = _run(trace, "distserve", oracle, deployment=Deployment(instances=2), max_batch_tokens=100,
               transfer_s_per_token=1e-4, transfer_latency_s=0.005)  # fmt: skip
    # prompts one after the other: 100, 200 ms; each cache moves in 15 ms; then two decode steps of 10 ms
    assert log.requests["first_token"].tolist() == [100_000_000, 200_000_000]
    assert log.requests["completed"].tolist() == [135_000_000, 235_000_000]


def test_back_pressure_fills_the_prefill_instance() -> None:
    """A decode instance for one request at a time: the second prompt waits where it was computed."""
    oracle = AffineOracle(0.010, max_tokens=144)
    trace = make_trace("three", np.zeros(3), np.full(3, 60), np.full(3, 50))
    log = _run(trace, "distserve", oracle, deployment=Deployment(instances=2), transfer_s_per_token=0.0)
    assert np.diff(np.sort(log.requests["completed"])).min() > 0
    assert (log.instances["free"] == log.instances["total"]).all()


@given(trace=traces(), speed=st.sampled_from([1.5, 4.0]))
@settings(max_examples=4, **QUICK)
def test_a_faster_machine_serves_a_burst_sooner(trace: Trace, speed: float) -> None:
    """All at once, so that both machines form the same batches."""
    burst = make_trace("burst", np.zeros(len(trace)), trace.prompt_tokens, trace.output_tokens)
    slow = AffineOracle(5e-3, 1e-5, 4e-5, 1e-9, 3e-7, max_tokens=2000)
    fast = AffineOracle(5e-3 / speed, 1e-5 / speed, 4e-5 / speed, 1e-9 / speed, 3e-7 / speed, max_tokens=2000)
    for policy in BUILT_IN:
        assert _run(burst, policy, fast).end_ns == pytest.approx(_run(burst, policy, slow).end_ns / speed, rel=1e-6)


def _report(policy: str = "vllm", **options: Any) -> ServingReport:
    rng = np.random.default_rng(5)
    arrival = np.cumsum(rng.exponential(0.05, 300))
    trace = make_trace("t", arrival, rng.integers(1, 500, 300), rng.integers(1, 300, 300))
    return serve(AffineOracle(5e-3, 1e-5, 4e-5, 1e-9, 3e-7, 20_000, 1.0, 36.0), None, trace, policy, **options)


def test_one_request_by_hand() -> None:
    report = serve(AffineOracle(0.010, 0, 0.001, 0, 0.0001, 1000), None, make_trace("one", [2.0], [10], [4]), "vllm")
    # prompt: 10 ms + 10 x 1 ms; decodes attend to 11, 12, 13 tokens
    gaps = [0.010 + 0.0001 * context for context in (11, 12, 13)]
    assert report.ttft_s is not None
    assert report.ttft_s.mean == pytest.approx(0.020)
    assert report.tpot_s is not None
    assert report.tpot_s.mean == pytest.approx(sum(gaps) / 3)
    assert report.tbt_s is not None
    assert (report.tbt_s.p50, report.tbt_s.max) == (pytest.approx(gaps[1], rel=2**-16), pytest.approx(gaps[2]))
    assert report.duration_s == pytest.approx(0.020 + sum(gaps))
    assert report.busy_fraction == pytest.approx(1.0)
    held = (
        10 * 0.020 + sum(context * gap for context, gap in zip((11, 12, 13), gaps, strict=True))
    ) / report.duration_s
    assert report.kv_cache.mean_fraction == pytest.approx(held / (1000 // 16 * 16))


def test_percentiles_are_numpys_also_for_weighted_gaps() -> None:
    report = _report()
    table = report.requests
    assert table is not None
    ttft = table.first_token_s - table.arrival_s
    assert report.ttft_s is not None
    assert report.ttft_s.p90 == np.quantile(ttft, 0.9)
    oracle = AffineOracle(5e-3, 1e-5, 4e-5, 1e-9, 3e-7, 20_000)
    trace = make_trace("t", table.arrival_s, table.prompt_tokens, table.output_tokens)
    log = _run(trace, "twin-vllm", oracle)  # keeps every gap as it is
    gaps = np.repeat(log.gaps.values_ns, log.gaps.weights) * 1e-9
    assert report.tbt_s is not None
    assert [report.tbt_s.p50, report.tbt_s.p90, report.tbt_s.p99] == pytest.approx(
        np.quantile(gaps, [0.5, 0.9, 0.99]).tolist(), rel=2**-16
    )


def test_throughput_is_bounded_by_the_machine() -> None:
    for policy in BUILT_IN:
        report = _report(policy)
        # even a full batch of the shortest contexts needs base + per request for each token
        bound = 256 / (5e-3 + 256 * 1e-5)
        assert 0 < report.throughput.output_tokens_per_s < bound
        assert 0 < report.busy_fraction <= 1
        assert 0 < report.kv_cache.mean_fraction <= report.kv_cache.peak_fraction <= 1


def test_paged_memory_serves_no_slower_than_reservation_under_load() -> None:
    """Kwon et al. 2023: paging fits more requests at once, so queues are shorter than with reservation."""
    paged, reserved = _report("vllm"), _report("orca")
    assert paged.normalised_latency_s is not None
    assert reserved.normalised_latency_s is not None
    assert paged.normalised_latency_s.mean < reserved.normalised_latency_s.mean


def test_cost_is_price_times_time_over_tokens() -> None:
    report = _report()
    tokens = report.counts.output_tokens
    expected = 36.0 * report.duration_s / 3600 / tokens * 1e6
    assert report.cost.usd_per_million_output_tokens == pytest.approx(expected)
    assert _report(usd_per_hour=72.0).cost.usd_per_million_output_tokens == pytest.approx(2 * expected)


def test_same_input_same_bytes() -> None:
    first, second = _report(), _report()
    assert first.to_dict() == second.to_dict()
    assert first.requests is not None
    assert second.requests is not None
    assert first.requests.completed_s.tobytes() == second.requests.completed_s.tobytes()


def test_what_can_never_fit_is_rejected_and_counted() -> None:
    trace = make_trace("mixed", [0.0, 0.1, 0.2], [100, 5000, 100], [10, 10, 10])
    for policy in BUILT_IN:
        options = {"max_length": 500} if policy in ("orca", "fcfs-static") else {}
        report = serve(ORACLE, None, trace, policy, **options)
        assert (report.counts.completed, report.counts.rejected) == (2, 1)
        assert report.requests is not None
        assert report.requests.completed.tolist() == [True, False, True]
    with pytest.raises(InfeasibleError, match=r"huge: request 0: prompt_tokens: found 5000, .* holds 2000 tokens"):
        serve(ORACLE, None, make_trace("huge", [0.0], [5000], [10]), "vllm")


@pytest.mark.parametrize(
    ("policy", "options", "what"),
    [
        ("vllm", {}, "output_tokens: found 1800 after a prompt of 300, the KV cache of affine holds 2000 tokens"),
        ("orca", {"max_length": 500}, "output_tokens: found 1800 after a prompt of 300, max_length of orca is 500"),
        ("vtc", {"max_batch_tokens": 299}, "prompt_tokens: found 300, max_batch_tokens of vtc"),
    ],
)
def test_the_first_rejected_request_is_named_by_file_line_and_column(
    tmp_path: Path, policy: str, options: dict[str, int], what: str
) -> None:
    path = tmp_path / "long.csv"
    rows = ["# a comment", "arrival_s,prompt_tokens,output_tokens", "0,100,10", "", "1,300,1800", "2,9999,9", "3,100,9"]
    path.write_text("\n".join(rows) + "\n")
    report = serve(ORACLE, None, load_requests(str(path)), policy, **options)
    assert report.counts.rejected == 2
    assert report.first_rejected is not None
    assert report.first_rejected.startswith(f"{path}:5: {what}")
    assert serve(ORACLE, None, make_trace("short", [0.0], [10], [10]), policy, **options).first_rejected is None


def test_unknown_names_and_bad_options_are_refused() -> None:
    trace = make_trace("t", [0.0], [1], [1])
    with pytest.raises(UsageError, match="did you mean 'vllm'"):
        serve(ORACLE, None, trace, "vlm")
    with pytest.raises(UsageError, match="did you mean 'max_batch'"):
        serve(ORACLE, None, trace, "orca", max_bach=3)
    with pytest.raises(UsageError, match="watermark: found 2"):
        serve(ORACLE, None, trace, "vllm", watermark=2)
    with pytest.raises(UsageError, match="oracle gave an iteration of -1"):
        serve(AffineOracle(-1.0), None, trace, "vllm")
    with pytest.raises(UsageError, match="unknown router 'round'"):
        serve(ORACLE, None, trace, "vllm", deployment=Deployment(router="round"))
    with pytest.raises(UsageError, match="at least one more than its 1 prefill instance"):
        serve(ORACLE, None, trace, "distserve")


@pytest.mark.parametrize("policy", [*BUILT_IN, "distserve"])
def test_a_cached_prefix_is_not_computed_again(policy: str) -> None:
    rng = np.random.default_rng(4)
    prompts, outputs = rng.integers(100, 300, 30), rng.integers(2, 30, 30)
    cached = np.where(rng.random(30) < 0.5, prompts // 2, 0)
    cached[0] = prompts[0]  # at least one token is computed
    plain = make_trace("turns", np.cumsum(rng.exponential(0.05, 30)), prompts, outputs)
    trace = replace(plain, cached_tokens=cached)
    oracle = Watched(ORACLE)
    log = _run(trace, policy, oracle, prefix_caching=True)
    assert (log.requests["completed"] > 0).all()
    assert (log.instances["free"] == log.instances["total"]).all()
    assert (log.instances["held"] == 0).all()
    assert (log.instances["pending_tokens"] == 0).all()
    if not log.requests["restarts"].any():
        computed = sum(new for chunks, _ in oracle.calls for new, _ in chunks)
        assert computed == int((prompts - np.minimum(cached, prompts - 1)).sum())
    assert log.end_ns <= _run(plain, policy).end_ns
    if policy in TWINS:
        twin = _run(trace, f"twin-{policy}", prefix_caching=True)
        np.testing.assert_array_equal(log.requests["completed"], twin.requests["completed"])
    assert _facts(_run(trace, policy)) == _facts(_run(plain, policy))  # off unless asked for
