"""Issuing commands: their effect on constraints, bank states, buffers, statistics and the trace."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory import layout_kernels as L
from archsim.memory.jit_kernels import inner, outlined
from archsim.memory.bank_kernels import (
    apply_constraints,
    next_hit,
    ready_at,
    set_row,
    unlink,
)

Array = NDArray[np.int64]


@inner
def record(s: Array, o: int, command: int, b: int, i: int, t: int) -> None:
    """Count the command and, if asked for, append it to the trace. `i`: request slot or -1."""
    s[o + L.H_COUNT + command] += 1
    if s[L.G_TRACE] != 0:
        e = (s[L.G_TRACE_AT] + L.TRACE_SIZE * s[L.G_TRACE_N]) & L.AT
        s[L.G_TRACE_N] += 1
        s[e] = t
        s[e + 1] = command
        s[e + 2] = (s[o + L.H_NUMBER] << 32) | ((b - o - L.BANK) // L.BANK_SIZE)
        s[e + 3] = -1
        s[e + 4] = -1
        s[e + 5] = -1
        if i >= 0:
            s[e + 3] = s[i + L.S_ROW]
            s[e + 4] = s[i + L.S_KIND] >> 8
            s[e + 5] = s[i + L.S_KIND] & 1


@inner
def count_first(s: Array, o: int, b: int, i: int) -> None:
    """Row hit, miss or conflict: the state of the bank when the first command of a request issues."""
    kind = s[i + L.S_KIND]
    if kind & 2:
        return
    s[i + L.S_KIND] = kind | 2
    row = s[b + L.B_ROW]
    if row < 0:
        s[o + L.H_MISSES] += 1
    elif row == s[i + L.S_ROW]:
        s[o + L.H_HITS] += 1
    else:
        s[o + L.H_CONFLICTS] += 1


@inner
def finish_read(s: Array, o: int, i: int, arrival: int, due: int) -> None:
    """A read's data is (or will be) back at `due`: latency output, completion FIFO, end of the run."""
    n = s[L.G_OUT_N]
    s[L.G_OUT_N] = n + 1
    s[(s[L.G_OUT] + n) & L.AT] = due - arrival
    if s[L.G_RECORD] != 0:
        s[s[L.G_OUT2] + 2 * n] = i
        s[s[L.G_OUT2] + 2 * n + 1] = due
    s[L.G_END] = max(s[L.G_END], due)
    s[L.G_FINISH] = max(s[L.G_FINISH], due)
    if s[L.G_LIMIT] > 0:
        n = s[o + L.H_FIFO_N]
        s[(s[o + L.H_FIFO] + ((s[o + L.H_FIFO_HEAD] + n) & s[L.G_FIFO_MASK])) & L.AT] = due
        s[o + L.H_FIFO_N] = n + 1


@inner
def _finish_write(s: Array, i: int, arrival: int, t: int) -> None:
    end = t + s[L.G_WEND]
    s[L.G_END] = max(s[L.G_END], end)
    s[L.G_FINISH] = max(s[L.G_FINISH], t)
    n = s[L.G_OUT_N]
    s[L.G_OUT_N] = n + 1
    s[(s[L.G_OUT] + n) & L.AT] = arrival - end  # negative: a write
    if s[L.G_RECORD] != 0:
        s[s[L.G_OUT2] + 2 * n] = i
        s[s[L.G_OUT2] + 2 * n + 1] = end


@inner
def free_slot(s: Array, o: int, i: int) -> None:
    """Back onto the free list."""
    s[i + L.S_NEXT] = s[o + L.H_FREE]
    s[o + L.H_FREE] = i


@inner
def column(s: Array, o: int, i: int, t: int, active: int, may_close: bool) -> None:
    """RD or WR of slot `i` (position `active` in the active list, or -1: from its buffer), auto-precharge as decided."""
    b = s[i + L.S_BANK] & L.AT
    d = s[i + L.S_KIND] & 1
    count_first(s, o, b, i)
    close = may_close and _auto_precharge(s, b, active)
    command = L.RD + d
    if close:
        command += 2
    apply_constraints(s, o, command, b, t)
    record(s, o, command, b, i, t)
    if s[L.G_SPLIT] != 0:
        s[o + L.H_WCK] = max(s[o + L.H_WCK], t + s[L.G_WCK_RD + d])
    if active >= 0:
        remove_active(s, o, b, active)
    else:
        after = s[i + L.S_NEXT]
        unlink(s, o, b, d, i)
        if not close:
            next_hit(s, o, b, d, after)
        if s[L.G_ROWHIT] != 0 and s[o + L.H_LIST_N + 3 * d + 2] > 0:
            s[o + L.H_LIST_MIN + 3 * d + 2] = 0
    arrival, number = s[i + L.S_ARRIVAL], s[i + L.S_KEY] >> L.SLOT_BITS
    free_slot(s, o, i)
    if d == 0:
        finish_read(s, o, number, arrival, t + s[L.G_RLAT])
    else:
        _finish_write(s, number, arrival, t)
    s[L.G_REMAINING] -= 1
    if close:
        set_row(s, o, b, L.CLOSED)
        if s[o + L.H_ACTIVE_N] > 0:
            s[o + L.H_ACTIVE_MIN] = 0
    else:
        s[b + L.B_ACC] += 1
        if s[b + L.B_ACC] == s[L.G_CLOSED]:
            s[o + L.H_POLICY_N] += 1
            s[o + L.H_POLICY_WAKE] = 0


@inner
def _auto_precharge(s: Array, b: int, active: int) -> bool:
    if s[L.G_CLOSED] == 0 or s[b + L.B_ACC] < s[L.G_CLOSED]:
        return False
    others = s[b + L.B_ACTIVE]
    if active >= 0:
        others -= 1
    return s[L.G_COMPAT] != 0 or others == 0


@inner
def remove_active(s: Array, o: int, b: int, at: int) -> None:
    """Remove entry `at`; a bank without active requests may be precharged again."""
    n = s[o + L.H_ACTIVE_N] - 1
    a = s[o + L.H_ACTIVE] & L.AT
    for k in range(at, n):
        to = (a + 2 * k) & L.AT
        s[to] = s[to + 2]
        s[to + 1] = s[to + 3]
    s[o + L.H_ACTIVE_N] = n
    s[b + L.B_ACTIVE] -= 1
    s[o + L.H_GUARD + (s[b + L.B_N1] & L.AT)] -= 1
    if n == 0:
        s[o + L.H_ACTIVE_MIN] = L.INF
    if n == 0 and s[L.G_CLOSED] > 0:
        s[o + L.H_LIST_MIN + 2] = 0
        s[o + L.H_LIST_MIN + 5] = 0
    elif s[b + L.B_ACTIVE] == 0:
        ready = ready_at(s, b, L.F_PRE)
        for q in (2, 5):
            if s[b + L.B_POS + q] >= 0 and ready < s[o + L.H_LIST_MIN + q]:
                s[o + L.H_LIST_MIN + q] = ready


@inner
def add_active(s: Array, o: int, b: int, i: int) -> None:
    """Append slot `i`, whose row now opens, to the active list."""
    n = s[o + L.H_ACTIVE_N]
    ready = ready_at(s, b, s[i + L.S_KIND] & 1)
    e = (s[o + L.H_ACTIVE] + 2 * n) & L.AT
    s[e] = i
    s[e + 1] = ready
    s[o + L.H_ACTIVE_N] = n + 1
    s[o + L.H_ACTIVE_MIN] = min(s[o + L.H_ACTIVE_MIN], ready)
    s[b + L.B_ACTIVE] += 1
    s[o + L.H_GUARD + (s[b + L.B_N1] & L.AT)] += 1


@inner
def activate(s: Array, o: int, i: int, t: int, active: int) -> None:
    """ACT (or ACT1) for slot `i`, from its buffer or (`active` >= 0) from the active list."""
    b = s[i + L.S_BANK] & L.AT
    count_first(s, o, b, i)
    apply_constraints(s, o, L.ACT, b, t)
    record(s, o, L.ACT, b, i, t)
    if active < 0:
        unlink(s, o, b, s[i + L.S_KIND] & 1, i)
    else:  # the old copy leaves without giving back its count, as the reference controller does
        n = s[o + L.H_ACTIVE_N] - 1
        a = s[o + L.H_ACTIVE]
        for k in range(active, n):
            s[a + 2 * k] = s[a + 2 * k + 2]
            s[a + 2 * k + 1] = s[a + 2 * k + 3]
        s[o + L.H_ACTIVE_N] = n
        if s[L.G_COMPAT] == 0:
            s[b + L.B_ACTIVE] -= 1
            s[o + L.H_GUARD + (s[b + L.B_N1] & L.AT)] -= 1
    if s[L.G_SPLIT] != 0:
        s[o + L.H_PENDING] = i
        s[o + L.H_PEND_DEADLINE] = t + s[L.G_DEADLINE]
        set_row(s, o, b, L.OPENING)
    else:
        set_row(s, o, b, s[i + L.S_ROW])
        add_active(s, o, b, i)
    if s[L.G_CLOSED] > 0 and s[o + L.H_ACTIVE_N] > 0:
        s[o + L.H_ACTIVE_MIN] = 0


@outlined
def activate_second(s: Array, o: int, t: int) -> None:
    """ACT2 of the pending activation."""
    i = s[o + L.H_PENDING] & L.AT
    b = s[i + L.S_BANK] & L.AT
    record(s, o, L.ACT2, b, i, t)
    s[o + L.H_PENDING] = -1
    set_row(s, o, b, s[i + L.S_ROW])
    add_active(s, o, b, i)
    if s[L.G_CLOSED] > 0 and s[o + L.H_ACTIVE_N] > 0:
        s[o + L.H_ACTIVE_MIN] = 0


@inner
def precharge(s: Array, o: int, b: int, i: int, t: int) -> None:
    """PRE to bank `b` for slot `i` (or -1)."""
    if i >= 0:
        count_first(s, o, b, i)
    apply_constraints(s, o, L.PRE, b, t)
    record(s, o, L.PRE, b, i, t)
    set_row(s, o, b, L.CLOSED)
    if s[L.G_CLOSED] > 0 and s[o + L.H_ACTIVE_N] > 0:
        s[o + L.H_ACTIVE_MIN] = 0


@outlined
def precharge_all(s: Array, o: int, b: int, t: int) -> None:
    """PREA to the rank / pseudo channel whose first bank is `b`."""
    apply_constraints(s, o, L.PREA, b, t)
    record(s, o, L.PREA, b, -1, t)
    for k in range(s[L.G_BANKS_PER_1]):
        x = b + L.BANK_SIZE * k
        if s[x + L.B_ROW] != L.CLOSED or s[x + L.B_ACC] > 0 or s[x + L.B_QUEUED] > 0:
            set_row(s, o, x, L.CLOSED)
    if s[L.G_CLOSED] > 0 and s[o + L.H_ACTIVE_N] > 0:
        s[o + L.H_ACTIVE_MIN] = 0


@outlined
def refresh(s: Array, o: int, command: int, b: int, t: int) -> None:
    """REFab to the scope of bank `b`, or REFpb to it."""
    apply_constraints(s, o, command, b, t)
    record(s, o, command, b, -1, t)
