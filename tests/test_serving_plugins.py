"""A policy from outside the package: a subclass under a name is all it takes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from archsim.errors import UsageError
from archsim.serving import AffineOracle, Deployment, serve
from archsim.serving.hooks import Batch, Instance, NodeEvent, Policy, RequestState
from archsim.serving.policy import POLICIES
from archsim.workload.traces import make_trace


@POLICIES.register("test-one-at-a-time-shortest-first")
class ShortestFirst(Policy):
    """One request at a time, the shortest answer first."""

    def form_batch(self, instance: Instance) -> Batch:
        if instance.running:
            return Batch([], instance.running[:])
        if not instance.waiting:
            return Batch([], [])
        request = min(instance.waiting, key=lambda waiting: waiting.output)
        instance.waiting.remove(request)
        instance.pool.grow(request, instance.pool.blocks_for(request.longest))
        instance.running.append(request)
        return Batch([request], [])


@POLICIES.register("test-hand-over")
class HandOver(ShortestFirst):
    """Prefill on the first instance, decode on the second, half a second apart; counts its ticks."""

    tick_s = 0.1
    ticks = 0

    def route(self, request: RequestState) -> Instance:
        return self.instances[0]

    def on_iteration_end(self, instance: Instance, batch: Batch, finished: list[RequestState]) -> None:
        for request in batch.prefills:
            instance.running.remove(request)
            instance.pool.release(request)
            self.send_cache(request, self.instances[1], self.now_ns, 0.5)
        super().on_iteration_end(instance, batch, finished)

    def on_transfer_end(self, request: RequestState, instance: Instance) -> None:
        instance.pool.grow(request, instance.pool.blocks_for(request.longest))
        super().on_transfer_end(request, instance)

    def controller_tick(self, now_ns: int) -> None:
        type(self).ticks += 1


@POLICIES.register("test-hand-over-twice")
class HandOverTwice(HandOver):
    """The cache goes over a second time when it is there."""

    tick_s = 0.0
    ended_ns: ClassVar[dict[int, list[int]]] = {}

    def on_transfer_end(self, request: RequestState, instance: Instance) -> None:
        ended = self.ended_ns.setdefault(request.index, [])
        ended.append(self.now_ns)
        if len(ended) == 1:
            self.send_cache(request, instance, self.now_ns, 0.5)
        else:
            super().on_transfer_end(request, instance)


def test_the_policy_decides_the_order() -> None:
    trace = make_trace("burst", [0.0, 0.0, 0.0], [10, 10, 10], [30, 10, 20])
    report = serve(AffineOracle(0.01), None, trace, "test-one-at-a-time-shortest-first")
    assert report.requests is not None
    # every iteration takes 10 ms and makes one token: 10, then 20, then 30 of them
    assert report.requests.completed_s.tolist() == [0.6, 0.1, 0.3]
    assert "test-one-at-a-time-shortest-first" in POLICIES.names()


def test_transfers_and_ticks_reach_the_policy() -> None:
    trace = make_trace("one", [0.0], [10], [3])
    report = serve(AffineOracle(0.01), None, trace, "test-hand-over", deployment=Deployment(instances=2))
    assert report.requests is not None
    assert report.requests.completed_s.tolist() == [0.01 + 0.5 + 2 * 0.01]
    assert HandOver.ticks == 6  # every 0.1 s until the end


@pytest.mark.parametrize("busy", [False, True])
def test_a_hook_is_told_the_time_of_its_event(busy: bool) -> None:
    """A policy that waits for half a second more when a transfer ends waits from then, whatever ran meanwhile."""
    HandOverTwice.ended_ns.clear()
    arrivals = [0.0, 0.1, 0.3, 0.77] if busy else [0.0]
    trace = make_trace("few", arrivals, [10] * len(arrivals), [3] * len(arrivals))
    serve(AffineOracle(0.01), None, trace, "test-hand-over-twice", deployment=Deployment(instances=2))
    assert HandOverTwice.ended_ns[0] == [510_000_000, 1_010_000_000]


def test_requests_of_a_node_that_goes_away_start_again_elsewhere() -> None:
    trace = make_trace("two", [0.0, 0.0], [10, 10], [100, 100])
    gone = Deployment(instances=2, node_events=(NodeEvent(0.505, 1, "remove"),))
    report = serve(AffineOracle(0.01), None, trace, "test-one-at-a-time-shortest-first", deployment=gone)
    table = report.requests
    assert table is not None
    assert table.preemptions.tolist() == [0, 1]
    assert table.instance.tolist() == [0, 0]
    # the other had 50 tokens; it waits for the first, recomputes them in one iteration, and makes the rest
    np.testing.assert_allclose(table.completed_s, [1.0, 1.5])


def test_the_policy_of_the_manual_runs() -> None:
    text = (Path(__file__).parents[1] / "archsim" / "serving" / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 40
    exec(compile(code, "README.md", "exec"), {"__name__": "manual"})
    trace = make_trace("burst", [0.0, 0.0, 0.0], [30, 10, 20], [5, 5, 5])
    report = serve(AffineOracle(0.01), None, trace, "shortest-prompt-first")
    assert report.requests is not None
    assert report.requests.first_token_s.tolist() == [0.03, 0.01, 0.02]


def test_a_policy_from_a_file(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "archsim" / "serving" / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0].replace('"shortest-prompt-first"', '"from-a-file"')
    path = tmp_path / "mine.py"
    path.write_text(code + "\n\nclass Other(ShortestPromptFirst):\n    pass\n")
    trace = make_trace("burst", [0.0, 0.0, 0.0], [30, 10, 20], [5, 5, 5])
    named = f"{path}:ShortestPromptFirst"
    for _ in range(2):  # the file runs once
        report = serve(AffineOracle(0.01), None, trace, named)
        assert report.requests is not None
        assert report.requests.first_token_s.tolist() == [0.03, 0.01, 0.02]
    with pytest.raises(UsageError, match="policies there: ShortestPromptFirst, Other; expected one"):
        serve(AffineOracle(0.01), None, trace, str(path))
    with pytest.raises(UsageError, match="did you mean 'Other'"):
        serve(AffineOracle(0.01), None, trace, f"{path}:Othr")
    with pytest.raises(UsageError, match="no such file"):
        serve(AffineOracle(0.01), None, trace, str(tmp_path / "none.py"))
    broken = tmp_path / "broken.py"
    for text, what in (("import os\nimport nowhere_at_all\n", "ModuleNotFoundError"), ("\nx = (\n", "SyntaxError")):
        broken.write_text(text)
        with pytest.raises(UsageError, match=rf"broken.py:2: {what}"):
            serve(AffineOracle(0.01), None, trace, str(broken))


def test_what_python_policies_do_not_know_is_refused() -> None:
    trace = make_trace("one", [0.0], [10], [30])
    with pytest.raises(UsageError, match="one pipeline stage"):
        serve(AffineOracle(0.01), None, trace, "splitwise", deployment=Deployment(stages=2))


def test_a_policy_with_lists_of_its_own_reports_the_cache_it_took() -> None:
    """Splitwise takes prompt and answer at once: 40 of 80 tokens on the one instance, from start to end."""
    trace = make_trace("one", [0.0], [10], [30])
    options = {"prompt_instances": 0, "router": "round-robin"}
    report = serve(AffineOracle(0.01, max_tokens=80), None, trace, "splitwise", **options)
    assert report.kv_cache.mean_fraction == pytest.approx((1 * 11 + 29 * 40) / 30 / 80)
