"""Issuing commands: their effect on constraints, bank states, buffers, statistics and the trace."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import (
    apply_constraints,
    list_of,
    next_hit,
    ready_at,
    set_row,
    unlink,
)
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def record(s: Array, o: int, command: int, b: int, i: int, t: int, m: int) -> None:
    """Count the command and, if asked for, append it to the trace. `i`: request slot or -1."""
    s[o + lay.H_COUNT + command] += 1
    if m & lay.M_TRACE:
        e = (s[lay.G_TRACE_AT] + lay.TRACE_SIZE * s[lay.G_TRACE_N]) & lay.AT
        s[lay.G_TRACE_N] += 1
        s[e] = t
        s[e + 1] = command
        s[e + 2] = (s[o + lay.H_NUMBER] << 32) | ((b - o - lay.BANK) // lay.BANK_SIZE)
        s[e + 3] = -1
        s[e + 4] = -1
        s[e + 5] = -1
        s[e + 6] = t
        if i >= 0:
            s[e + 3] = s[i + lay.S_ROW]
            s[e + 4] = s[i + lay.S_KIND] >> 8
            s[e + 5] = s[i + lay.S_KIND] & 1
            s[e + 6] = s[i + lay.S_ARRIVAL]


@inner
def count_first(s: Array, o: int, b: int, i: int) -> None:
    """Row hit, miss or conflict: the state of the bank when the first command of a request issues."""
    kind = s[i + lay.S_KIND]
    if kind & 2:
        return
    s[i + lay.S_KIND] = kind | 2
    row = s[b + lay.B_ROW]
    if row < 0:
        s[o + lay.H_MISSES] += 1
    elif row == s[i + lay.S_ROW]:
        s[o + lay.H_HITS] += 1
    else:
        s[o + lay.H_CONFLICTS] += 1


@inner
def finish_read(s: Array, o: int, i: int, arrival: int, due: int, m: int) -> None:
    """A read's data is (or will be) back at `due`: latency output, completion FIFO, end of the run."""
    n = s[lay.G_OUT_N]
    s[lay.G_OUT_N] = n + 1
    s[(s[lay.G_OUT] + n) & lay.AT] = due - arrival
    if m & lay.M_RECORD:
        e = (s[lay.G_OUT2] + 2 * n) & lay.AT
        s[e] = i
        s[e + 1] = due
    s[lay.G_END] = max(s[lay.G_END], due)
    s[lay.G_FINISH] = max(s[lay.G_FINISH], due)
    if m & lay.M_LIMIT:
        n = s[o + lay.H_FIFO_N]
        s[(s[o + lay.H_FIFO] + ((s[o + lay.H_FIFO_HEAD] + n) & s[lay.G_FIFO_MASK])) & lay.AT] = due
        s[o + lay.H_FIFO_N] = n + 1


@inner
def _finish_write(s: Array, i: int, arrival: int, t: int, m: int) -> None:
    end = t + s[lay.G_WEND]
    s[lay.G_END] = max(s[lay.G_END], end)
    s[lay.G_FINISH] = max(s[lay.G_FINISH], t)
    n = s[lay.G_OUT_N]
    s[lay.G_OUT_N] = n + 1
    s[(s[lay.G_OUT] + n) & lay.AT] = arrival - end  # negative: a write
    if m & lay.M_RECORD:
        e = (s[lay.G_OUT2] + 2 * n) & lay.AT
        s[e] = i
        s[e + 1] = end


@inner
def _later_precharge(s: Array, o: int, b: int, d: int) -> None:
    """A hit has issued to bank `b`: if a request waits there for another row, it can be closed only later."""
    at = s[b + lay.B_POS + 3 * d + 2]
    if at < 0:
        return
    q = list_of(s, d, 2, b)
    e = (o + lay.LISTS + q * lay.LIST_SIZE) & lay.AT
    before, ready = s[(e + at) & lay.AT], s[b + lay.F_PRE]
    if before >= ready:
        return
    s[(e + at) & lay.AT] = ready
    if before <= s[o + lay.H_LIST_MIN + q]:
        low = lay.INF
        for k in range(s[o + lay.H_LIST_N + q]):
            low = min(low, s[(e + k) & lay.AT])
        s[o + lay.H_LIST_MIN + q] = low


@inner
def column_done(s: Array, o: int, b: int, i: int, t: int, active: int, close: bool, m: int) -> None:
    """RD or WR of slot `i` has issued: it leaves the active list (position `active`) or its buffer (-1)."""
    d = s[i + lay.S_KIND] & 1
    if m & lay.M_EXACT:
        s[o + lay.H_HIT_T] = s[o + lay.H_ACTIVE_AT] = -1
    if m & lay.M_SPLIT:
        s[o + lay.H_WCK] = max(s[o + lay.H_WCK], t + s[lay.G_WCK_RD + d])
    if active >= 0:
        remove_active(s, o, b, active, t, m)
    else:
        after = s[i + lay.S_NEXT]
        unlink(s, o, b, d, i)
        if not close:
            next_hit(s, o, b, d, after)
            if m & lay.M_EXACT:
                _later_precharge(s, o, b, d)
        if m & lay.M_ROWHIT:
            _look_again(s, o, d)
    arrival, number = s[i + lay.S_ARRIVAL], s[i + lay.S_KEY] >> lay.SLOT_BITS
    s[i + lay.S_NEXT] = s[o + lay.H_FREE]
    s[o + lay.H_FREE] = i
    if d == 0:
        finish_read(s, o, number, arrival, t + s[lay.G_RLAT], m)
    else:
        _finish_write(s, number, arrival, t, m)
    if m & lay.M_CLOSED and not close:
        s[b + lay.B_ACC] += 1
        if s[b + lay.B_ACC] == s[lay.G_CLOSED]:
            s[o + lay.H_POLICY_N] += 1
            s[o + lay.H_POLICY_WAKE] = 0


@inner
def _auto_precharge(s: Array, o: int, b: int, active: int) -> bool:
    """Does the row policy turn this RD or WR into RDA or WRA? Not the one that follows a CAS."""
    if s[b + lay.B_ACC] < s[lay.G_CLOSED] or s[o + lay.H_CAS] >= 0:
        return False
    others = s[b + lay.B_ACTIVE]
    if active >= 0:
        others -= 1
    return bool(s[lay.G_COMPAT] != 0 or others == 0)


@inner
def _shift_active(s: Array, o: int, at: int, n: int) -> None:
    """Close the gap at position `at`; `n` entries are left."""
    a = s[o + lay.H_ACTIVE] & lay.AT
    for k in range(at, n):
        to = (a + 2 * k) & lay.AT
        s[to] = s[to + 2]
        s[to + 1] = s[to + 3]
    s[o + lay.H_ACTIVE_N] = n


@outlined
def _look_again(s: Array, o: int, d: int) -> None:
    """Precharges that were held back may be possible now."""
    for k in range(s[lay.G_N1]):
        q = d * lay.D_LISTS + 2 + 2 * k
        if s[o + lay.H_LIST_N + q] > 0:
            s[o + lay.H_LIST_MIN + q] = 0


@inner
def remove_active(s: Array, o: int, b: int, at: int, t: int, m: int) -> None:
    """Remove entry `at`; a bank without active requests may be precharged again."""
    n = s[o + lay.H_ACTIVE_N] - 1
    _shift_active(s, o, at, n)
    s[b + lay.B_ACTIVE] -= 1
    s[o + lay.H_GUARD + (s[b + lay.B_N1] & lay.AT)] -= 1
    if n == 0:
        s[o + lay.H_ACTIVE_MIN] = lay.INF
    if n == 0 and m & lay.M_CLOSED:
        _look_again(s, o, 0)
        _look_again(s, o, 1)
    elif s[b + lay.B_ACTIVE] == 0:
        ready = s[b + lay.F_PRE]
        for d in range(2):
            at, q = s[b + lay.B_POS + 3 * d + 2], list_of(s, d, 2, b)
            if at >= 0:
                s[(o + lay.LISTS + q * lay.LIST_SIZE + at) & lay.AT] = ready
                s[o + lay.H_LIST_MIN + q] = min(s[o + lay.H_LIST_MIN + q], ready)
                if m & lay.M_DUAL and ready <= t:  # the row slot of this tick may take it
                    s[o + lay.H_DUE_N] = -1


@inner
def add_active(s: Array, o: int, b: int, i: int, m: int) -> None:
    """Append slot `i`, whose row now opens, to the active list."""
    n = s[o + lay.H_ACTIVE_N]
    ready = ready_at(s, b, s[i + lay.S_KIND] & 1, m)
    e = (s[o + lay.H_ACTIVE] + 2 * n) & lay.AT
    s[e] = i
    s[e + 1] = ready
    s[o + lay.H_ACTIVE_N] = n + 1
    if m & lay.M_EXACT and ready <= s[o + lay.H_ACTIVE_MIN]:
        s[o + lay.H_ACTIVE_AT] = -1
    s[o + lay.H_ACTIVE_MIN] = min(s[o + lay.H_ACTIVE_MIN], ready)
    s[b + lay.B_ACTIVE] += 1
    s[o + lay.H_GUARD + (s[b + lay.B_N1] & lay.AT)] += 1


@inner
def _leave_for_activation(s: Array, o: int, b: int, i: int, active: int) -> None:
    """ACT of slot `i` has issued: it leaves its buffer, or the active list, where it is appended again."""
    if active < 0:
        unlink(s, o, b, s[i + lay.S_KIND] & 1, i)
        return
    n = s[o + lay.H_ACTIVE_N] - 1
    _shift_active(s, o, active, n)
    if s[lay.G_COMPAT] == 0:  # the reference controller does not give the old copy's count back
        s[b + lay.B_ACTIVE] -= 1
        s[o + lay.H_GUARD + (s[b + lay.B_N1] & lay.AT)] -= 1


@inner
def execute(s: Array, o: int, command: int, b: int, i: int, active: int, t: int, m: int) -> None:
    """Issue `command` at `t` to bank `b` (its scope for PREA, REFab).

    i       slot of the request it serves, -1: none
    active  position of that request in the active list, -1: it is in its buffer
    """
    if i >= 0 and command < lay.ACT2:
        i &= lay.AT
        count_first(s, o, b, i)
        if (command == lay.RD or command == lay.WR) and m & lay.M_CLOSED and _auto_precharge(s, o, b, active):
            command += 2
    if command < lay.ACT2:
        apply_constraints(s, o, command, b, t)
    record(s, o, command, b, i, t, m)
    if command >= lay.REFAB and command != lay.ACT2:
        return
    if command == lay.PREA:
        _close_all(s, o, b, t, m)
    else:
        if lay.RD <= command <= lay.WRA:
            column_done(s, o, b, i & lay.AT, t, active, command >= lay.RDA, m)
            if command < lay.RDA:
                return
        row = lay.CLOSED
        if command == lay.ACT:
            i &= lay.AT
            _leave_for_activation(s, o, b, i, active)
            row = s[i + lay.S_ROW]
            if m & lay.M_SPLIT:
                row = lay.OPENING
                s[o + lay.H_PENDING] = i
                s[o + lay.H_PEND_DEADLINE] = t + s[lay.G_DEADLINE]
        elif command == lay.ACT2:
            row = s[(i & lay.AT) + lay.S_ROW]
            s[o + lay.H_PENDING] = -1
        if row >= 0:  # before `set_row`, which leaves out precharges of banks with an activated request
            add_active(s, o, b, i & lay.AT, m)
        set_row(s, o, b, row, t, m)
    if m & lay.M_CLOSED and s[o + lay.H_ACTIVE_N] > 0:
        s[o + lay.H_ACTIVE_MIN] = 0


@outlined
def _close_all(s: Array, o: int, b: int, t: int, m: int) -> None:
    for k in range(s[lay.G_BANKS_PER_1]):
        x = (b + lay.BANK_SIZE * k) & lay.AT
        if s[x + lay.B_ROW] != lay.CLOSED or s[x + lay.B_ACC] > 0 or s[x + lay.B_QUEUED] > 0:
            set_row(s, o, x, lay.CLOSED, t, m)
