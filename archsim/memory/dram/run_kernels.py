"""The front end and the order in which channels act.

Requests are offered at a clock; a channel acts at the next tick. Channels do not see each other: each runs up to the
clock of the front end only when a request for it is offered, or until it frees the slot that the front end waits for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.alone_kernels import serve_alone
from archsim.memory.dram.controller_kernels import look, second_half_only, settle
from archsim.memory.dram.deal_kernels import deal
from archsim.memory.dram.enter_kernels import behind, buffered_write, enter
from archsim.memory.dram.fast_kernels import hit_run, hits_until
from archsim.memory.dram.issue_kernels import execute, finish_read
from archsim.memory.dram.recall_kernels import recall
from archsim.memory.dram.streak_kernels import goes_on, hits_only, streak
from archsim.memory.tables.jit_kernels import entry, inner, outlined

Array = NDArray[np.int64]
MORE, DONE, FLUSH, FAILED = 0, 1, 2, 3
CATCH_UP, EMPTY, FINISH = -1, 2, 3  # goals of a channel besides room for a read (0) or a write (1)
NEVER = lay.INF - 1


@inner
def _accept(s: Array, o: int, number: int, location: int, address: int, t: int, before: int, m: int) -> int:
    """Offer one request to channel `o` at clock `t`. Returns -1 if it was taken, else its direction.

    before  no other request is offered until this clock
    """
    b = o + lay.BANK + ((location >> lay.LOC_BANK) & 0x3FF) * lay.BANK_SIZE
    d = (location >> lay.LOC_WRITE) & 1
    if s[o + lay.H_NW] > 0 and buffered_write(s, o, b, address):
        if d == 0:
            s[lay.G_FORWARDED] += 1
            finish_read(s, o, number, t, t + 1, m)
            s[lay.G_OUTSTANDING] += 1
        else:
            s[lay.G_MERGED] += 1
            s[lay.G_END] = max(s[lay.G_END], t + 1 + s[lay.G_WEND])
            s[lay.G_FINISH] = max(s[lay.G_FINISH], t + 1)
        return -1
    if s[o + lay.H_N + d] >= s[lay.G_RCAP + d]:
        return int(d)
    s[lay.G_OUTSTANDING] += 1 - d
    if m & lay.M_PACED and d == 0 and serve_alone(s, o, b, number, location, t, before, m):
        return -1
    enter(s, o, b, d, number, location, address, t, m)
    s[o + lay.H_CLOCK] = t
    return -1


@outlined
def _deliver(s: Array, t: int) -> int:
    """Hand back the reads that are due by `t`; returns the due time of the next one (INF: none is known)."""
    first = lay.INF
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        while s[o + lay.H_FIFO_N] > 0:
            due = s[(s[o + lay.H_FIFO] + (s[o + lay.H_FIFO_HEAD] & s[lay.G_FIFO_MASK])) & lay.AT]
            if due > t:
                first = min(first, due)
                break
            s[o + lay.H_FIFO_N] -= 1
            s[o + lay.H_FIFO_HEAD] += 1
            s[lay.G_OUTSTANDING] -= 1
    return int(first)


@inner
def _set_goal(s: Array, o: int, until: int, what: int) -> None:
    s[lay.G_GOAL_O], s[lay.G_GOAL_T], s[lay.G_GOAL_D] = o, until, what


@outlined
def _limited(s: Array, t: int) -> int:
    """With a limit of outstanding reads: the clock t' >= `t` at which to offer; -1 - t': a channel must act first."""
    while True:
        settled, first, who = True, lay.INF, lay.G_SIZE
        for k in range(s[lay.G_CHANNELS]):
            o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
            if behind(s, o, t):
                _set_goal(s, o, t, CATCH_UP)
                return -1 - t
            if settled and s[o + lay.H_CLOCK] >= 0:
                settled, who = False, o
            if settled and s[o + lay.H_WAKE] < first:
                first, who = s[o + lay.H_WAKE], o
        due = _deliver(s, t)
        if s[lay.G_OUTSTANDING] < s[lay.G_LIMIT]:
            return t
        if due <= t + 1 or (settled and due <= first and due < lay.INF):
            t = due
            continue
        _set_goal(s, who, min(first, NEVER) if settled else t, CATCH_UP)
        return -1 - t


@outlined
def _unsettled(s: Array, t: int) -> int:
    """A channel that has something to do up to tick `t`, or -1."""
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        if s[o + lay.H_CLOCK] >= 0 or s[o + lay.H_WAKE] <= t:
            return int(o)
    return -1


@outlined  # merged, its floating point work would be done for every request
def _paced(gap: float, i: int) -> int:
    """The earliest clock of request `i`."""
    return int(np.ceil(i * gap))


@inner
def _next_offer(s: Array, gap: float, i: int, t: int, times: Array, m: int) -> int:
    """The earliest clock at which request `i` + 1 may be offered, when `i` is offered at `t`."""
    if m & lay.M_PACED == 0:
        return t
    if s[lay.G_LIMIT] == 1:
        return lay.INF
    before = t
    if gap > 0.0:
        before = _paced(gap, i + 1)
    if m & lay.M_TIMED and i + 1 < s[lay.G_CHUNK1]:
        before = max(before, times[(i + 1 - s[lay.G_CHUNK0]) & lay.AT])
    return before


@inner
def _drain(s: Array) -> None:
    """All requests are offered: each channel serves what it holds, then goes on to the last tick of the run."""
    k = s[lay.G_DRAINED]
    n = s[lay.G_CHANNELS]
    if k < n:
        _set_goal(s, lay.G_SIZE + k * s[lay.G_STRIDE], NEVER, EMPTY)
    elif k < 2 * n:
        _set_goal(s, lay.G_SIZE + (k - n) * s[lay.G_STRIDE], s[lay.G_FINISH], FINISH)
    else:
        s[lay.G_GOAL_O] = -2


@inner
def _offer(s: Array, locations: Array, addresses: Array, times: Array, gap: float, t: int, m: int) -> int:
    """Offer requests in order from clock `t` on until a channel must act. Returns the clock and sets the goal.

    G_GOAL_O is -1 when the chunk is used up, -2 when the run has ended.
    """
    used, i, end, first = s[lay.G_USED], s[lay.G_NEXT], s[lay.G_CHUNK1], s[lay.G_CHUNK0]
    while True:
        if i >= end:
            s[lay.G_GOAL_O] = -1
            if s[lay.G_FINAL] != 0:
                _drain(s)
            break
        if used >= s[lay.G_BUDGET]:
            t, used = t + 1, 0
        at = (i - first) & lay.AT
        if m & lay.M_LIMIT:
            clock = _limited(s, t)
            wait = clock < 0
            if wait:
                clock = -1 - clock
            if clock > t:
                t, used = clock, 0
            if wait:
                break
        if m & lay.M_TIMED and t < times[at]:
            t, used = times[at], 0
            continue
        if gap > 0.0 and t < _paced(gap, i):
            t, used = _paced(gap, i), 0
            continue
        location = locations[at]
        o = (lay.G_SIZE + ((location >> lay.LOC_CHANNEL) & 0xFF) * s[lay.G_STRIDE]) & lay.AT
        if behind(s, o, t):
            _set_goal(s, o, t, CATCH_UP)
            break
        refused = _accept(s, o, i, location, addresses[at], t, _next_offer(s, gap, i, t, times, m), m)
        if refused >= 0:
            s[lay.G_BLOCKED] = 1
            _set_goal(s, o, NEVER, refused)
            break
        i += 1
        used += 1
    s[lay.G_NEXT], s[lay.G_USED] = i, used
    return int(t)


@inner
def _reached(s: Array, o: int, what: int) -> bool:
    """Has the channel reached a goal that is not a tick?"""
    if what == EMPTY:
        held = s[o + lay.H_N] + s[o + lay.H_NW] + s[o + lay.H_ACTIVE_N]
        return bool(held == 0 and s[o + lay.H_PENDING] < 0)
    return bool(what >= 0 and what != FINISH and s[o + lay.H_N + what] < s[lay.G_RCAP + what])


@inner
def _run(s: Array, o: int, until: int, what: int, m: int) -> int:
    """Ticks of channel `o` up to `until` or the goal; returns the tick reached, -1 if the trace buffer is full.

    The last tick stays unsettled: requests may still be offered at its clock.
    """
    if what == EMPTY and _reached(s, o, what):
        return 0
    while True:
        if s[o + lay.H_CLOCK] >= 0 and not (m & lay.M_STREAK and goes_on(s, o, m)):
            settle(s, o, s[o + lay.H_CLOCK], m)
            s[o + lay.H_CLOCK] = -1
        if s[o + lay.H_CLOCK] < 0 and s[o + lay.H_WAKE] > until:
            return int(until)
        if m & lay.M_STREAK and (s[o + lay.H_CLOCK] >= 0 or hits_only(s, o, m)):
            t = streak(s, o, until, what, m)
            if t >= 0:
                return t
            if s[o + lay.H_WAKE] > until:
                return int(until)
        t = s[o + lay.H_WAKE]
        if m & lay.M_TRACE and s[lay.G_TRACE_N] + 4 >= s[lay.G_TRACE_CAP]:
            return -1
        if m & lay.M_SPLIT and second_half_only(s, o, m):
            i = s[o + lay.H_PENDING] & lay.AT
            execute(s, o, lay.ACT2, s[i + lay.S_BANK] & lay.AT, i, -1, t, m)
        else:
            look(s, o, t, m)
        s[o + lay.H_CLOCK], s[o + lay.H_STOP] = t, 0
        if t == until or _reached(s, o, what) or s[lay.G_ERROR] != 0:
            return int(t)


@inner
def _advance(s: Array, locations: Array, addresses: Array, times: Array, gap: float, m: int) -> int:
    t = s[lay.G_TIME]
    status = -1
    while status < 0:
        t = _offer(s, locations, addresses, times, gap, t, m)
        o, what = s[lay.G_GOAL_O], s[lay.G_GOAL_D]
        if o < 0:
            status = MORE if o == -1 else DONE
            break
        hits = m & lay.M_DEAL and what < 1 and s[(o & lay.AT) + lay.H_LIST_N] > 0
        if hits and m & lay.M_TIMED == 0 and s[lay.G_NEXT] < s[lay.G_LOOK_AT]:
            number, until = s[lay.G_NEXT], s[lay.G_GOAL_T]
            t = deal(s, t, locations, addresses, m)
            if s[lay.G_GOAL_O] < 0 and s[lay.G_NEXT] > number:
                continue
            if s[lay.G_GOAL_O] < 0:
                _set_goal(s, o, until, what)
            o, what = s[lay.G_GOAL_O], s[lay.G_GOAL_D]
        if m & lay.M_SKIP and m & lay.M_TIMED == 0 and what == 0 and s[lay.G_NEXT] >= s[lay.G_LOOK_AT]:
            behind = _unsettled(s, t)
            if behind >= 0:
                o, what = behind, CATCH_UP
                _set_goal(s, o, t, what)
            else:
                clock = recall(s, t, locations, m)
                if clock > t:
                    t = clock
                    continue
        o &= lay.AT
        if m & lay.M_FAST and m & lay.M_TIMED == 0 and what == 0:
            stop = hits_until(s, o, t, m)
            if stop > 0:
                last = hit_run(s, o, t, stop, locations, addresses, m)
                if last >= 0:
                    t, s[lay.G_USED] = last, 0
                    continue
        reached = _run(s, o, s[lay.G_GOAL_T], what, m)
        if s[lay.G_ERROR] != 0:
            status = FAILED
        elif reached < 0:
            status = FLUSH
        elif reached == NEVER:
            s[lay.G_ERROR] = lay.ERROR_STUCK
            status = FAILED
        elif what >= EMPTY:
            s[lay.G_DRAINED] += 1
        elif what >= 0:
            t, s[lay.G_USED] = reached, 0
    s[lay.G_TIME] = t
    return int(status)


@entry
def advance(s: Array, locations: Array, addresses: Array, times: Array, gap: float) -> int:
    """Run until the chunk is used up (MORE), all is served (DONE), the trace buffer is full (FLUSH) or an error.

    locations, addresses  (n,) packed locations (see layout_kernels) and byte addresses of the chunk's requests
    times                 (n,) earliest clock of each request, used if M_TIMED
    gap                   request i is not offered before clock i * gap
    """
    return _advance(s, locations, addresses, times, gap, s[lay.G_MODE])


@entry
def advance_plain(s: Array, locations: Array, addresses: Array, times: Array, gap: float) -> int:
    """`advance` for one command slot, one rank, open rows, FR-FCFS."""
    return _advance(s, locations, addresses, times, gap, s[lay.G_MODE] & lay.M_ANY)


@entry
def advance_split(s: Array, locations: Array, addresses: Array, times: Array, gap: float) -> int:
    """`advance_plain` for two-command activates and a data clock (LPDDR5)."""
    return _advance(s, locations, addresses, times, gap, (s[lay.G_MODE] & lay.M_ANY) | lay.M_SPLIT)


@entry
def advance_column_row(s: Array, locations: Array, addresses: Array, times: Array, gap: float) -> int:
    """`advance_plain` for a column and a row command per tick, and pseudo channels (HBM2)."""
    return _advance(s, locations, addresses, times, gap, (s[lay.G_MODE] & lay.M_ANY) | lay.M_DUAL | lay.M_DEEP)


@entry
def advance_half_clock(s: Array, locations: Array, addresses: Array, times: Array, gap: float) -> int:
    """`advance_column_row` with ticks of half a clock (HBM3)."""
    special = lay.M_DUAL | lay.M_HALF | lay.M_DEEP
    return _advance(s, locations, addresses, times, gap, (s[lay.G_MODE] & lay.M_ANY) | special)
