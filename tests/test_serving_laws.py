"""Laws every policy keeps, on random workloads: nothing lost, nothing over-committed, no effect before its cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InfeasibleError, UsageError
from archsim.serving import AffineOracle, DecodeRunOracle, LatencyOracle, ServingReport, serve
from archsim.serving.engine import Engine, RunLog
from archsim.serving.policy import POLICIES
from archsim.workload.traces import Trace, make_trace

POLICY_NAMES = ("orca", "vllm")
ORACLE = AffineOracle(5e-3, 1e-5, 4e-5, 1e-9, 3e-7, max_tokens=2000, usd_per_hour=36.0)


@dataclass
class Watched:
    """An oracle that only knows single iterations, and remembers what it was asked."""

    inner: AffineOracle
    calls: list[tuple[list[tuple[int, int]], list[int], float]]

    @property
    def kv_bytes_per_token(self) -> float:
        return self.inner.kv_bytes_per_token

    @property
    def kv_capacity_bytes(self) -> float:
        return self.inner.kv_capacity_bytes

    @property
    def max_tokens(self) -> int:
        return self.inner.max_tokens

    @property
    def usd_per_hour(self) -> float | None:
        return self.inner.usd_per_hour

    def iteration_s(self, prefill_tokens: Any, decode_contexts: Any) -> float:
        seconds = self.inner.iteration_s(prefill_tokens, decode_contexts)
        self.calls.append((list(prefill_tokens), list(decode_contexts), seconds))
        return seconds


@st.composite
def traces(draw: st.DrawFn, longest: int = 900) -> Trace:
    """Up to 40 requests, some arriving together, with lengths that make memory tight."""
    count = draw(st.integers(1, 40))
    gaps = draw(st.lists(st.sampled_from([0.0, 1e-9, 0.003, 0.02, 0.4]), min_size=count, max_size=count))
    prompts = draw(st.lists(st.integers(1, longest - 200), min_size=count, max_size=count))
    outputs = draw(st.lists(st.integers(1, 200), min_size=count, max_size=count))
    return make_trace("random", np.cumsum(gaps), prompts, outputs)


def _run(trace: Trace, policy: str, oracle: LatencyOracle = ORACLE, *, join: bool = True, **options: Any) -> RunLog:
    chosen = POLICIES.get(policy)
    longest = int((trace.prompt_tokens + trace.output_tokens).max())
    return Engine(oracle, chosen(chosen.Options(**options), oracle.max_tokens, longest), trace, join_steps=join).run()


def _facts(log: RunLog) -> tuple[object, ...]:
    requests = [(r.first_scheduled_ns, r.first_token_ns, r.completed_ns, r.restarts, r.generated) for r in log.requests]
    gaps = np.repeat(log.gap_ns, log.gap_weight) if log.gap_ns else np.array([])
    totals = (log.iterations, log.busy_ns, log.end_ns, log.held_token_ns, log.decode_tokens, log.decode_contexts)
    return requests, np.sort(gaps).tolist(), totals


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(trace=traces())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_joined_steps_equal_single_steps(policy: str, trace: Trace) -> None:
    single = _facts(_run(trace, policy, join=False))
    assert _facts(_run(trace, policy)) == single
    plain = Watched(ORACLE, [])
    assert isinstance(plain, LatencyOracle)
    assert not isinstance(plain, DecodeRunOracle)
    assert _facts(_run(trace, policy, plain)) == single


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(trace=traces())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_nothing_is_lost_and_no_effect_precedes_its_cause(policy: str, trace: Trace) -> None:
    oracle = Watched(ORACLE, [])
    log = _run(trace, policy, oracle)
    rejected = {request.index for request in log.rejected}
    for request in log.requests:
        if request.index in rejected:
            assert request.generated == 0
            assert request.completed_ns < 0
            continue
        assert request.generated == request.output
        assert request.blocks == 0
        assert request.arrival_ns <= request.first_scheduled_ns < request.first_token_ns <= request.completed_ns
    served = [r for r in log.requests if r.index not in rejected]
    # a prompt iteration makes one token, a decode step one: every token exactly once, none twice
    made = sum(len(prefills) + len(decodes) for prefills, decodes, _ in oracle.calls)
    assert made == sum(request.output for request in served)
    # prompt tokens processed: each prompt once, plus what preempted ones recompute
    processed = sum(new for prefills, _, _ in oracle.calls for new, _ in prefills)
    assert processed >= sum(request.prompt for request in served)
    if not any(request.restarts for request in served):
        assert processed == sum(request.prompt for request in served)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(trace=traces())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_cache_is_never_over_committed_and_freed_in_the_end(policy: str, trace: Trace) -> None:
    oracle = Watched(ORACLE, [])
    chosen = POLICIES.get(policy)
    scheduler = chosen(chosen.Options(), oracle.max_tokens, int((trace.prompt_tokens + trace.output_tokens).max()))
    Engine(oracle, scheduler, trace).run()
    assert scheduler.pool.free == scheduler.pool.total
    assert scheduler.pool.peak <= scheduler.pool.total
    assert scheduler.pool.total * scheduler.pool.block_tokens <= oracle.max_tokens
    for prefills, decodes, _ in oracle.calls:  # what an iteration touches must be in the cache
        assert sum(new + before for new, before in prefills) + sum(decodes) <= oracle.max_tokens


@given(trace=traces())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_machine_never_idles_while_somebody_is_there(trace: Trace) -> None:
    """Work conservation: whoever fits an empty machine is served, so idle time ends with an arrival."""
    for policy in POLICY_NAMES:
        log = _run(trace, policy)
        served = [r for r in log.requests if r.completed_ns >= 0]
        present = sorted([(r.arrival_ns, 0, 1) for r in served] + [(r.completed_ns, 1, -1) for r in served])
        busy, inside, since = 0, 0, 0
        for time_ns, _, change in present:  # arrivals before completions of the same instant
            busy += time_ns - since if inside else 0
            inside, since = inside + change, time_ns
        assert log.busy_ns == busy


@pytest.mark.parametrize("policy", POLICY_NAMES)
@given(trace=traces())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_first_come_first_scheduled(policy: str, trace: Trace) -> None:
    log = _run(trace, policy)
    scheduled = [r.first_scheduled_ns for r in log.requests if r.first_scheduled_ns >= 0]
    assert scheduled == sorted(scheduled)


@given(trace=traces())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_orca_never_preempts_and_obeys_its_limits(trace: Trace) -> None:
    oracle = Watched(ORACLE, [])
    log = _run(trace, "orca", oracle, max_batch=3)
    assert all(request.restarts == 0 for request in log.requests)
    assert all(len(prefills) + len(decodes) <= 3 for prefills, decodes, _ in oracle.calls)


@given(trace=traces())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_vllm_runs_prompts_or_decodes_and_obeys_its_limits(trace: Trace) -> None:
    oracle = Watched(ORACLE, [])
    _run(trace, "vllm", oracle, max_batch=4, max_batch_tokens=1000)
    for prefills, decodes, _ in oracle.calls:
        assert not (prefills and decodes)
        assert len(decodes) <= 4
        padded = len(prefills) * max((new for new, _ in prefills), default=0)
        assert padded <= 1000 or len(prefills) == 1


@given(trace=traces(), speed=st.sampled_from([1.5, 4.0]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_faster_machine_serves_a_burst_sooner(trace: Trace, speed: float) -> None:
    """All at once, so that both machines form the same batches."""
    burst = make_trace("burst", np.zeros(len(trace)), trace.prompt_tokens, trace.output_tokens)
    fast = AffineOracle(5e-3 / speed, 1e-5 / speed, 4e-5 / speed, 1e-9 / speed, 3e-7 / speed, max_tokens=2000)
    for policy in POLICY_NAMES:
        slow_ns, fast_ns = _run(burst, policy).end_ns, _run(burst, policy, fast).end_ns
        assert fast_ns == pytest.approx(slow_ns / speed, rel=1e-6)


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
    assert (report.tbt_s.p50, report.tbt_s.max) == (pytest.approx(gaps[1]), pytest.approx(gaps[2]))
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
    log = _run(trace, "vllm", oracle, join=False)
    gaps = np.repeat(log.gap_ns, log.gap_weight) * 1e-9
    assert report.tbt_s is not None
    assert [report.tbt_s.p50, report.tbt_s.p90, report.tbt_s.p99] == pytest.approx(
        np.quantile(gaps, [0.5, 0.9, 0.99]).tolist()
    )


def test_throughput_is_bounded_by_the_machine() -> None:
    for policy in POLICY_NAMES:
        report = _report(policy)
        # even a full batch of the shortest contexts needs base + per request for each token
        bound = 128 / (5e-3 + 128 * 1e-5)
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
    for policy, options in (("vllm", {}), ("orca", {"max_length": 500})):
        report = serve(ORACLE, None, trace, policy, **options)
        assert (report.counts.completed, report.counts.rejected) == (2, 1)
        assert report.requests is not None
        assert report.requests.completed.tolist() == [True, False, True]
    with pytest.raises(InfeasibleError, match=r"holds 2000 tokens, policy 'vllm' needs 5040"):
        serve(ORACLE, None, make_trace("huge", [0.0], [5000], [10]), "vllm")


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
