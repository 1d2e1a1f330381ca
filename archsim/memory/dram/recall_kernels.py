"""Serving requests from memory: what followed a state of the engine once follows it again.

Where a stream has a regular stretch, the state is written down from time to time (a node), and what lies between two
such states: the requests, ticks, counts and latencies (an edge). In a known state, with the requests of an edge ahead,
the run moves along the edge; the state itself is put back where the known ground ends. Results are those of the
plain run, bit for bit: states and requests are compared, not only their hashes.

An edge holds no write and no command for one. It fits while writes wait if the channels stay in read mode and no
read asks for the row of a waiting write. All-bank refresh is not part of a state: an edge either ends before the
next one, or holds it at the distance at which it came.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.regular_kernels import PLACE, find_run, row_of
from archsim.memory.dram.snapshot_kernels import read_state, write_state
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
_LONGEST_EDGE, _FIRST_PAUSE, _COSTLY_PAUSE, _LONGEST_PAUSE, _MOST_CREDIT = 1024, 64, 1 << 11, 1 << 14, 256


@inner
def _flip_of(s: Array, location: int) -> int:
    """The part of a request's bank number in which banks are alike: states that differ in it only are one node."""
    return int((location >> lay.LOC_BANK) & s[lay.G_FLIP_MASK])


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
    end = write_state(s, t, row_of(location), _flip_of(s, location), start)
    return int(_node(s, start, end)) if end >= 0 else 0


@inner
def _due(s: Array) -> int:
    """The tick of the next all-bank refresh, INF where there is none, -1 if channels differ."""
    if s[lay.G_REF_MODE] != lay.REF_ALL:
        return lay.INF
    due = s[lay.G_SIZE + lay.H_NEXT_REF]
    for k in range(1, s[lay.G_CHANNELS]):
        if s[lay.G_SIZE + k * s[lay.G_STRIDE] + lay.H_NEXT_REF] != due:
            return -1
    return int(due)


@inner
def _waiting_writes(s: Array) -> int:
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
def _begin(s: Array, node: int, t: int) -> None:
    """Begin an edge at `node`."""
    s[lay.G_FROM], s[lay.G_FROM_T], s[lay.G_FROM_N], s[lay.G_FROM_OUT] = node, t, s[lay.G_NEXT], s[lay.G_OUT_N]
    s[lay.G_FROM_END], s[lay.G_FROM_FINISH] = s[lay.G_END], s[lay.G_FINISH]
    s[lay.G_FROM_OUTSTANDING], s[lay.G_FROM_CHUNK] = s[lay.G_OUTSTANDING], s[lay.G_CHUNK0]
    s[lay.G_FROM_REF], s[lay.G_FROM_MERGED] = _due(s), s[lay.G_FORWARDED] + s[lay.G_MERGED]
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
    due, only = _due(s), 1
    if due < 0 or s[lay.G_FROM_REF] < 0 or _waiting_writes(s) < 0:
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
def _end(s: Array, t: int, node: int, locations: Array) -> None:
    """End the edge that was begun last at `node`."""
    origin, number, s[lay.G_FROM] = s[lay.G_FROM] & lay.AT, s[lay.G_FROM_N], 0
    n, first = s[lay.G_NEXT] - number, number - s[lay.G_CHUNK0]
    if s[lay.G_FROM_CHUNK] != s[lay.G_CHUNK0] or n < 1 or n > _LONGEST_EDGE or s[lay.G_EDGES_N] >= lay.MAX_EDGES:
        return
    edge = s[lay.G_TOP] & lay.AT
    places = edge + lay.EDGE_HEAD + lay.NUMBERS * s[lay.G_CHANNELS]
    outputs = s[lay.G_OUT_N] - s[lay.G_FROM_OUT]
    end, latency = places + n + 1, s[lay.G_LATENCIES] + s[lay.G_LATENCIES_N]
    if end + 2 * outputs > s[lay.G_POOL_END] or s[lay.G_LATENCIES_N] + outputs > lay.MAX_LATENCIES:
        return
    if not _complete(s, t, edge) or _known(s, origin, edge, node):
        return
    flip, row, low, high = _flip_of(s, locations[first & lay.AT]), row_of(locations[first & lay.AT]), lay.INF, -lay.INF
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
    location, left, due = locations[first & lay.AT], s[lay.G_CHUNK1] - s[lay.G_NEXT], _due(s)
    flip, row = _flip_of(s, location), row_of(location)
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
def _output(s: Array, e: int, t: int) -> None:
    """Each request of an edge that begins at clock `t`: its latency, and when it ended."""
    n = s[e + lay.E_OUTPUTS]
    own = e + lay.EDGE_HEAD + lay.NUMBERS * s[lay.G_CHANNELS] + s[e + lay.E_REQUESTS] + 1
    for j in range(n):
        to = s[lay.G_OUT_N] + j
        s[(s[lay.G_OUT] + to) & lay.AT] = s[(s[e + lay.E_LATENCIES] + j) & lay.AT]
        s[(s[lay.G_OUT2] + 2 * to) & lay.AT] = s[(own + 2 * j) & lay.AT] + s[lay.G_NEXT]
        s[(s[lay.G_OUT2] + 2 * to + 1) & lay.AT] = s[(own + 2 * j + 1) & lay.AT] + t
    s[lay.G_OUT_N] += n


@outlined
def _travel(s: Array, node: int, t: int, locations: Array) -> int:
    """Move along edges as far as they fit, from `node` at clock `t`. Returns the clock; the node is put in G_FROM."""
    writes = _waiting_writes(s)
    while True:
        e = _edge(s, node, t, locations, writes)
        if e == 0:
            break
        e &= lay.AT
        if s[lay.G_MODE] & lay.M_RECORD:
            _output(s, e, t)
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
    read_state(s, t, row_of(location), _flip_of(s, location), node + lay.NODE_HEAD, m)


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
    if _due(s) - t <= s[lay.G_STEP_TICKS]:
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
        _end(s, t, node, locations)
    clock = _travel(s, node, t, locations)
    if s[lay.G_NEXT] > number:
        node, s[lay.G_USED], s[lay.G_PAUSE] = s[lay.G_FROM], 0, _FIRST_PAUSE
        _arrive(s, node, t, clock, locations[(s[lay.G_NEXT] - s[lay.G_CHUNK0]) & lay.AT], m)
        s[lay.G_CREDIT] = min(_MOST_CREDIT, s[lay.G_CREDIT] + (s[lay.G_NEXT] - number) // 16)
    if s[lay.G_RUN_END] - s[lay.G_NEXT] < s[lay.G_STEP] and not find_run(s, locations, s[lay.G_NEXT]):
        _pause(s)
        return clock
    _begin(s, node, clock)
    if s[lay.G_RUN_START] > s[lay.G_NEXT]:
        s[lay.G_LOOK_AT] = s[lay.G_RUN_START]
    else:
        _aim(s, clock, locations)
    return clock
