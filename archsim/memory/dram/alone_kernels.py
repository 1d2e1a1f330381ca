"""A read that has its channel to itself, as in pointer chasing: its commands follow from the state of its bank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import apply_constraints, ready_at, set_row
from archsim.memory.dram.issue_kernels import finish_read
from archsim.memory.tables.jit_kernels import outlined

Array = NDArray[np.int64]


@outlined
def serve_alone(s: Array, o: int, b: int, number: int, location: int, t: int, before: int, m: int) -> bool:
    """Serve the read `number`, offered at clock `t`, at once; False: it is not surely alone until it is served.

    before  no other request is offered until this clock
    """
    if s[o + lay.H_N] + s[o + lay.H_NW] + s[o + lay.H_ACTIVE_N] + s[o + lay.H_PRIO_N] > 0 or s[lay.G_LO] < 1:
        return False
    if s[o + lay.H_PENDING] >= 0 or s[o + lay.H_CAS] >= 0:
        return False
    row, found = (location >> lay.LOC_ROW) & 0xFFFFFFFF, s[b + lay.B_ROW]
    odd, tick = (m & lay.M_HALF) >> 1, t + 1
    limit = max(tick, ready_at(s, b, lay.F_RD, m))
    if found != row:
        activate = max(tick, ready_at(s, b, lay.F_ACT, m))
        if found >= 0:
            tick = max(tick, ready_at(s, b, lay.F_PRE, m))
            if odd and tick == s[o + lay.H_PAIR_END]:
                return False
            activate = max(activate, tick + s[lay.G_PRE_ACT])
        limit = max(limit, activate + 2 + s[lay.G_ACT_RD])
    if limit + 3 >= min(s[o + lay.H_NEXT_REF], before):
        return False
    if found == row:
        s[o + lay.H_HITS] += 1
    else:
        tick = _open(s, o, b, row, tick, m)
    tick = max(tick, ready_at(s, b, lay.F_RD, m)) | odd
    if m & lay.M_SPLIT:
        if tick >= s[o + lay.H_WCK]:
            s[o + lay.H_COUNT + lay.CAS_RD] += 1
            tick += 1
        s[o + lay.H_WCK] = max(s[o + lay.H_WCK], tick + s[lay.G_WCK_RD])
    apply_constraints(s, o, lay.RD, b, tick)
    s[o + lay.H_COUNT + lay.RD] += 1
    finish_read(s, o, number, t, tick + s[lay.G_RLAT], m)
    s[o + lay.H_MODE] = 1  # as after every tick without a waiting read
    return True


@outlined
def _open(s: Array, o: int, b: int, row: int, tick: int, m: int) -> int:
    """Precharge at `tick` if a row is open, then activate; returns the first tick for a column command."""
    odd = (m & lay.M_HALF) >> 1
    if s[b + lay.B_ROW] >= 0:
        s[o + lay.H_CONFLICTS] += 1
        apply_constraints(s, o, lay.PRE, b, tick)
        s[o + lay.H_COUNT + lay.PRE] += 1
        set_row(s, o, b, lay.CLOSED, tick, m)
        tick += 1
    else:
        s[o + lay.H_MISSES] += 1
    tick = max(tick, ready_at(s, b, lay.F_ACT, m)) | odd
    apply_constraints(s, o, lay.ACT, b, tick)
    s[o + lay.H_COUNT + lay.ACT] += 1
    set_row(s, o, b, row, tick, m)
    if odd:
        s[o + lay.H_PAIR_CMD] = lay.ACT
        s[o + lay.H_PAIR_BANK] = b
        s[o + lay.H_PAIR_END] = tick + s[lay.G_ACT_CYCLES]
    if m & lay.M_SPLIT:  # the second half of the activate takes the next tick
        s[o + lay.H_COUNT + lay.ACT2] += 1
        tick += 1
    return int(tick + 1)
