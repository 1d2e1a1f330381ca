"""Reads dealt to several channels: the front end and the hits of all channels in one loop.

As long as channels issue nothing but hits, the general path spends most of its time between the front end and the
channels: each takes one request at a time. This loop does what it does, in the same order, and hands over as soon as
a write is offered or a channel needs more than a hit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import apply_constraints, next_hit, unlink, waits_for_hits
from archsim.memory.dram.choose_kernels import soonest_hit
from archsim.memory.dram.enter_kernels import behind, enter, may_forward
from archsim.memory.dram.issue_kernels import count_first, finish_read
from archsim.memory.dram.streak_kernels import others
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def _steady(s: Array, o: int, m: int) -> bool:
    """Is the channel in read mode for sure, with a hit to issue and nothing that goes before the buffers?"""
    if s[o + lay.H_LIST_N] == 0 or s[o + lay.H_PRIO_N] + s[o + lay.H_MODE] > 0 or s[o + lay.H_N] < 2:
        return False
    if m & lay.M_SPLIT and (s[o + lay.H_PENDING] >= 0 or s[o + lay.H_CAS] >= 0):
        return False
    return s[o + lay.H_NW] <= s[lay.G_HI] and (m & lay.M_ROWHIT == 0 or not waits_for_hits(s, o, 0))


@inner
def _hit(s: Array, o: int, until: int, m: int) -> bool:
    """Issue the next hit of a channel if it is due by `until`. False: the general path must look at tick H_WAKE."""
    soonest = s[o + lay.H_CLOCK] + 1
    if soonest == 0:
        soonest = s[o + lay.H_WAKE]
    stop = s[o + lay.H_STOP]
    if stop <= soonest:
        stop = s[o + lay.H_STOP] = others(s, o, 0, m)
    if m & lay.M_SPLIT:
        stop = min(stop, s[o + lay.H_WCK])
    tick, key, b = soonest_hit(s, o, 0, soonest, m)
    s[o + lay.H_LIST_MIN] = tick
    due = max(soonest, min(tick, stop))
    if due > until or tick >= stop:
        s[o + lay.H_CLOCK], s[o + lay.H_WAKE], s[o + lay.H_DUE_N] = -1, due, -1
        return bool(due > until)
    i = (s[o + lay.H_SLOTS] & lay.AT) + (key & lay.SLOT_MASK) * lay.SLOT_SIZE
    count_first(s, o, b, i)
    apply_constraints(s, o, lay.RD, b, tick)
    s[o + lay.H_COUNT + lay.RD] += 1
    if m & lay.M_SPLIT:
        s[o + lay.H_WCK] = max(s[o + lay.H_WCK], tick + s[lay.G_WCK_RD])
    after = s[i + lay.S_NEXT]
    unlink(s, o, b, 0, i)
    next_hit(s, o, b, 0, after)
    s[i + lay.S_NEXT], s[o + lay.H_FREE] = s[o + lay.H_FREE], i
    finish_read(s, o, s[i + lay.S_KEY] >> lay.SLOT_BITS, s[i + lay.S_ARRIVAL], tick + s[lay.G_RLAT], m)
    s[o + lay.H_CLOCK] = tick
    if m & lay.M_EXACT:
        s[o + lay.H_HIT_T] = s[o + lay.H_ACTIVE_AT] = -1
    return True


@outlined
def deal(s: Array, t: int, locations: Array, addresses: Array, m: int) -> int:
    """Offer requests from clock `t` on; returns the clock reached. G_GOAL_*: what a channel must do first.

    G_GOAL_O is -1 if the general front end goes on at that clock.
    """
    first, i, used, end = s[lay.G_CHUNK0], s[lay.G_NEXT], s[lay.G_USED], min(s[lay.G_CHUNK1], s[lay.G_LOOK_AT])
    s[lay.G_GOAL_O] = -1
    while i < end:
        if used >= s[lay.G_BUDGET]:
            t, used = t + 1, 0
        at = (i - first) & lay.AT
        location = locations[at]
        o = (lay.G_SIZE + ((location >> lay.LOC_CHANNEL) & 0xFF) * s[lay.G_STRIDE]) & lay.AT
        if location >> lay.LOC_WRITE or (s[o + lay.H_NW] > 0 and may_forward(s, o, addresses[at])):
            break
        until = t
        while True:
            if not behind(s, o, t):
                if s[o + lay.H_N] < s[lay.G_RCAP]:
                    break
                until = lay.INF - 1
            if not _steady(s, o, m) or not _hit(s, o, until, m):
                s[lay.G_GOAL_O], s[lay.G_GOAL_T], s[lay.G_GOAL_D] = o, until, -1 if until == t else 0
                s[lay.G_NEXT], s[lay.G_USED] = i, used
                return int(t)
            if until > t:
                t, used = s[o + lay.H_CLOCK], 0
        b = (o + lay.BANK + ((location >> lay.LOC_BANK) & 0x3FF) * lay.BANK_SIZE) & lay.AT
        s[lay.G_OUTSTANDING] += 1
        enter(s, o, b, 0, i, location, addresses[at], t, m)
        s[o + lay.H_CLOCK] = t
        i += 1
        used += 1
    s[lay.G_NEXT], s[lay.G_USED] = i, used
    return int(t)
