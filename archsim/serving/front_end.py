"""The host before the queue: what a framework does with a request from its arrival until an instance may schedule it.

Each instance that takes requests brings one front end. A request takes the one that is free first, which works on one
after the other; then it is routed and queues. Latencies count from the arrival; what requests spend side by side
between client and engine, there and back, comes before the front end.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.launch import Server
from archsim.serving.runlog import NS_PER_S, RunLog
from archsim.workload.traces import Trace


@dataclass(frozen=True)
class Entry:
    """Requests on both sides of the front ends.

    arrived  the trace as it came
    queued   in the order and at the times in which they may be scheduled
    order    (requests,) int64, place in `arrived` of each request of `queued`
    """

    arrived: Trace
    queued: Trace
    order: NDArray[np.int64]

    def restore(self, log: RunLog) -> RunLog:
        """The log of a run of `queued` as one of `arrived`: in its order, with its arrivals."""
        requests = np.empty_like(log.requests)
        requests[self.order] = log.requests
        requests["arrival"] = _nanoseconds(self.arrived.arrival_s)
        return replace(log, trace=self.arrived, requests=requests)


def delays(server: Server) -> bool:
    """Whether its front ends take any time."""
    return server.request_admission > 0 or server.token_admission > 0 or server.request_latency > 0


def enter(trace: Trace, server: Server, front_ends: int) -> Entry:
    """Send `trace` through `front_ends` of `server`; whole nanoseconds, of equal times the first to arrive first."""
    work = _nanoseconds(np.asarray(server.request_admission + server.token_admission * trace.prompt_tokens, float))
    on_the_way, free = round(server.request_latency * NS_PER_S), [0] * front_ends
    ready = np.zeros(len(trace), dtype=np.int64)
    for i, (arrival, span) in enumerate(zip(_nanoseconds(trace.arrival_s).tolist(), work.tolist(), strict=True)):
        ready[i] = max(arrival + on_the_way, free[0]) + span
        heapq.heapreplace(free, int(ready[i]))
    order = np.argsort(ready, kind="stable").astype(np.int64)
    return Entry(trace, trace.take(order, ready[order] / NS_PER_S), order)


def _nanoseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(np.rint(seconds * NS_PER_S), dtype=np.int64)
