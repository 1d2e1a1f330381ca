"""Column commands one after another on one channel, while nothing else can issue there.

Until the earliest tick at which an activated request, an activate, a precharge or a refresh might issue, the next
command is the oldest hit that can issue first. That needs no look at the other candidates, and no separate search for
the tick at which to look again. The state stays that of the general path, which takes over at any tick.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import apply_constraints, class_bound, ready_at
from archsim.memory.dram.choose_kernels import mode_changes
from archsim.memory.dram.issue_kernels import column_done, count_first, record
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def streaks(s: Array, o: int, m: int) -> bool:
    """Is the channel in a state in which `streak` helps?"""
    d = s[o + lay.H_MODE] & 1
    if s[o + lay.H_LIST_N + 3 * d] == 0 or s[o + lay.H_PRIO_N] > 0 or mode_changes(s, o):
        return False
    if m & lay.M_SPLIT and (s[o + lay.H_PENDING] >= 0 or s[o + lay.H_CAS] >= 0):
        return False
    return m & lay.M_ROWHIT == 0 or s[o + lay.H_LIST_N + 3 * d + 2] == 0


@inner
def others(s: Array, o: int, d: int, m: int) -> int:
    """No command but RD or WR of a waiting hit can issue before this tick."""
    odd = (m & lay.M_HALF) >> 1
    stop = s[o + lay.H_NEXT_REF]
    if s[o + lay.H_ACTIVE_N] > 0:
        stop = min(stop, s[o + lay.H_ACTIVE_MIN] | odd)
    q = o + lay.H_LIST_N + 3 * d
    if s[q + 1] > 0:
        stop = min(stop, max(s[o + lay.H_LIST_MIN + 3 * d + 1], class_bound(s, o, lay.F_ACT, m)) | odd)
    if s[q + 2] > 0:
        stop = min(stop, max(s[o + lay.H_LIST_MIN + 3 * d + 2], class_bound(s, o, lay.F_PRE, m)))
    return int(stop)


@inner
def _last_of_mode(s: Array, o: int, d: int) -> bool:
    """Might the write mode be evaluated differently once one more request of direction `d` has issued?"""
    n, other = s[o + lay.H_N + d], s[o + lay.H_N + 1 - d]
    return bool(n <= 1 or (d == 1 and n <= s[lay.G_LO] and other > 0))


@inner
def _trace_full(s: Array) -> bool:
    return bool(s[lay.G_TRACE_N] + 4 >= s[lay.G_TRACE_CAP])


@outlined
def streak(s: Array, o: int, until: int, what: int, m: int) -> int:
    """Issue hits up to tick `until`, or until there is room in buffer `what` (0 reads, 1 writes).

    Returns the tick reached, as `_run` does; -1: the general path must look at tick H_WAKE.
    """
    d = s[o + lay.H_MODE] & 1
    odd = (m & lay.M_HALF) >> 1
    q, e, field = 3 * d, o + lay.LISTS + 3 * d * lay.LIST_SIZE, lay.B_LIST + 4 * d + lay.B_HIT
    soonest = s[o + lay.H_CLOCK] + 1
    if soonest == 0:
        soonest = s[o + lay.H_WAKE]
    stop = others(s, o, d, m)
    while True:
        if m & lay.M_SPLIT:
            stop = min(stop, s[o + lay.H_WCK])
        tick, b, key = lay.INF, o, lay.NO_KEY
        for k in range(s[o + lay.H_LIST_N + q]):
            at = (e + 2 * k) & lay.AT
            if s[at + 1] <= tick:
                bank = s[at] & lay.AT
                ready = ready_at(s, bank, d, m)
                s[at + 1] = ready
                ready = max(soonest, ready) | odd
                if ready < tick or (ready == tick and s[bank + field] < key):
                    tick, b, key = ready, bank, s[bank + field]
        due = max(soonest, min(tick, stop))
        if due > until or tick >= stop or _last_of_mode(s, o, d) or (m & lay.M_TRACE and _trace_full(s)):
            s[o + lay.H_LIST_MIN + q], s[o + lay.H_CLOCK], s[o + lay.H_WAKE] = tick, -1, due
            return until if due > until else -1
        i = (s[o + lay.H_SLOTS] & lay.AT) + (key & lay.SLOT_MASK) * lay.SLOT_SIZE
        count_first(s, o, b, i)
        apply_constraints(s, o, lay.RD + d, b, tick)
        record(s, o, lay.RD + d, b, i, tick, m)
        column_done(s, o, b, i, tick, -1, False, m)
        room = what >= 0 and what < 2 and s[o + lay.H_N + what] < s[lay.G_RCAP + what]
        if tick == until or room:
            s[o + lay.H_LIST_MIN + q], s[o + lay.H_CLOCK] = min(tick, s[o + lay.H_LIST_MIN + q]), tick
            return int(tick)
        soonest = tick + 1
