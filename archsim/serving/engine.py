"""The discrete-event simulator: requests arrive, iterations end, a policy decides in between.

Time is integer nanoseconds; an iteration takes the oracle's seconds rounded to the next one, at least 1. A batch is
formed only at an iteration boundary, or when a request arrives at an idle machine; its tokens exist at its end. Events
of the same instant are all handled before the next batch is formed, so a request that arrives exactly at the end of an
iteration takes part in the next one. Ties are broken by order in the trace.

Decode steps of a batch that cannot change (`Policy.steady_steps`) are run through without asking the policy again, up
to the first that ends at or after the next arrival: same steps, same times, fewer events.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.serving.oracle import DecodeRunOracle, LatencyOracle
from archsim.serving.policy import Policy
from archsim.serving.request import Batch, RequestState
from archsim.workload.traces import Trace

NS_PER_S = 1e9
MAX_RUN = 4096  # steps of a run: keeps int64 sums of nanoseconds x steps far from overflow
STEPS_AT_ONCE = 256  # steps timed in one call of the oracle: some are in vain if the next arrival cuts the run
MAX_ITERATION_S = 1e6
_ARRIVAL, _ITERATION_END = 0, 1


@dataclass
class RunLog:
    """What happened: the requests, and totals over iterations.

    gap_ns, gap_weight  times between consecutive tokens of a request, with how often each occurred
    held_token_ns       integral of the tokens in the cache over the busy time
    decode_iterations, decode_tokens, decode_contexts
                        iterations with decodes, decode steps of all requests in them, and the sum of their contexts
    """

    requests: list[RequestState]
    rejected: list[RequestState] = field(default_factory=list)
    iterations: int = 0
    busy_ns: int = 0
    end_ns: int = 0
    held_token_ns: int = 0
    decode_iterations: int = 0
    decode_tokens: int = 0
    decode_contexts: int = 0
    gap_ns: list[int] = field(default_factory=list)
    gap_weight: list[int] = field(default_factory=list)


class Engine:
    """One machine, one policy, one trace; `run` once."""

    def __init__(self, oracle: LatencyOracle, policy: Policy, trace: Trace, *, join_steps: bool = True) -> None:
        """`join_steps=False` asks the policy before every single step; the result is the same."""
        arrivals = np.rint(trace.arrival_s * NS_PER_S).astype(np.int64).tolist()
        columns = zip(
            arrivals, trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), trace.tenant.tolist(), strict=True
        )
        requests = [RequestState(index, *row) for index, row in enumerate(columns)]
        self._oracle, self._policy, self._join = oracle, policy, join_steps
        self._many = oracle if isinstance(oracle, DecodeRunOracle) else None
        self._log = RunLog(requests)
        self._events: list[tuple[int, int, int]] = []
        self._next_arrival = 0
        self._batch: Batch | None = None
        self._step_ns: list[int] = []  # durations of the iterations of the batch in flight

    def run(self) -> RunLog:
        """Simulate until every request is served or rejected."""
        self._push_arrival()
        while self._events:
            now = self._events[0][0]
            while self._events and self._events[0][0] == now:
                _, kind, _ = heapq.heappop(self._events)
                if kind == _ARRIVAL:
                    self._arrive()
                else:
                    self._finish_iterations(now)
            if self._batch is None:
                self._start(now)
        if self._policy.waiting or self._policy.running:
            left = len(self._policy.waiting) + len(self._policy.running)
            raise AssertionError(f"policy {type(self._policy).__name__} stalled with {left} requests left")
        return self._log

    def _push_arrival(self) -> None:
        if self._next_arrival < len(self._log.requests):
            request = self._log.requests[self._next_arrival]
            heapq.heappush(self._events, (request.arrival_ns, _ARRIVAL, request.index))

    def _arrive(self) -> None:
        request = self._log.requests[self._next_arrival]
        self._next_arrival += 1
        self._push_arrival()
        if self._policy.fits(request):
            self._policy.on_arrival(request)
        else:
            self._log.rejected.append(request)

    def _start(self, now: int) -> None:
        batch = self._policy.form_batch()
        if not batch.prefills and not batch.decodes:
            return
        for request in batch.prefills:
            if request.first_scheduled_ns < 0:
                request.first_scheduled_ns = now
        self._step_ns = self._time(batch, now)
        self._batch = batch
        self._count(batch, self._step_ns)
        heapq.heappush(self._events, (now + sum(self._step_ns), _ITERATION_END, 0))

    def _time(self, batch: Batch, now: int) -> list[int]:
        """Nanoseconds of the batch's iteration, and of the following ones if they are sure to be the same."""
        contexts = [request.processed for request in batch.decodes]
        if not batch.prefills and self._join:
            steps = min(self._policy.steady_steps(batch), MAX_RUN)
            if steps > 1:
                durations = self._time_run(contexts, steps, now)
                self._policy.extend_run(batch, len(durations))
                return durations
        prompts = [(request.target - request.processed, request.processed) for request in batch.prefills]
        return [_nanoseconds(self._oracle.iteration_s(prompts, contexts))]

    def _time_run(self, contexts: list[int], steps: int, now: int) -> list[int]:
        """Up to `steps` decode iterations, the last one the first to end at or after the next arrival."""
        horizon = self._events[0][0] if self._events else None  # no iteration is in flight: it is an arrival
        joined: list[int] = []
        while len(joined) < steps and (horizon is None or now < horizon):
            durations = self._decode_ns(contexts, min(steps - len(joined), STEPS_AT_ONCE))
            ends = now + np.cumsum(durations)
            if horizon is not None:
                durations = durations[: int(np.searchsorted(ends, horizon)) + 1]
            joined.extend(durations.tolist())
            now = int(ends[-1])
            contexts = [context + len(durations) for context in contexts]
        return joined

    def _decode_ns(self, contexts: list[int], steps: int) -> NDArray[np.int64]:
        """Nanoseconds of `steps` decode iterations; one, if the oracle knows single iterations only."""
        if self._many is None:
            return np.array([_nanoseconds(self._oracle.iteration_s((), contexts))], dtype=np.int64)
        return _all_nanoseconds(self._many.decode_run_s(contexts, steps))

    def _count(self, batch: Batch, durations: list[int]) -> None:
        """Add these iterations to the totals; every step adds a token to the context of each decode."""
        log, requests, steps, total = self._log, len(batch.decodes), len(durations), sum(durations)
        held = sum([request.processed for request in self._policy.running])
        held += sum([request.target for request in batch.prefills])
        log.held_token_ns += held * total
        if steps > 1:
            weights = np.arange(steps, dtype=np.int64)
            log.held_token_ns += requests * int(np.dot(weights, np.array(durations, dtype=np.int64)))
        log.iterations += steps
        log.busy_ns += total
        if requests:
            log.decode_iterations += steps
            log.decode_tokens += requests * steps
            contexts = sum([request.processed for request in batch.decodes])
            log.decode_contexts += contexts * steps + requests * (steps * (steps - 1) // 2)

    def _finish_iterations(self, now: int) -> None:
        batch, durations, log = self._batch, self._step_ns, self._log
        assert batch is not None
        self._batch = None
        log.end_ns = now
        steps = len(durations)
        if steps > 1:
            log.gap_ns.extend(durations[1:])
            log.gap_weight.extend([len(batch.decodes)] * (steps - 1))
        first_end = now - sum(durations[1:])
        finished: list[RequestState] = []
        for request in batch.prefills:
            request.processed = request.target + 1
            self._make_tokens(request, 1, now, now, finished)
        for request in batch.decodes:
            request.processed += steps
            self._make_tokens(request, steps, first_end, now, finished)
        self._policy.on_iteration_end(finished)

    def _make_tokens(
        self, request: RequestState, tokens: int, first_end: int, now: int, finished: list[RequestState]
    ) -> None:
        """`tokens` tokens of `request` are there, the first since `first_end`, the last since `now`."""
        if request.generated == 0:
            request.first_token_ns = now
        else:
            self._log.gap_ns.append(first_end - request.last_token_ns)
            self._log.gap_weight.append(1)
        request.last_token_ns = now
        request.generated += tokens
        if request.generated == request.output:
            request.completed_ns = now
            finished.append(request)


def _nanoseconds(seconds: float) -> int:
    if not 0 < seconds <= MAX_ITERATION_S:
        raise UsageError(f"the oracle gave an iteration of {seconds!r} s, allowed: above 0, up to {MAX_ITERATION_S:g}")
    return max(1, round(seconds * NS_PER_S))


def _all_nanoseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """As `_nanoseconds`, elementwise; both round half to even."""
    good = (seconds > 0) & (seconds <= MAX_ITERATION_S)
    if not good.all():
        _nanoseconds(float(seconds[~good][0]))
    return np.maximum(np.rint(seconds * NS_PER_S).astype(np.int64), 1)
