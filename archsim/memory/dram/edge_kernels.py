"""What lies between two remembered states of the engine: requests, ticks, counts, latencies and commands.

An edge holds no write and no command for one. It fits while writes wait if the channels stay in read mode and no
read asks for the row of a waiting write. All-bank refresh is not part of a state: an edge either ends before the
next one, or holds it at the distance at which it came.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.regular_kernels import PLACE, row_of
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
_COMMAND = 5  # words of a command: tick, command, bank, kind, arrival
_LONGEST_EDGE = 1024  # requests


@inner
def flip_of(s: Array, location: int) -> int:
    """The part of a request's bank number in which banks are alike: states that differ in it only are one node."""
    return int((location >> lay.LOC_BANK) & s[lay.G_FLIP_MASK])


@inner
def refresh_due(s: Array) -> int:
    """The tick of the next all-bank refresh, INF where there is none, -1 if channels differ."""
    if s[lay.G_REF_MODE] != lay.REF_ALL:
        return lay.INF
    due = s[lay.G_SIZE + lay.H_NEXT_REF]
    for k in range(1, s[lay.G_CHANNELS]):
        if s[lay.G_SIZE + k * s[lay.G_STRIDE] + lay.H_NEXT_REF] != due:
            return -1
    return int(due)


@inner
def waiting_writes(s: Array) -> int:
    """Writes that wait, -1: so many that a channel leaves its read mode."""
    n = 0
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        if s[o + lay.H_NW] > s[lay.G_HI]:
            return -1
        n += s[o + lay.H_NW]
    return int(n)


@inner
def _numbers(s: Array, o: int, t: int, at: int) -> None:
    """Statistics of a channel at clock `t`: counts, changes of mode, ticks with an open row."""
    for j in range(15):
        s[at + j] = s[o + lay.H_COUNT + j]
    s[at + 15] = s[o + lay.H_FLIPS]
    for j in range(8):
        s[at + 16 + j] = s[o + lay.H_BUSY + j]
        if s[o + lay.H_OPEN + j] > 0:
            s[at + 16 + j] += t - s[o + lay.H_SINCE + j]


@outlined
def begin_edge(s: Array, node: int, t: int) -> None:
    """Begin an edge at `node`."""
    s[lay.G_FROM], s[lay.G_FROM_T], s[lay.G_FROM_N], s[lay.G_FROM_OUT] = node, t, s[lay.G_NEXT], s[lay.G_OUT_N]
    s[lay.G_FROM_END], s[lay.G_FROM_FINISH] = s[lay.G_END], s[lay.G_FINISH]
    s[lay.G_FROM_OUTSTANDING], s[lay.G_FROM_CHUNK] = s[lay.G_OUTSTANDING], s[lay.G_CHUNK0]
    s[lay.G_FROM_TRACE] = s[lay.G_TRACE_N]
    s[lay.G_FROM_REF], s[lay.G_FROM_MERGED] = refresh_due(s), s[lay.G_FORWARDED] + s[lay.G_MERGED]
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        at = (s[lay.G_FROM_NUMBERS] + lay.NUMBERS * k) & lay.AT
        _numbers(s, o, t, at)
        if s[o + lay.H_MODE] != 0:
            s[at + 15] = -1


@outlined
def _complete(s: Array, t: int, edge: int) -> bool:
    """Fill in the numbers of a new edge that ends at clock `t`; False: it holds what an edge may not hold."""
    if s[lay.G_END] <= s[lay.G_FROM_END] or s[lay.G_FINISH] <= s[lay.G_FROM_FINISH]:
        return False
    if s[lay.G_FORWARDED] + s[lay.G_MERGED] != s[lay.G_FROM_MERGED]:
        return False
    due, only = refresh_due(s), 1
    if due < 0 or s[lay.G_FROM_REF] < 0 or waiting_writes(s) < 0:
        return False
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        at, before = (edge + lay.EDGE_HEAD + lay.NUMBERS * k) & lay.AT, s[lay.G_FROM_NUMBERS] + lay.NUMBERS * k
        _numbers(s, o, t, at)
        if s[at + 15] != s[(before + 15) & lay.AT]:
            only = 0
            if s[o + lay.H_NW] > 0:
                return False
        for j in range(lay.NUMBERS):
            s[at + j] -= s[(before + j) & lay.AT]
        if s[at + lay.WR] != 0:
            return False
    s[edge + lay.E_REQUESTS], s[edge + lay.E_TICKS] = s[lay.G_NEXT] - s[lay.G_FROM_N], t - s[lay.G_FROM_T]
    s[edge + lay.E_TIMES], s[edge + lay.E_READS_ONLY] = 0, only
    s[edge + lay.E_REFRESH], s[edge + lay.E_REFRESHES] = 0, due - s[lay.G_FROM_REF]
    if due != s[lay.G_FROM_REF]:
        s[edge + lay.E_REFRESH] = s[lay.G_FROM_REF] - s[lay.G_FROM_T]
    s[edge + lay.E_END], s[edge + lay.E_FINISH] = s[lay.G_END] - t, s[lay.G_FINISH] - t
    s[edge + lay.E_OUTSTANDING] = s[lay.G_OUTSTANDING] - s[lay.G_FROM_OUTSTANDING]
    s[edge + lay.E_OUTPUTS] = s[lay.G_OUT_N] - s[lay.G_FROM_OUT]
    return True


@outlined
def _known(s: Array, origin: int, edge: int, node: int) -> bool:
    """Is there an edge like the new one already? (It did not fit for a reason outside of it.)"""
    e = s[origin + lay.N_EDGE]
    while e > 0:
        e &= lay.AT
        same = s[e + lay.E_NODE] == node and s[e + lay.E_REFRESH] == s[edge + lay.E_REFRESH]
        if same and s[e + lay.E_REQUESTS] == s[edge + lay.E_REQUESTS] and s[e + lay.E_TICKS] == s[edge + lay.E_TICKS]:
            return True
        e = s[e + lay.E_NEXT]
    return False


@outlined
def _keep_commands(s: Array, edge: int, n: int, flip: int, at: int) -> int:
    """Write the last `n` commands of the trace down from word `at` on; returns the word after them."""
    s[edge + lay.E_COMMANDS] = n
    for j in range(n):
        own = (s[lay.G_TRACE_AT] + lay.TRACE_SIZE * (s[lay.G_FROM_TRACE] + j)) & lay.AT
        command, place = s[own + 1], s[own + 2]
        if command != lay.PREA and command != lay.REFAB:
            place ^= flip
        e = (at + _COMMAND * j) & lay.AT
        s[e], s[e + 1], s[e + 2] = s[own] - s[lay.G_FROM_T], command, place
        s[e + 3], s[e + 4] = s[own + 5], s[own + 6] - s[lay.G_FROM_T]
    return at + _COMMAND * n


@outlined
def repeat_commands(s: Array, e: int, t: int, flip: int) -> None:
    """Append the commands of an edge that begins at clock `t` to the trace, without rows and columns."""
    at = e + lay.EDGE_HEAD + lay.NUMBERS * s[lay.G_CHANNELS] + s[e + lay.E_REQUESTS] + 1
    if s[lay.G_MODE] & lay.M_RECORD:
        at += 2 * s[e + lay.E_OUTPUTS]
    for j in range(s[e + lay.E_COMMANDS]):
        own, to = (at + _COMMAND * j) & lay.AT, (s[lay.G_TRACE_AT] + lay.TRACE_SIZE * (s[lay.G_TRACE_N] + j)) & lay.AT
        command, place = s[own + 1], s[own + 2]
        if command != lay.PREA and command != lay.REFAB:
            place ^= flip
        s[to], s[to + 1], s[to + 2], s[to + 3], s[to + 4] = s[own] + t, command, place, -1, -1
        s[to + 5], s[to + 6] = s[own + 3], s[own + 4] + t
    s[lay.G_TRACE_N] += s[e + lay.E_COMMANDS]


@outlined
def end_edge(s: Array, t: int, node: int, locations: Array) -> None:
    """End the edge that was begun last at `node`."""
    origin, number, s[lay.G_FROM] = s[lay.G_FROM] & lay.AT, s[lay.G_FROM_N], 0
    n, first = s[lay.G_NEXT] - number, number - s[lay.G_CHUNK0]
    if s[lay.G_FROM_CHUNK] != s[lay.G_CHUNK0] or n < 1 or n > _LONGEST_EDGE or s[lay.G_EDGES_N] >= lay.MAX_EDGES:
        return
    edge = s[lay.G_TOP] & lay.AT
    places = edge + lay.EDGE_HEAD + lay.NUMBERS * s[lay.G_CHANNELS]
    outputs, commands = s[lay.G_OUT_N] - s[lay.G_FROM_OUT], s[lay.G_TRACE_N] - s[lay.G_FROM_TRACE]
    end, latency = places + n + 1, s[lay.G_LATENCIES] + s[lay.G_LATENCIES_N]
    if (
        end + 2 * outputs + _COMMAND * commands > s[lay.G_POOL_END]
        or s[lay.G_LATENCIES_N] + outputs > lay.MAX_LATENCIES
    ):
        return
    if not _complete(s, t, edge) or _known(s, origin, edge, node):
        return
    flip, row, low, high = flip_of(s, locations[first & lay.AT]), row_of(locations[first & lay.AT]), lay.INF, -lay.INF
    for j in range(n + 1):
        location = locations[(first + j) & lay.AT]
        if location >> lay.LOC_WRITE:
            return
        s[(places + j) & lay.AT] = ((location & PLACE) ^ (flip << lay.LOC_BANK)) - (row << lay.LOC_ROW)
        low, high = min(low, row_of(location) - row), max(high, row_of(location) - row)
    s[edge + lay.E_LOW], s[edge + lay.E_HIGH] = low, high
    for j in range(outputs):
        s[(latency + j) & lay.AT] = s[(s[lay.G_OUT] + s[lay.G_FROM_OUT] + j) & lay.AT]
    s[edge + lay.E_LATENCIES] = latency
    s[lay.G_LATENCIES_N] += outputs
    if s[lay.G_MODE] & lay.M_RECORD:
        for j in range(outputs):
            e, own = (end + 2 * j) & lay.AT, (s[lay.G_OUT2] + 2 * (s[lay.G_FROM_OUT] + j)) & lay.AT
            s[e], s[e + 1] = s[own] - number, s[own + 1] - s[lay.G_FROM_T]
        end += 2 * outputs
    end = _keep_commands(s, edge, commands, flip, end)
    s[edge + lay.E_NODE] = node
    link = origin + lay.N_EDGE  # the longest first
    while s[link] > 0 and s[(s[link] & lay.AT) + lay.E_REQUESTS] > n:
        link = (s[link] & lay.AT) + lay.E_NEXT
    s[edge + lay.E_NEXT], s[link] = s[link], edge
    s[(s[lay.G_INDEX] + s[lay.G_EDGES_N]) & lay.AT] = edge
    s[lay.G_EDGES_N] += 1
    s[lay.G_TOP] = end
    if s[edge + lay.E_REFRESH] == 0:
        s[lay.G_STEP_TICKS] = s[edge + lay.E_TICKS] * s[lay.G_STEP] // n


@outlined
def repeat_output(s: Array, e: int, t: int) -> None:
    """Each request of an edge that begins at clock `t`: its latency, and when it ended."""
    n = s[e + lay.E_OUTPUTS]
    own = e + lay.EDGE_HEAD + lay.NUMBERS * s[lay.G_CHANNELS] + s[e + lay.E_REQUESTS] + 1
    for j in range(n):
        to = s[lay.G_OUT_N] + j
        s[(s[lay.G_OUT] + to) & lay.AT] = s[(s[e + lay.E_LATENCIES] + j) & lay.AT]
        s[(s[lay.G_OUT2] + 2 * to) & lay.AT] = s[(own + 2 * j) & lay.AT] + s[lay.G_NEXT]
        s[(s[lay.G_OUT2] + 2 * to + 1) & lay.AT] = s[(own + 2 * j + 1) & lay.AT] + t
    s[lay.G_OUT_N] += n
