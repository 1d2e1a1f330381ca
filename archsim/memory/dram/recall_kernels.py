"""Serving requests from memory: what followed a state of the engine once follows it again.

Where a stream has a regular stretch, the state is written down from time to time (a node), and what lies between two
such states: the requests, ticks, counts and latencies (an edge). In a known state, with the requests of an edge ahead,
the run moves along the edge; the state itself is put back where the known ground ends. Results are those of the
plain run, bit for bit: states and requests are compared, not only their hashes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.edge_kernels import (
    begin_edge,
    end_edge,
    flip_of,
    refresh_due,
    repeat_commands,
    repeat_output,
    waiting_writes,
)
from archsim.memory.dram.regular_kernels import PLACE, find_run, row_of
from archsim.memory.dram.snapshot_kernels import read_state, write_state
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
_FIRST_PAUSE, _COSTLY_PAUSE, _LONGEST_PAUSE, _MOST_CREDIT = 64, 1 << 11, 1 << 14, 256


@inner
def _price(words: int) -> int:
    """Of a new node, in credit: about a sixteenth of the requests that could be served in the time it takes."""
    return 3 + (words >> 7)


@outlined
def _node(s: Array, start: int, end: int) -> int:
    """The node whose words are those from `start` to `end`, just written above the pool; a new one if there is none."""
    h = 0
    for k in range(start, end):
        word = s[k & lay.AT]
        h = ((h ^ word ^ (word >> 29)) & 0x7FFFFFFF) * 0x2C1B3C6D
        h ^= h >> 31
    bucket = (s[lay.G_BUCKETS] + (h & (lay.BUCKETS - 1))) & lay.AT
    node = s[bucket]
    while node > 0:
        node &= lay.AT
        if s[node + lay.N_HASH] == h and s[node + lay.N_WORDS] == end - start:
            k = 0
            while k < end - start and s[node + lay.NODE_HEAD + k] == s[(start + k) & lay.AT]:
                k += 1
            if k == end - start:
                return int(node)
        node = s[node + lay.N_NEXT]
    node = (start - lay.NODE_HEAD) & lay.AT
    s[node + lay.N_HASH], s[node + lay.N_WORDS], s[node + lay.N_EDGE] = h, end - start, 0
    s[node + lay.N_NEXT], s[bucket] = s[bucket], node
    s[lay.G_TOP] = end
    s[lay.G_CREDIT] -= _price(end - start)
    return int(node)


@outlined
def _here(s: Array, t: int, location: int) -> int:
    """The node of the present state, 0: it cannot be written down."""
    start = s[lay.G_TOP] + lay.NODE_HEAD
    end = write_state(s, t, row_of(location), flip_of(s, location), start)
    return int(_node(s, start, end)) if end >= 0 else 0


@inner
def _same(s: Array, at: int, n: int, locations: Array, first: int, flip: int, by: int) -> bool:
    """Are the `n` requests from `first` on those written down from word `at` on? (Without branches, for vectors.)"""
    own, ahead = s[at : at + n], locations[first : first + n]
    differ = 0
    for j in range(n):
        differ |= (((ahead[j] & PLACE) ^ flip) - by) ^ own[j]
    return bool(differ == 0)


@outlined
def _collides(s: Array, edge: int, flip: int, row: int) -> bool:
    """Does a write wait in a row that the edge reads? (It might be forwarded.)"""
    places, n = edge + lay.EDGE_HEAD + lay.NUMBERS * s[lay.G_CHANNELS], s[edge + lay.E_REQUESTS] + 1
    low, high = s[edge + lay.E_LOW] + row, s[edge + lay.E_HIGH] + row
    for c in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + c * s[lay.G_STRIDE]) & lay.AT
        if s[o + lay.H_NW] == 0:
            continue
        for k in range(s[lay.G_BANKS]):
            i = s[((o + lay.BANK + lay.BANK_SIZE * k) & lay.AT) + lay.B_LIST + 4 + lay.B_HEAD]
            while i >= 0:
                i &= lay.AT
                own = s[i + lay.S_ROW]
                if low <= own <= high:
                    place = (c << lay.LOC_CHANNEL | (k ^ flip) << lay.LOC_BANK) + ((own - row) << lay.LOC_ROW)
                    for j in range(n):
                        if s[(places + j) & lay.AT] == place:
                            return True
                i = s[i + lay.S_NEXT]
    return False


@outlined
def _edge(s: Array, node: int, t: int, locations: Array, writes: int) -> int:
    """The edge from `node` that fits the requests ahead, 0: none."""
    first = s[lay.G_NEXT] - s[lay.G_CHUNK0]
    location, left, due = locations[first & lay.AT], s[lay.G_CHUNK1] - s[lay.G_NEXT], refresh_due(s)
    flip, row = flip_of(s, location), row_of(location)
    e = s[node + lay.N_EDGE] if due >= 0 and writes >= 0 else 0
    while e > 0:
        e &= lay.AT
        n, distance = s[e + lay.E_REQUESTS], s[e + lay.E_REFRESH]
        if n < left and (distance == due - t if distance > 0 else due - t > s[e + lay.E_TICKS]):
            at = (e + lay.EDGE_HEAD + lay.NUMBERS * s[lay.G_CHANNELS]) & lay.AT
            if _same(s, at, n + 1, locations, first & lay.AT, flip << lay.LOC_BANK, row << lay.LOC_ROW):
                if writes == 0 or (s[e + lay.E_READS_ONLY] != 0 and not _collides(s, e, flip, row)):
                    return int(e)
        e = s[e + lay.E_NEXT]
    return 0


@outlined
def _travel(s: Array, node: int, t: int, locations: Array) -> int:
    """Move along edges as far as they fit, from `node` at clock `t`. Returns the clock; the node is put in G_FROM."""
    writes = waiting_writes(s)
    while True:
        e = _edge(s, node, t, locations, writes)
        if e == 0:
            break
        e &= lay.AT
        if s[lay.G_MODE] & lay.M_TRACE:
            if s[lay.G_TRACE_N] + s[e + lay.E_COMMANDS] + 4 >= s[lay.G_TRACE_CAP]:
                break
            repeat_commands(s, e, t, flip_of(s, locations[(s[lay.G_NEXT] - s[lay.G_CHUNK0]) & lay.AT]))
        if s[lay.G_MODE] & lay.M_RECORD:
            repeat_output(s, e, t)
        s[e + lay.E_TIMES] += 1
        t += s[e + lay.E_TICKS]
        s[lay.G_NEXT] += s[e + lay.E_REQUESTS]
        s[lay.G_END] = max(s[lay.G_END], t + s[e + lay.E_END])
        s[lay.G_FINISH] = max(s[lay.G_FINISH], t + s[e + lay.E_FINISH])
        s[lay.G_OUTSTANDING] += s[e + lay.E_OUTSTANDING]
        if s[e + lay.E_REFRESH] > 0:
            for k in range(s[lay.G_CHANNELS]):
                s[lay.G_SIZE + k * s[lay.G_STRIDE] + lay.H_NEXT_REF] += s[e + lay.E_REFRESHES]
        node = s[e + lay.E_NODE] & lay.AT
    s[lay.G_FROM] = node
    return t


@outlined
def _arrive(s: Array, node: int, before: int, t: int, location: int, m: int) -> None:
    """Put the state of `node` in place at clock `t`; the last state in place was that of clock `before`."""
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        for j in range(8):
            if s[o + lay.H_OPEN + j] > 0:
                s[o + lay.H_BUSY + j] += before - s[o + lay.H_SINCE + j]
    read_state(s, t, row_of(location), flip_of(s, location), node + lay.NODE_HEAD, m)


@outlined
def _pause(s: Array) -> None:
    """Nothing was found for a while: look again later, each time later."""
    s[lay.G_FROM], s[lay.G_CREDIT] = 0, max(s[lay.G_CREDIT], 2 * _price(s[lay.G_STATE_WORDS]))
    s[lay.G_LOOK_AT] = s[lay.G_NEXT] + s[lay.G_PAUSE]
    s[lay.G_PAUSE] = min(_LONGEST_PAUSE, 2 * s[lay.G_PAUSE])


@outlined
def _aim(s: Array, t: int, locations: Array) -> None:
    """Where the edge that begins here shall end: sooner before a refresh, so that few distances to it occur."""
    number, end = s[lay.G_NEXT], s[lay.G_RUN_END]
    step = s[lay.G_STEP]
    if refresh_due(s) - t <= s[lay.G_STEP_TICKS]:
        step = s[lay.G_SHORT_STEP]
    target = number - (number - s[lay.G_RUN_START]) % s[lay.G_PERIOD] + step
    if target > end:
        target = end
        if end >= s[lay.G_CHUNK1] or locations[(end - s[lay.G_CHUNK0]) & lay.AT] >> lay.LOC_WRITE:
            target = max(end - 1, number + 1)
    s[lay.G_LOOK_AT] = target


@inner
def _ready(s: Array, number: int, locations: Array) -> bool:
    """Is this a place to write the state down? If not, G_LOOK_AT is set to the next one."""
    end = s[lay.G_CHUNK1]
    if number + 2 > end or s[lay.G_TOP] + s[lay.G_STATE_WORDS] > s[lay.G_POOL_END]:
        s[lay.G_FROM], s[lay.G_LOOK_AT] = 0, end
        return False
    if s[lay.G_CREDIT] <= 0:
        s[lay.G_PAUSE] = max(s[lay.G_PAUSE], _COSTLY_PAUSE)
        _pause(s)
        return False
    if (number < s[lay.G_RUN_START] or number > s[lay.G_RUN_END]) and not find_run(s, locations, number):
        _pause(s)
        return False
    if s[lay.G_RUN_START] > number:
        s[lay.G_FROM], s[lay.G_LOOK_AT] = 0, s[lay.G_RUN_START]
        return False
    return True


@outlined
def recall(s: Array, t: int, locations: Array, m: int) -> int:
    """Called when the front end waits at clock `t`, all channels settled, from request G_LOOK_AT on: the new clock."""
    number = s[lay.G_NEXT]
    if not _ready(s, number, locations):
        return t
    node = _here(s, t, locations[(number - s[lay.G_CHUNK0]) & lay.AT])
    if node == 0:
        s[lay.G_LOOK_AT] = number + s[lay.G_PERIOD]
        return t
    if s[lay.G_FROM] > 0:
        end_edge(s, t, node, locations)
    clock = _travel(s, node, t, locations)
    if s[lay.G_NEXT] > number:
        node, s[lay.G_USED], s[lay.G_PAUSE] = s[lay.G_FROM], 0, _FIRST_PAUSE
        _arrive(s, node, t, clock, locations[(s[lay.G_NEXT] - s[lay.G_CHUNK0]) & lay.AT], m)
        s[lay.G_CREDIT] = min(_MOST_CREDIT, s[lay.G_CREDIT] + (s[lay.G_NEXT] - number) // 16)
    if s[lay.G_RUN_END] - s[lay.G_NEXT] < s[lay.G_STEP] and not find_run(s, locations, s[lay.G_NEXT]):
        _pause(s)
        return clock
    begin_edge(s, node, clock)
    if s[lay.G_RUN_START] > s[lay.G_NEXT]:
        s[lay.G_LOOK_AT] = s[lay.G_RUN_START]
    else:
        _aim(s, clock, locations)
    return clock
