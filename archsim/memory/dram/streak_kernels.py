"""Column commands one after another on one channel, while nothing else can issue there.

Until the earliest tick at which an activated request, an activate, a precharge or a refresh might issue, the next
command is the oldest hit that can issue first. That needs no look at the other candidates, and no separate search for
the tick at which to look again. The state stays that of the general path, which takes over at any tick.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import apply_constraints, row_wake
from archsim.memory.dram.choose_kernels import mode_changes, next_column, soonest_hit
from archsim.memory.dram.controller_kernels import settle
from archsim.memory.dram.issue_kernels import column_done, count_first, record
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def goes_on(s: Array, o: int, m: int) -> bool:
    """Was the last command one of a streak, after which nothing came but hits and what must wait?"""
    clock, d = s[o + lay.H_CLOCK], s[o + lay.H_MODE] & 1
    if s[o + lay.H_STOP] <= clock + 1 or s[o + lay.H_LIST_N + d * lay.D_LISTS] == 0:
        return False
    if mode_changes(s, o) or s[o + lay.H_PRIO_N] > 0 or m & lay.M_ROWHIT:
        return False
    return m & lay.M_SPLIT == 0 or (s[o + lay.H_PENDING] < 0 and s[o + lay.H_CAS] < 0)


@inner
def hits_only(s: Array, o: int, m: int) -> bool:
    """Is a hit all that can issue at the settled channel's next tick?"""
    if s[o + lay.H_DUE_N] != 0 or s[o + lay.H_DUE_COLUMN] != 2:
        return False
    return m & lay.M_SPLIT == 0 or (s[o + lay.H_PENDING] < 0 and s[o + lay.H_CAS] < 0)


@inner
def others(s: Array, o: int, d: int, m: int) -> int:
    """No command but RD or WR of a waiting hit can issue before this tick."""
    stop = min(s[o + lay.H_NEXT_REF], s[o + lay.H_ACTIVE_MIN] | ((m & lay.M_HALF) >> 1))
    return int(min(stop, row_wake(s, o, d, 0, m)))


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

    Returns the tick reached, as `_run` does; -1: settled, the general path goes on.
    """
    d = s[o + lay.H_MODE] & 1
    q = d * lay.D_LISTS
    soonest = s[o + lay.H_CLOCK] + 1
    if soonest == 0:
        soonest = s[o + lay.H_WAKE]
    stop = s[o + lay.H_STOP]
    while True:
        if m & lay.M_SPLIT:
            stop = min(stop, s[o + lay.H_WCK])
        if m & lay.M_EXACT:
            tick = s[o + lay.H_HIT_T]
            if tick < soonest:
                tick = next_column(s, o, d, soonest, m)
            key, b = s[o + lay.H_HIT_KEY], s[o + lay.H_HIT_BANK] & lay.AT
        else:
            tick, key, b = soonest_hit(s, o, d, soonest, m)
        due = max(soonest, min(tick, stop))
        if due > until or tick >= stop or _last_of_mode(s, o, d) or (m & lay.M_TRACE and _trace_full(s)):
            s[o + lay.H_LIST_MIN + q], s[o + lay.H_CLOCK] = tick, -1
            settle(s, o, soonest - 1, m)
            return -1
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
