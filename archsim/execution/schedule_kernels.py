"""Event-driven list scheduler over a task table."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@njit(cache=True, nogil=True)
def schedule(
    duration_ps: Ints, resource: Ints, priority: Ints, successor_start: Ints, successor: Ints, n_resources: int
) -> tuple[Ints, Ints]:
    """Start and end of every task when each resource runs one task at a time, the most urgent ready one first.

    duration_ps      (tasks,) int64 >= 0
    resource         (tasks,) int64, 0 <= resource < n_resources
    priority         (tasks,) int64, smaller is more urgent; equal ones go by index
    successor_start  (tasks + 1,) int64, successors of task i are successor[successor_start[i]:successor_start[i+1]]
    Returns start_ps, end_ps (tasks,) int64; -1 for a task that never became ready (a cycle).
    """
    tasks = duration_ps.size
    waiting = np.zeros(tasks, dtype=np.int64)
    for edge in range(successor.size):
        waiting[successor[edge]] += 1
    start_ps = np.full(tasks, -1, dtype=np.int64)
    end_ps = np.full(tasks, -1, dtype=np.int64)
    ready = [[(np.int64(0), np.int64(0)) for _ in range(0)] for _ in range(n_resources)]
    busy = np.zeros(n_resources, dtype=np.bool_)
    running = [(np.int64(0), np.int64(0)) for _ in range(0)]
    for task in range(tasks):
        if waiting[task] == 0:
            heapq.heappush(ready[resource[task]], (priority[task], np.int64(task)))
    now = np.int64(0)
    for unit in range(n_resources):
        _start_next(ready[unit], unit, now, busy, duration_ps, start_ps, end_ps, running)
    while len(running) > 0:
        now = running[0][0]
        # everything that ends now is retired before anything starts, so that order of retirement does not matter
        while len(running) > 0 and running[0][0] == now:
            done = heapq.heappop(running)[1]
            busy[resource[done]] = False
            for edge in range(successor_start[done], successor_start[done + 1]):
                follower = successor[edge]
                waiting[follower] -= 1
                if waiting[follower] == 0:
                    heapq.heappush(ready[resource[follower]], (priority[follower], np.int64(follower)))
        for unit in range(n_resources):
            if not busy[unit]:
                _start_next(ready[unit], unit, now, busy, duration_ps, start_ps, end_ps, running)
    return start_ps, end_ps


@njit(cache=True, nogil=True)
def _start_next(
    ready: Any, unit: int, now: int, busy: Any, duration_ps: Ints, start_ps: Ints, end_ps: Ints, running: Any
) -> None:
    if len(ready) == 0:
        return
    task = heapq.heappop(ready)[1]
    busy[unit] = True
    start_ps[task] = now
    end_ps[task] = now + duration_ps[task]
    heapq.heappush(running, (end_ps[task], np.int64(task)))
