"""Time of a tiled product on {DMA, array, vector unit}, each of which works through its tasks in order.

A product is `counts` tiles along m, n and k, walked in a loop order. Every step computes one tile. The DMA loads what
the step needs and the scratchpad does not hold from the step before; with double buffers it works one step ahead.
A result leaves when the walk moves on to another output tile: through the vector unit, then to memory; as partial
sums, if its reduction is not finished, which are loaded when the walk comes back.

Order of the DMA: load of step s, then the store of step s - 2 (the other way round if partial sums are spilled, so
that none is loaded before it was stored). Order of the vector unit: conversion of step s's weights, result of s - 1.

Durations are in ps, in `tables` (T_SIZE, 8); the column is the step's edge code, 4 m + 2 n + k, with a 1 for an axis
on which the step is the last of several (its tile may be smaller).
Steady state is skipped exactly: where an iteration of a loop begins in the same relative state as the one before,
the rest of the equal iterations is added at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# ---- tables
T_COMPUTE, T_LOAD_A, T_LOAD_B, T_LOAD_C, T_STORE, T_SPILL, T_RESULT, T_CONVERT, T_SIZE = range(9)
# ---- state: times
S_DMA, S_ARRAY, S_COMPUTED_1, S_COMPUTED_2, S_VECTOR, S_STORED, S_READY_1, S_READY_2, S_TIMES = range(9)
# ---- state: durations of what is pending from step s - 1 (result, store) and s - 2 (store); -1 where nothing is
S_RESULT_1, S_STORE_1, S_STORE_2, S_SIZE = 8, 9, 10, 11
# ---- walk: products, 0/1 for double buffers and for spilled partial sums, first load's latency, fill and drain, ps
W_PRODUCTS, W_DOUBLE, W_SPILLS, W_LATENCY, W_FILL, W_DRAIN, W_SIZE = range(7)


@njit(cache=True, nogil=True)
def retire_result(state: Ints) -> None:
    """The vector unit takes the result of step s - 1; its store moves to the place of s - 2."""
    if state[S_STORE_1] >= 0:
        if state[S_RESULT_1] > 0:
            state[S_VECTOR] = max(state[S_VECTOR], state[S_READY_1]) + state[S_RESULT_1]
            state[S_READY_1] = state[S_VECTOR]
    state[S_READY_2], state[S_STORE_2] = state[S_READY_1], state[S_STORE_1]
    state[S_STORE_1], state[S_RESULT_1] = -1, -1


@njit(cache=True, nogil=True)
def retire_store(state: Ints) -> None:
    """The DMA takes the store that has become due, if there is one."""
    if state[S_STORE_2] >= 0:
        state[S_DMA] = max(state[S_DMA], state[S_READY_2]) + state[S_STORE_2]
        state[S_STORED] = state[S_DMA]
        state[S_STORE_2] = -1


@njit(cache=True, nogil=True)
def advance(state: Ints, load: int, convert: int, compute: int, opens: bool, walk: Ints) -> None:
    """One step: its load, the older store, its conversion, the older result, its compute."""
    if walk[W_DOUBLE] == 0:
        retire_result(state)
        retire_store(state)
        state[S_DMA] = max(state[S_DMA], state[S_COMPUTED_1]) + load
    else:
        if walk[W_SPILLS] == 1:
            retire_store(state)
        state[S_DMA] = max(state[S_DMA], state[S_COMPUTED_2]) + load
    here = state[S_DMA]
    if walk[W_DOUBLE] == 1:
        if walk[W_SPILLS] == 0:
            retire_store(state)
    if convert > 0:
        state[S_VECTOR] = max(state[S_VECTOR], here) + convert
        here = state[S_VECTOR]
    if walk[W_DOUBLE] == 1:
        retire_result(state)
    start = max(state[S_ARRAY], here)
    if opens:
        start = max(start, state[S_STORED])
    state[S_COMPUTED_2] = state[S_COMPUTED_1]
    state[S_ARRAY] = start + compute
    state[S_COMPUTED_1] = state[S_ARRAY]


@njit(cache=True, nogil=True)
def recurs(state: Ints, seen: Ints) -> bool:
    """Whether `state` is `seen` moved in time; if not, `seen` becomes the present state.

    Times too far back to delay anything are first raised to the time that hides them.
    """
    state[S_STORED] = max(state[S_STORED], state[S_ARRAY])
    state[S_VECTOR] = max(state[S_VECTOR], min(state[S_DMA], state[S_ARRAY]))
    state[S_COMPUTED_2] = max(state[S_COMPUTED_2], state[S_DMA])
    state[S_READY_1] = state[S_ARRAY]
    state[S_READY_2] = max(state[S_READY_2], state[S_DMA])
    shift = state[S_ARRAY] - seen[S_ARRAY]
    same = True
    for i in range(S_SIZE):
        if state[i] - seen[i] != (shift if i < S_TIMES else 0):
            same = False
    if not same:
        seen[:] = state
    return same


@njit(cache=True, nogil=True)
def leap(state: Ints, seen: Ints, times: int) -> None:
    """Add `times` more of the last iteration's shift."""
    shift = (state[S_ARRAY] - seen[S_ARRAY]) * times
    for i in range(S_TIMES):
        state[i] += shift


@njit(cache=True, nogil=True)
def pipeline_ps(order: Ints, counts: Ints, tables: Ints, walk: Ints, seen: Ints) -> int:
    """Time of the whole product, ps.

    order   (3,) axes (0 m, 1 n, 2 k) from the outermost loop to the innermost
    counts  (3,) tiles along m, n, k
    tables  (T_SIZE, 8) durations; walk (W_SIZE,)
    seen    (4, S_SIZE) scratch
    """
    a0, a1, a2 = order[0], order[1], order[2]
    n0, n1, n2 = counts[a0], counts[a1], counts[a2]
    state = np.zeros(S_SIZE, np.int64)
    state[S_RESULT_1] = state[S_STORE_1] = state[S_STORE_2] = -1
    state[S_DMA] = walk[W_LATENCY]
    last = np.full(3, -1, np.int64)
    at = np.zeros(3, np.int64)
    p = 0
    while p < walk[W_PRODUCTS]:
        if p >= 2 and p < walk[W_PRODUCTS] - 1 and recurs(state, seen[3]):
            leap(state, seen[3], walk[W_PRODUCTS] - 1 - p)
            p = walk[W_PRODUCTS] - 1
        elif p == 1:
            seen[3] = state
        last[:] = -1
        i0 = 0
        while i0 < n0:
            if i0 >= 2 and i0 < n0 - 1 and recurs(state, seen[0]):
                leap(state, seen[0], n0 - 1 - i0)
                i0 = n0 - 1
                last[a0] = i0 - 1
            elif i0 == 1:
                seen[0] = state
            at[a0] = i0
            i1 = 0
            while i1 < n1:
                if i1 >= 2 and i1 < n1 - 1 and recurs(state, seen[1]):
                    leap(state, seen[1], n1 - 1 - i1)
                    i1 = n1 - 1
                    last[a1] = i1 - 1
                elif i1 == 1:
                    seen[1] = state
                at[a1] = i1
                i2 = 0
                while i2 < n2:
                    if i2 >= 2 and i2 < n2 - 1 and recurs(state, seen[2]):
                        leap(state, seen[2], n2 - 1 - i2)
                        i2 = n2 - 1
                        last[a2] = i2 - 1
                    elif i2 == 1:
                        seen[2] = state
                    at[a2] = i2
                    step(state, at, last, order, counts, tables, walk, p)
                    i2 += 1
                i1 += 1
            i0 += 1
        p += 1
    retire_store(state)
    retire_result(state)
    retire_store(state)
    return int(max(state[S_DMA], state[S_ARRAY], state[S_VECTOR]))


@njit(cache=True, nogil=True)
def step(state: Ints, at: Ints, last: Ints, order: Ints, counts: Ints, tables: Ints, walk: Ints, product: int) -> None:
    """One tile at indices `at`; `last` are those of the step before (-1: none) and become `at`."""
    code = 0
    ends = True
    for axis in range(3):
        final = at[axis] == counts[axis] - 1
        code += (4 >> axis) if final and counts[axis] > 1 else 0
        ends = ends and final
    m, n, k = at[0] != last[0], at[1] != last[1], at[2] != last[2]
    load = 0
    if m or k:
        load += tables[T_LOAD_A, code]
    convert = 0
    if k or n:
        load += tables[T_LOAD_B, code]
        convert = tables[T_CONVERT, code]
    opens = m or n
    if opens and at[2] > 0:
        load += tables[T_LOAD_C, code]
    compute = tables[T_COMPUTE, code]
    if last[0] < 0 and product == 0:
        compute += walk[W_FILL]
    if ends and product == walk[W_PRODUCTS] - 1:
        compute += walk[W_DRAIN]
    advance(state, load, convert, compute, opens, walk)
    if closes(at, order, counts):
        finished = at[2] == counts[2] - 1
        state[S_READY_1] = state[S_ARRAY]
        state[S_STORE_1] = tables[T_STORE, code] if finished else tables[T_SPILL, code]
        state[S_RESULT_1] = tables[T_RESULT, code] if finished else 0
    last[:] = at


@njit(cache=True, nogil=True)
def closes(at: Ints, order: Ints, counts: Ints) -> bool:
    """Whether the next step works on another output tile (or there is none)."""
    for level in range(2, -1, -1):
        axis = order[level]
        if at[axis] < counts[axis] - 1:
            return bool(axis != 2)
        if axis != 2 and counts[axis] > 1:
            return True  # this loop wraps around to its first index
    return True
