"""Fused attention on {DMA, array, vector unit}: scores never leave the chip.

Per block of queries the keys and values stream by in blocks: scores on the array, a running softmax on the vector
unit, the weighted sum on the array again. The array computes the next block's scores while the vector unit works on
this one's: its order is scores of step s, then weighted sum of step s - 1. Keys and values have three buffers, so that
the DMA need not wait for that order.
A steady state is skipped exactly, as in archsim.compute.npu.pipeline_kernels.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# ---- durations, ps, (X_SIZE, 4): column 2 for the last block of queries + 1 for the last block of keys
X_LOAD_Q, X_LOAD_KV, X_SCORE, X_SOFTMAX, X_CONTEXT, X_NORMALISE, X_STORE, X_CONVERT, X_SIZE = range(9)
# ---- state: times, then durations of the step before whose weighted sum is pending (-1: none)
# (Z_SUMMED_1, _2: ends of the last weighted sums taken, of steps s - 2 and s - 3 when step s begins)
Z_DMA, Z_ARRAY, Z_VECTOR, Z_SUMMED_1, Z_SUMMED_2, Z_SOFT, Z_TIMES = range(7)
Z_CONTEXT, Z_NORMALISE, Z_STORE, Z_SIZE = 6, 7, 8, 9


@njit(cache=True, nogil=True)
def take_context(state: Ints) -> None:
    """The weighted sum of the step before; after a query block's last, its normalisation and store."""
    if state[Z_CONTEXT] < 0:
        return
    state[Z_ARRAY] = max(state[Z_ARRAY], state[Z_SOFT]) + state[Z_CONTEXT]
    state[Z_SUMMED_2] = state[Z_SUMMED_1]
    state[Z_SUMMED_1] = state[Z_ARRAY]
    state[Z_CONTEXT] = -1
    if state[Z_STORE] >= 0:
        state[Z_VECTOR] = max(state[Z_VECTOR], state[Z_ARRAY]) + state[Z_NORMALISE]
        state[Z_DMA] = max(state[Z_DMA], state[Z_VECTOR]) + state[Z_STORE]
        state[Z_STORE] = -1
        state[Z_NORMALISE] = 0


@njit(cache=True, nogil=True)
def same_again(state: Ints, seen: Ints) -> bool:
    """Whether `state` is `seen` moved in time; if not, `seen` becomes the present state."""
    state[Z_SUMMED_1] = max(state[Z_SUMMED_1], state[Z_DMA])
    state[Z_SUMMED_2] = max(state[Z_SUMMED_2], state[Z_DMA])
    state[Z_VECTOR] = max(state[Z_VECTOR], min(state[Z_ARRAY], state[Z_DMA]))
    shift = state[Z_ARRAY] - seen[Z_ARRAY]
    for i in range(Z_SIZE):
        if state[i] - seen[i] != (shift if i < Z_TIMES else 0):
            seen[:] = state
            return False
    return True


@njit(cache=True, nogil=True)
def jump(state: Ints, seen: Ints, times: int) -> None:
    """Add `times` more of the last iteration's shift."""
    shift = (state[Z_ARRAY] - seen[Z_ARRAY]) * times
    for i in range(Z_TIMES):
        state[i] += shift


@njit(cache=True, nogil=True)
def attention_step(state: Ints, tables: Ints, code: int, first: bool, last: bool, loads: bool, fill: int) -> None:
    """One block of keys against one block of queries."""
    load = (tables[X_LOAD_Q, code] if first else 0) + (tables[X_LOAD_KV, code] if loads else 0)
    state[Z_DMA] = max(state[Z_DMA], state[Z_SUMMED_2]) + load
    here = state[Z_DMA]
    if loads and tables[X_CONVERT, code] > 0:
        state[Z_VECTOR] = max(state[Z_VECTOR], here) + tables[X_CONVERT, code]
        here = state[Z_VECTOR]
    state[Z_ARRAY] = max(state[Z_ARRAY], here) + tables[X_SCORE, code] + fill
    scored = state[Z_ARRAY]
    take_context(state)
    state[Z_VECTOR] = max(state[Z_VECTOR], scored) + tables[X_SOFTMAX, code]
    state[Z_SOFT] = state[Z_VECTOR]
    state[Z_CONTEXT] = tables[X_CONTEXT, code]
    if last:
        state[Z_STORE], state[Z_NORMALISE] = tables[X_STORE, code], tables[X_NORMALISE, code]


@njit(cache=True, nogil=True)
def attention_ps(products: int, visible: Ints, key_blocks: int, tables: Ints, latency: int, fill: int) -> int:
    """Time of `products` heads.

    visible  (query blocks,) blocks of keys that each block of queries sees, from the first; of `key_blocks`
    fill     the array's, before its first tile
    """
    query_blocks = visible.size
    state = np.zeros(Z_SIZE, np.int64)
    state[Z_CONTEXT] = state[Z_STORE] = -1
    state[Z_DMA], state[Z_ARRAY] = latency, 0
    seen = np.zeros((3, Z_SIZE), np.int64)
    p = 0
    while p < products:
        if p >= 2 and p < products - 1 and same_again(state, seen[0]):
            jump(state, seen[0], products - 1 - p)
            p = products - 1
        elif p == 1:
            seen[0] = state
        i = 0
        while i < query_blocks:
            if i >= 2 and i < query_blocks - 1 and visible[1] == key_blocks and same_again(state, seen[1]):
                jump(state, seen[1], query_blocks - 1 - i)
                i = query_blocks - 1
            elif i == 1:
                seen[1] = state
            j = 0
            while j < visible[i]:
                if j >= 2 and j < visible[i] - 1 and same_again(state, seen[2]):
                    jump(state, seen[2], visible[i] - 1 - j)
                    j = visible[i] - 1
                elif j == 1:
                    seen[2] = state
                last = j == visible[i] - 1
                code = (2 if i == query_blocks - 1 else 0) + (1 if j == key_blocks - 1 else 0)
                start = fill if p == 0 and i == 0 and j == 0 else 0
                attention_step(state, tables, code, j == 0, last, key_blocks > 1 or i == 0, start)
                j += 1
            i += 1
        p += 1
    take_context(state)
    return int(max(state[Z_DMA], state[Z_ARRAY]))
