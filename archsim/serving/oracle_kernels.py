"""Iteration times of compiled latency oracles: affine in tokens and contexts, or interpolated in tables."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.serving.state_kernels import Int, entry, hot_entry, kernel

MIXED, PROMPTS, DECODES = 0, 1, 2
AFFINE, TABLES, ASK = 0, 1, 2
FROM, BASE, REQUEST, TOKEN, PAIR, CONTEXT = 0, 1, 2, 3, 4, 5  # columns of `rows`


class OracleArrays(NamedTuple):
    """Machines by number m.

    kind (M,)             AFFINE, TABLES or ASK
    rows (M, 3, R, 6)     seconds, per phase; the last row whose FROM is at most the decodes of the iteration counts
    joules (M, 3, R, 6)   the same for energy
    sizes (M, 7)          used lengths of batch, context, dense, chunk, before and the two shared grids
    batch (M, N), context (M, C), step_s, step_j (M, N, C)    decode step by batch and mean context
    dense (M, D), dense_s, dense_j (M, D)                     everything but attention, by rows of the batch
    chunk (M, P), before (M, B), prompt_s, prompt_j (M, P, B) attention of a prompt chunk after cached tokens
    host_s, host_j (M,)                                       the host's work on an iteration of prompts alone
    launches_s, captured_tokens (M,)                          its launches in one with prompts, beyond so many tokens
    shared_new (M, T), shared_batch (M, N), shared_s, shared_j (M, T, N, C)    what attention of decodes takes more in
                                                              one launch with so many prompt tokens
    step_w (M, 3, N, C), dense_w (M, 3, D), prompt_w (M, 3, P, B), host_w (M, 3), shared_w (M, T, N, C)
                                                              how often each point counted, by phase; M = 0: not counted
    adapter_w (M, 3)                                          seconds that adapters added
    """

    kind: NDArray[np.int64]
    rows: NDArray[np.float64]
    joules: NDArray[np.float64]
    sizes: NDArray[np.int64]
    batch: NDArray[np.float64]
    context: NDArray[np.float64]
    step_s: NDArray[np.float64]
    step_j: NDArray[np.float64]
    dense: NDArray[np.float64]
    dense_s: NDArray[np.float64]
    dense_j: NDArray[np.float64]
    chunk: NDArray[np.float64]
    before: NDArray[np.float64]
    prompt_s: NDArray[np.float64]
    prompt_j: NDArray[np.float64]
    host_s: NDArray[np.float64]
    host_j: NDArray[np.float64]
    launches_s: NDArray[np.float64]
    captured_tokens: NDArray[np.float64]
    shared_new: NDArray[np.float64]
    shared_batch: NDArray[np.float64]
    shared_s: NDArray[np.float64]
    shared_j: NDArray[np.float64]
    step_w: NDArray[np.float64]
    dense_w: NDArray[np.float64]
    prompt_w: NDArray[np.float64]
    host_w: NDArray[np.float64]
    shared_w: NDArray[np.float64]
    adapter_w: NDArray[np.float64]


@hot_entry
def affine(rows: NDArray[np.float64], prefills: Int, decodes: Int, new: Int, twice_pairs: Int, contexts: Int) -> Int:
    """Value of one iteration from (3, R, 6) coefficients."""
    phase = MIXED if prefills > 0 and decodes > 0 else (PROMPTS if prefills > 0 else DECODES)
    r = 0
    while r + 1 < rows.shape[1] and rows[phase, r + 1, FROM] <= decodes:
        r += 1
    prompts = rows[phase, r, TOKEN] * new + rows[phase, r, PAIR] * (twice_pairs / 2)
    fixed = rows[phase, r, BASE] + rows[phase, r, REQUEST] * (prefills + decodes) + prompts
    return fixed + rows[phase, r, CONTEXT] * contexts


@kernel
def segment(grid: NDArray[np.float64], size: Int, x: Int) -> tuple[Int, Int]:
    """Index of the grid interval of x, and where in it x lies; beyond the ends the last interval is continued."""
    low, high = 0, size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if grid[middle] <= x:
            low = middle
        else:
            high = middle
    if size < 2:
        return 0, 0.0
    return low, (x - grid[low]) / (grid[low + 1] - grid[low])


@kernel
def line(grid: NDArray[np.float64], values: NDArray[np.float64], size: Int, x: Int) -> Int:
    """Linear interpolation of `values` over `grid`."""
    i, share = segment(grid, size, x)
    if share == 0.0:
        return values[i]
    return values[i] + share * (values[i + 1] - values[i])


@kernel
def plane(
    xs: NDArray[np.float64], ys: NDArray[np.float64], table: NDArray[np.float64], nx: Int, ny: Int, x: Int, y: float
) -> Int:
    """Bilinear interpolation of `table` (x, y)."""
    i, share = segment(xs, nx, x)
    j, part = segment(ys, ny, y)
    low = table[i, j] + (part * (table[i, j + 1] - table[i, j]) if part != 0.0 else 0.0)
    if share == 0.0:
        return low
    high = table[i + 1, j] + (part * (table[i + 1, j + 1] - table[i + 1, j]) if part != 0.0 else 0.0)
    return low + share * (high - low)


@entry
def prompt_attention(o: OracleArrays, m: Int, tokens: Int, before: Int) -> tuple[Int, Int]:
    """Seconds and joules of the attention of one prompt chunk; nothing for an affine oracle, whose rows hold it."""
    if o.kind[m] != TABLES:
        return 0.0, 0.0
    p, b = o.sizes[m, 3], o.sizes[m, 4]
    return (
        plane(o.chunk[m], o.before[m], o.prompt_s[m], p, b, tokens, before),
        plane(o.chunk[m], o.before[m], o.prompt_j[m], p, b, tokens, before),
    )


@kernel
def beside(o: OracleArrays, m: Int, shared: NDArray[np.float64], decodes: Int, context: float, new: Int) -> Int:
    """What attention of `decodes` requests takes more in one launch with `new` prompt tokens."""
    if o.sizes[m, 5] == 0:
        return 0.0
    t, share = segment(o.shared_new[m], o.sizes[m, 5], new)
    low = plane(o.shared_batch[m], o.context[m], shared[t], o.sizes[m, 6], o.sizes[m, 1], decodes, context)
    if share == 0.0:
        return low
    high = plane(o.shared_batch[m], o.context[m], shared[t + 1], o.sizes[m, 6], o.sizes[m, 1], decodes, context)
    return low + share * (high - low)


@kernel
def tabulated(
    o: OracleArrays, m: Int, step: NDArray[np.float64], dense: NDArray[np.float64], host: Int,
    shared_launch: NDArray[np.float64], decodes: Int, contexts: Int, new: Int, prompt: Int,
) -> Int:  # fmt: skip
    """A decode step, the growth of the dense operators by the prompt tokens, the prompts' attention and host work."""
    value = 0.0
    if decodes > 0:
        value = plane(o.batch[m], o.context[m], step, o.sizes[m, 0], o.sizes[m, 1], decodes, contexts / decodes)
    if new > 0:
        shared = line(o.dense[m], dense, o.sizes[m, 2], decodes) if decodes > 0 else 0.0
        value += max(0.0, line(o.dense[m], dense, o.sizes[m, 2], new + decodes) - shared) + prompt
        value += beside(o, m, shared_launch, decodes, contexts / decodes, new) if decodes > 0 else host
    return value


@hot_entry
def iteration_s(
    o: OracleArrays, m: Int, prefills: Int, decodes: Int, new: Int, twice_pairs: Int, contexts: Int, prompt_s: Int
) -> Int:
    """Seconds of one iteration on machine m."""
    if o.kind[m] == AFFINE:
        return affine(o.rows[m], prefills, decodes, new, twice_pairs, contexts)
    seconds = tabulated(o, m, o.step_s[m], o.dense_s[m], o.host_s[m], o.shared_s[m], decodes, contexts, new, prompt_s)
    if new > 0 and o.launches_s[m] > 0.0 and new + decodes > o.captured_tokens[m]:
        seconds = max(seconds, o.host_s[m] + o.launches_s[m])
    return seconds


@hot_entry
def iteration_j(
    o: OracleArrays, m: Int, prefills: Int, decodes: Int, new: Int, twice_pairs: Int, contexts: Int, prompt_j: Int
) -> Int:
    """Joules of one iteration on machine m."""
    if o.kind[m] == AFFINE:
        return affine(o.joules[m], prefills, decodes, new, twice_pairs, contexts)
    return tabulated(o, m, o.step_j[m], o.dense_j[m], o.host_j[m], o.shared_j[m], decodes, contexts, new, prompt_j)
