"""The event loop for policies written in Python: the same events and ties as the compiled one, one hook call each.

Time is integer nanoseconds; an iteration takes the oracle's seconds rounded to the next one, at least 1. Events of one
instant are handled in the order arrivals, ends of iterations, ends of transfers, node events, controller ticks; then
batches are formed. So a request that arrives exactly at the end of an iteration takes part in the next one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import UsageError
from archsim.serving.adapter_cache import AdapterCache
from archsim.serving.hooks import UNSET, Batch, Instance, Policy, RequestState
from archsim.serving.nodes import NodeEvent, absent_at_first
from archsim.serving.oracle import LatencyOracle
from archsim.serving.routers import Router
from archsim.serving.runlog import NS_PER_S, Gaps, RunLog
from archsim.serving.state_kernels import BATCH_LOG, DOWN, INSTANCE, OPEN, REQUEST
from archsim.serving.unit_use import UnitMeter
from archsim.workload.traces import Trace

MAX_ITERATION_S = 1e6
_ARRIVAL, _ITERATION, _TRANSFER, _NODE, _TICK = range(5)
Progress = Callable[[float], None]


@dataclass(frozen=True)
class _Transfer:
    """A cache on its way."""

    request: RequestState
    instance: Instance


class PythonEngine:
    """Instances, one policy, one trace; `run` once."""

    def __init__(
        self, policy: Policy, instances: Sequence[Instance], trace: Trace, node_events: Sequence[NodeEvent] = (),
        *, timeline: bool = False, since_s: float | None = None, router: str = "least-outstanding", seed: int = 0,
        prefetch: int = 0, prefix_caching: bool = False, units: bool = False,
    ) -> None:  # fmt: skip
        """`policy` has been given the same `instances`, there from `since_s` or the first arrival on.

        timeline  keep a record of every batch
        prefetch  how many of the first waiting requests have their adapters loaded while the machine computes
        """
        arrivals = np.rint(trace.arrival_s * NS_PER_S).astype(np.int64).tolist()
        columns = (arrivals, trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), trace.tenant.tolist())
        self._requests = [RequestState(index, *row) for index, row in enumerate(zip(*columns, strict=True))]
        self._policy, self._instances, self._trace, self._node_events = policy, instances, trace, node_events
        self._events: list[tuple[int, int, int, object]] = []
        self._gaps: dict[int, int] = {}
        self._batches: list[tuple[float, ...]] | None = [] if timeline else None
        self._sequence = self._finished = self._end_ns = 0
        self._prefetch = prefetch
        self._meter = UnitMeter(_machines(instances)) if units else None
        for instance in instances:
            if instance.pool.adapters is not None:
                instance.pool.adapters.now_ns = lambda: policy.now_ns
        for column, wanted in (("adapter", trace.adapter), ("prefix", trace.cached_tokens if prefix_caching else None)):
            for request, value in zip(self._requests, [] if wanted is None else wanted.tolist(), strict=False):
                setattr(request, column, value)
        policy.send_cache, policy.send_again = self._send, self._arrive
        policy.router = Router(router, instances, seed, len(trace)).route
        self._lobby: list[RequestState] = []
        self._leaving: set[Instance] = set()
        self._up_since = dict.fromkeys(instances, arrivals[0] if since_s is None else round(since_s * NS_PER_S))
        for index in absent_at_first(node_events):
            instances[index].up = instances[index].open = False
        for request in self._requests:
            self._push(request.arrival_ns, _ARRIVAL, request)
        for event in node_events:
            self._push(round(event.time_s * NS_PER_S), _NODE, event)
        if policy.tick_s > 0 and self._requests:
            self._push(round(policy.tick_s * NS_PER_S), _TICK, None)

    def run(self, progress: Progress | None = None) -> RunLog:
        """Simulate until every request is served or rejected, or Ctrl-C."""
        interrupted = False
        try:
            while self._events:
                self._instant()
                if progress is not None:
                    progress(self._finished / len(self._requests))
        except KeyboardInterrupt:
            interrupted = True
        left = sum(len(instance.waiting) + len(instance.running) for instance in self._instances)
        if left and not interrupted and not self._node_events:
            raise UsageError(f"policy {type(self._policy).__name__} stalled with {left} requests left")
        return self._log(interrupted)

    def _push(self, time_ns: int, kind: int, what: object) -> None:
        heapq.heappush(self._events, (time_ns, kind, self._sequence, what))
        self._sequence += 1

    def _instant(self) -> None:
        now = self._policy.now_ns = self._events[0][0]
        while self._events and self._events[0][0] == now:
            _, kind, _, what = heapq.heappop(self._events)
            if kind == _ARRIVAL:
                assert isinstance(what, RequestState)
                self._arrive(what)
            elif kind == _ITERATION:
                assert isinstance(what, Batch)
                self._finish(what, now)
            elif kind == _TRANSFER:
                assert isinstance(what, _Transfer)
                self._policy.on_transfer_end(what.request, what.instance)
            elif kind == _NODE:
                assert isinstance(what, NodeEvent)
                if self._finished < len(self._requests):
                    self._change(self._instances[what.instance], what, now)
            else:
                self._policy.controller_tick(now)
                if self._finished < len(self._requests):
                    self._push(now + round(self._policy.tick_s * NS_PER_S), _TICK, None)
        for instance in self._instances:
            if instance in self._leaving and not instance.running and not instance.waiting and not instance.in_flight:
                self._gone(instance, now)
                instance.pool.forget_adapters()
            if instance.in_flight is None and instance.up:
                self._start(instance, now)

    def _change(self, instance: Instance, event: NodeEvent, now: int) -> None:
        """An instance goes or comes: its state, then the policy's hook, then who waits for an open one."""
        batch = instance.in_flight
        if event.event == "add":
            if not instance.up:
                self._up_since[instance] = now if event.since_s is None else round(event.since_s * NS_PER_S)
            instance.up = instance.open = True
            self._leaving.discard(instance)
        elif event.event == "remove":
            if not instance.up:
                return
            self._gone(instance, now)
            if batch is not None:
                self._lose(batch, instance, now)
        elif instance.open:
            instance.open = False
            if event.event == "leave":
                self._leaving.add(instance)
        self._policy.on_node_event(instance, event)
        if not instance.up:
            instance.pool.forget_adapters()
        if event.event == "add":
            outside, self._lobby = self._lobby, []
            for request in outside:
                self._arrive(request)

    def _gone(self, instance: Instance, now: int) -> None:
        instance.up = instance.open = False
        self._leaving.discard(instance)
        instance.totals["up_ns"] += now - self._up_since[instance]

    def _lose(self, batch: Batch, instance: Instance, now: int) -> None:
        """The iteration in flight took what it took until now, and made nothing."""
        share = (now - batch.start_ns) / max(batch.end_ns - batch.start_ns, 1)
        instance.totals["busy_ns"] += now - batch.start_ns
        instance.totals["joules"] += share * batch.joules
        self._meter_batch(batch, instance, share)
        if self._batches is not None:
            blocks = instance.pool.total - instance.pool.free
            self._batches.append((
                batch.start_ns, now, instance.index, 0, len(batch.prefills), len(batch.decodes), 0, batch.waiting,
                blocks, 0, share * batch.joules, blocks,
            ))  # fmt: skip

    def _arrive(self, request: RequestState) -> None:
        if not any(instance.open for instance in self._instances):
            request.instance = UNSET
            self._lobby.append(request)
            return
        instance = self._policy.route(request)
        if self._policy.fits(request, instance):
            request.instance = instance.index
            self._policy.on_arrival(request, instance)
        else:
            request.rejected = True
            self._finished += 1

    def _send(self, request: RequestState, instance: Instance, now: int, seconds: float) -> None:
        """Move the cache of a request: `on_transfer_end` is called when it is there."""
        self._push(now + round(seconds * NS_PER_S), _TRANSFER, _Transfer(request, instance))

    def _start(self, instance: Instance, now: int) -> None:
        batch = self._policy.form_batch(instance)
        if not batch.prefills and not batch.decodes:
            return
        for request in batch.prefills:
            if request.first_scheduled_ns < 0:
                request.first_scheduled_ns = now
        batch.instance, instance.in_flight = instance, batch
        chunks = [(batch.tokens(request), request.processed) for request in batch.prefills]
        contexts = [request.processed for request in batch.decodes]
        batch.work, batch.adapter_s = (chunks, contexts), self._adapters(instance, batch, chunks)
        span = batch.stall_ns + _nanoseconds(instance.oracle.iteration_s(chunks, contexts) + batch.adapter_s)
        batch.start_ns, batch.end_ns, batch.waiting = now, now + span, len(instance.waiting)
        batch.contexts = sum(contexts)
        others = [request.cached for request in instance.running if request not in batch.prefills]
        batch.held = sum(others) + sum(new + before for new, before in chunks) + len(contexts)
        if not instance.running:  # a policy with lists of its own: what it has taken from the pool
            batch.held = (instance.pool.total - instance.pool.free) * instance.pool.block_tokens
        joules = getattr(instance.oracle, "iteration_j", None)
        batch.joules = 0.0 if joules is None else float(joules(chunks, contexts))
        self._push(now + span, _ITERATION, batch)

    def _adapters(self, instance: Instance, batch: Batch, chunks: Sequence[tuple[int, int]]) -> float:
        """Seconds that the adapters of a batch add to it, once they are there; others are loaded meanwhile."""
        adapters = instance.pool.adapters
        if adapters is None:
            return 0.0
        new = [(request.adapter, tokens) for request, (tokens, _) in zip(batch.prefills, chunks, strict=True)]
        batch.stall_ns, seconds = adapters.batch_cost([*((request.adapter, 1) for request in batch.decodes), *new])
        instance.totals["stall_ns"] += batch.stall_ns
        if self._prefetch:
            ahead = islice(instance.waiting, self._prefetch)
            adapters.prefetch([request.adapter for request in ahead], instance.pool.free)
        return seconds

    @staticmethod
    def _count(instance: Instance, batch: Batch) -> None:
        """Add an iteration that ended to the totals of its instance."""
        totals, span = instance.totals, batch.end_ns - batch.start_ns
        totals["iterations"] += 1
        totals["busy_ns"] += span
        totals["joules"] += batch.joules
        totals["held_token_ns"] += float(batch.held) * span
        if batch.decodes:
            totals["decode_iterations"] += 1
            totals["decode_tokens"] += len(batch.decodes)
            totals["decode_contexts"] += batch.contexts

    def _finish(self, batch: Batch, now: int) -> None:
        instance = batch.instance
        assert instance is not None
        if instance.in_flight is not batch:  # lost with its node
            return
        instance.in_flight, self._end_ns = None, now
        self._count(instance, batch)
        self._meter_batch(batch, instance, 1.0)
        self._keep(batch, instance, now)
        finished: list[RequestState] = []
        for request in batch.prefills:
            request.processed += batch.tokens(request)
            if request.processed == request.target:
                request.processed += 1
                self._make_token(request, now, finished)
        for request in batch.decodes:
            request.processed += 1
            self._make_token(request, now, finished)
        self._finished += len(finished)
        self._policy.on_iteration_end(instance, batch, finished)

    def _meter_batch(self, batch: Batch, instance: Instance, share: float) -> None:
        if self._meter is not None:
            self._meter.add(instance.machine, *batch.work, batch.adapter_s, share)

    def _keep(self, batch: Batch, instance: Instance, now: int) -> None:
        """A row of BATCH_LOG, if a timeline is wanted."""
        if self._batches is None:
            return
        new = [batch.tokens(request) for request in batch.prefills]
        complete = sum(
            request.processed + tokens == request.target for request, tokens in zip(batch.prefills, new, strict=True)
        )
        blocks = instance.pool.total - instance.pool.free
        self._batches.append((
            batch.start_ns, now, instance.index, 1, len(batch.prefills), len(batch.decodes), sum(new), batch.waiting,
            blocks, len(batch.decodes) + complete, batch.joules, blocks,
        ))  # fmt: skip

    def _make_token(self, request: RequestState, now: int, finished: list[RequestState]) -> None:
        if request.first_token_ns < 0:
            request.first_token_ns = now
        else:
            gap = now - request.last_token_ns
            self._gaps[gap] = self._gaps.get(gap, 0) + 1
        request.last_token_ns = now
        if request.processed == request.prompt + request.output:
            request.completed_ns = now
            finished.append(request)

    def _log(self, interrupted: bool) -> RunLog:
        requests = np.zeros(len(self._requests), dtype=REQUEST)
        for name in ("arrival", "first_scheduled", "first_token", "last_token", "completed"):
            requests[name] = [getattr(request, f"{name}_ns") for request in self._requests]
        for name in ("prompt", "output", "tenant", "target", "processed", "blocks", "restarts", "instance", "rejected"):
            requests[name] = [getattr(request, name) for request in self._requests]
        requests["adapter"] = [request.adapter for request in self._requests]
        instances = np.zeros(len(self._instances), dtype=INSTANCE)
        for row, instance in zip(instances, self._instances, strict=True):
            row["total"], row["free"] = instance.pool.total, instance.pool.free
            row["peak"], row["stages"], row["machine"] = instance.pool.peak, 1, instance.machine
            row["role"] = instance.role
            row["up_since"], row["closed"] = self._up_since[instance], OPEN if instance.up else DOWN
            adapters = instance.pool.adapters
            for name, value in (instance.totals | ({} if adapters is None else adapters.totals())).items():
                row[name] = value
        values = np.array(sorted(self._gaps), dtype=np.float64)
        weights = np.array([self._gaps[int(value)] for value in values], dtype=np.int64)
        mean = float(values @ weights / weights.sum()) if values.size else 0.0
        gaps = Gaps(values, weights, mean, float(values[-1]) if values.size else 0.0)
        block = self._instances[0].pool.block_tokens
        batches = None if self._batches is None else np.array(self._batches, dtype=BATCH_LOG)
        units = {} if self._meter is None else self._meter.seconds
        return RunLog(self._trace, requests, instances, gaps, self._end_ns, block, batches, interrupted, units)


def make_instances(
    oracles: Sequence[LatencyOracle], block_tokens: int, adapters: NDArray[Any] | None = None, most: int | None = None
) -> list[Instance]:
    """One Python instance for each machine.

    adapters  (machines, adapters) ADAPTER; most: that an instance holds at a time, None: all
    """
    caches = [
        None if adapters is None else AdapterCache(adapters[index], len(adapters[index]) if most is None else most)
        for index in range(len(oracles))
    ]
    numbers = {id(oracle): number for number, oracle in enumerate({id(one): one for one in oracles}.values())}
    return [
        Instance(index, oracle, block_tokens, cache, numbers[id(oracle)])
        for index, (oracle, cache) in enumerate(zip(oracles, caches, strict=True))
    ]


def _machines(instances: Sequence[Instance]) -> list[LatencyOracle]:
    return list({instance.machine: instance.oracle for instance in instances}.values())


def _nanoseconds(seconds: float) -> int:
    if not 0 < seconds <= MAX_ITERATION_S:
        raise UsageError(f"the oracle gave an iteration of {seconds!r} s, allowed: above 0, up to {MAX_ITERATION_S:g}")
    return max(1, round(seconds * NS_PER_S))
