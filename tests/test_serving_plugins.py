"""A policy from outside the package: a subclass under a name is all it takes."""

from __future__ import annotations

from archsim.serving import AffineOracle, serve
from archsim.serving.policy import POLICIES, Policy
from archsim.serving.request import Batch, RequestState
from archsim.workload.traces import make_trace


@POLICIES.register("test-one-at-a-time-shortest-first")
class ShortestFirst(Policy):
    """One request at a time, the shortest answer first."""

    def claim_tokens(self, request: RequestState) -> int:
        return self.pool.blocks_for(request.longest) * self.pool.block_tokens

    def form_batch(self) -> Batch:
        if self.running:
            return Batch([], self.running[:])
        if not self.waiting:
            return Batch([], [])
        request = min(self.waiting, key=lambda waiting: waiting.output)
        self.waiting.remove(request)
        self.pool.grow(request, self.pool.blocks_for(request.longest))
        self.running.append(request)
        return Batch([request], [])


def test_the_policy_decides_the_order() -> None:
    trace = make_trace("burst", [0.0, 0.0, 0.0], [10, 10, 10], [30, 10, 20])
    report = serve(AffineOracle(0.01), None, trace, "test-one-at-a-time-shortest-first")
    assert report.requests is not None
    # every iteration takes 10 ms and makes one token: 10, then 20, then 30 of them
    assert report.requests.completed_s.tolist() == [0.6, 0.1, 0.3]
    assert "test-one-at-a-time-shortest-first" in POLICIES.names()
