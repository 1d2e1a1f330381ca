"""One tick of a channel's controller, and the next tick at which it can do anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import class_bound, ready_at, row_wake
from archsim.memory.dram.choose_kernels import (
    choose,
    choose_due,
    front_command,
    front_ready,
    mode_changes,
    next_column,
    soonest_active,
)
from archsim.memory.dram.issue_kernels import execute
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@outlined
def push_priority(s: Array, o: int, command: int, b: int) -> bool:
    """Append to the priority queue; False if it is full."""
    n = s[o + lay.H_PRIO_N]
    if n >= s[lay.G_PRIO_CAP]:
        return False
    at = s[o + lay.H_PRIO_HEAD] + n
    if at >= s[lay.G_PRIO_CAP]:
        at -= s[lay.G_PRIO_CAP]
    e = (s[o + lay.H_PRIO] + 2 * at) & lay.AT
    s[e] = command
    s[e + 1] = b
    s[o + lay.H_PRIO_N] = n + 1
    return True


@outlined
def push_refresh(s: Array, o: int, t: int) -> None:
    """The refresh manager at tick `t` >= its next tick."""
    mode, interval = s[lay.G_REF_MODE], s[lay.G_REF_INTERVAL]
    ok = True
    if mode == lay.REF_ALL:
        for k in range(s[lay.G_N1]):
            ok = push_priority(s, o, lay.REFAB, o + lay.BANK + lay.BANK_SIZE * k * s[lay.G_BANKS_PER_1]) and ok
        s[o + lay.H_NEXT_REF] += interval
    elif mode == lay.REF_BANK:
        k = s[o + lay.H_REF_CURSOR]
        ok = push_priority(s, o, lay.REFPB, o + lay.BANK + lay.BANK_SIZE * k)
        s[o + lay.H_REF_CURSOR] = (k + 1) % s[lay.G_BANKS]
        s[o + lay.H_NEXT_REF] += interval
    else:
        ok = _push_together(s, o, t)
    if not ok:
        s[lay.G_ERROR] = lay.ERROR_PRIO_FULL


@outlined
def _push_together(s: Array, o: int, t: int) -> bool:
    """Per-bank refresh of the same bank in every pseudo channel, one push per tick."""
    n1, per = s[lay.G_N1], s[lay.G_BANKS_PER_1]
    per_stack = per // s[lay.G_FAN2]
    if s[o + lay.H_REF_PC] >= n1:
        stack = s[o + lay.H_REF_CURSOR] // per_stack
        for pc in range(n1):
            if t < s[o + lay.H_ALLOWED + pc * s[lay.G_FAN2] + stack]:
                s[o + lay.H_REF_DUE] = t + 1
                s[o + lay.H_NEXT_REF] = t + 1
                return True
        s[o + lay.H_REF_BANK] = s[o + lay.H_REF_CURSOR]
        s[o + lay.H_REF_PC] = 0
        s[o + lay.H_REF_CURSOR] = (s[o + lay.H_REF_CURSOR] + 1) % per
        s[o + lay.H_REF_DUE] += s[lay.G_REF_INTERVAL]
    pc, k = s[o + lay.H_REF_PC], s[o + lay.H_REF_BANK]
    ok = push_priority(s, o, lay.REFPB, o + lay.BANK + lay.BANK_SIZE * (pc * per + k))
    if (k + 1) % per_stack == 0:
        s[o + lay.H_ALLOWED + pc * s[lay.G_FAN2] + k // per_stack] = t + s[lay.G_RFC_PB]
    s[o + lay.H_REF_PC] = pc + 1
    s[o + lay.H_NEXT_REF] = t + 1 if pc + 1 < n1 else max(t + 1, s[o + lay.H_REF_DUE])
    return ok


@outlined
def row_policy(s: Array, o: int, t: int, m: int) -> None:
    """Queue a precharge for every bank that served enough column commands and may be precharged now."""
    wake = lay.INF
    if s[o + lay.H_POLICY_N] > 0:
        for k in range(s[lay.G_BANKS]):
            b = (o + lay.BANK + lay.BANK_SIZE * k) & lay.AT
            if s[b + lay.B_ACC] >= s[lay.G_CLOSED] and s[b + lay.B_QUEUED] == 0:
                ready = ready_at(s, b, lay.F_PRE, m)
                if ready <= t and push_priority(s, o, lay.PRE, b):
                    s[b + lay.B_QUEUED] = 1
                    s[o + lay.H_POLICY_N] -= 1
                else:
                    wake = min(wake, max(ready, t + 1))
    s[o + lay.H_POLICY_WAKE] = wake


@inner
def _issue(s: Array, o: int, t: int, choice: int, paired: bool, m: int) -> None:
    """Issue what was chosen (see choose_kernels; source 0 with a value: slot of a CAS, or of a pending ACT2)."""
    source, value = choice & 3, choice >> 2
    i = active = s[lay.G_MINUS_1]
    if source == 2:
        command = front_command(s, o)
        e = (s[o + lay.H_PRIO] + 2 * s[o + lay.H_PRIO_HEAD]) & lay.AT
        b = s[e + 1] & lay.AT
        if command == s[e]:
            s[o + lay.H_PRIO_N] -= 1
            head = s[o + lay.H_PRIO_HEAD] + 1
            s[o + lay.H_PRIO_HEAD] = head if head < s[lay.G_PRIO_CAP] else 0
    elif m & lay.M_SPLIT and source == 0:
        i = value >> 4
        command = value & 15
        b = s[i + lay.S_BANK] & lay.AT
        if command < lay.ACT2:
            active = s[o + lay.H_CAS_ACTIVE]
    else:
        c = value & 3
        if source == 3:
            i = (s[o + lay.H_SLOTS] & lay.AT) + ((value >> 2) & lay.SLOT_MASK) * lay.SLOT_SIZE
        else:
            active = value
            i = s[(s[o + lay.H_ACTIVE] + 2 * value) & lay.AT] & lay.AT
            c = 0
            if m & lay.M_CLOSED:
                row = s[(s[i + lay.S_BANK] & lay.AT) + lay.B_ROW]
                c = 0 if row == s[i + lay.S_ROW] else 1 if row == lay.CLOSED else 2
        b = s[i + lay.S_BANK] & lay.AT
        command = lay.RD + (s[i + lay.S_KIND] & 1)
        if c > 0:
            command = c - 1  # ACT, PRE
    if paired:
        s[o + lay.H_PAIR_CMD] = command
        s[o + lay.H_PAIR_BANK] = b
        s[o + lay.H_PAIR_END] = t + (s[lay.G_ACT_CYCLES] if command == lay.ACT else 1)
    execute(s, o, command, b, i, active, t, m)


@inner
def look(s: Array, o: int, t: int, m: int) -> None:
    """Tick `t` of a channel: refresh manager, row policy, then the commands that may issue.

    One command slot; or a column slot followed by a row slot (on falling edges only the row slot, for precharges).
    """
    if t >= s[o + lay.H_NEXT_REF]:
        push_refresh(s, o, t)
        s[o + lay.H_DUE_N] = -1
    if m & lay.M_CLOSED:
        row_policy(s, o, t, m)
    what, last = 3, 3
    if m & lay.M_DUAL:
        what, last = 1, 2
        if m & lay.M_HALF and t & 1 == 0:
            what, last = 6, 6
    while True:
        choice = 0
        if m & lay.M_SPLIT:
            choice = _split_due(s, o, t)
        if choice == 0:
            if s[o + lay.H_DUE_N] >= 0:
                choice = choose_due(s, o, t, what, m)
            else:
                choice = choose(s, o, t, what, m)
            if m & lay.M_SPLIT:
                choice = _split_allows(s, o, t, choice)
        if choice != 0:
            _issue(s, o, t, choice, m & lay.M_HALF != 0 and what == 2, m)
            if m & lay.M_SPLIT and s[o + lay.H_CAS] >= 0 and choice & 3 == 0 and (choice >> 2) & 15 < lay.ACT2:
                s[o + lay.H_CAS] = -1
        if m & lay.M_DUAL == 0 or what == last:
            break
        if choice != 0 and mode_changes(s, o):
            s[o + lay.H_DUE_N] = -1
        what = last


@inner
def second_half_only(s: Array, o: int, m: int) -> bool:
    """Is a pending ACT2 all that can issue at the settled channel's next tick?"""
    if s[o + lay.H_DUE_N] != 0 or s[o + lay.H_DUE_COLUMN] != 0 or s[o + lay.H_WAKE] >= s[o + lay.H_NEXT_REF]:
        return False
    return bool(s[o + lay.H_PENDING] >= 0 and s[o + lay.H_CAS] < 0)


@outlined
def _split_due(s: Array, o: int, t: int) -> int:
    """Two-command activation: a due ACT2, or the column command that follows a CAS; 0: neither."""
    i = s[o + lay.H_PENDING]
    if i >= 0 and s[o + lay.H_PEND_DEADLINE] <= t:
        return int((i << 4 | lay.ACT2) << 2)
    i = s[o + lay.H_CAS]
    if i >= 0:
        return int((i << 4 | (lay.RD + (s[(i & lay.AT) + lay.S_KIND] & 1))) << 2)
    return 0


@outlined
def _split_allows(s: Array, o: int, t: int, choice: int) -> int:
    """The choice, or what goes before it: a pending ACT2 (also if nothing was chosen), CAS if the data clock is off."""
    pending = s[o + lay.H_PENDING]
    second = 0
    if pending >= 0:
        second = (pending << 4 | lay.ACT2) << 2
    if choice == 0:
        return second
    source, value = choice & 3, choice >> 2
    i, active = -1, -1
    if source == 3 and value & 3 == 0:
        i = (s[o + lay.H_SLOTS] & lay.AT) + ((value >> 2) & lay.SLOT_MASK) * lay.SLOT_SIZE
    elif source == 1:
        active = value
        i = s[(s[o + lay.H_ACTIVE] + 2 * value) & lay.AT] & lay.AT
        if s[(s[i + lay.S_BANK] & lay.AT) + lay.B_ROW] != s[i + lay.S_ROW]:
            i = -1
    if i < 0 or t < s[o + lay.H_WCK]:
        return choice
    if second != 0 and s[o + lay.H_PEND_DEADLINE] <= t + 1:
        return int(second)
    s[o + lay.H_CAS] = i
    s[o + lay.H_CAS_ACTIVE] = active
    return int((i << 4 | (lay.CAS_RD + (s[(i & lay.AT) + lay.S_KIND] & 1))) << 2)


@inner
def settle(s: Array, o: int, t: int, m: int) -> None:
    """After tick `t` and the offers at clock `t`: the next tick at which to look at this channel, what may issue then.

    What may issue stays unknown (H_DUE_N < 0) where priorities, guards or a change of the write mode decide too, and
    in plain runs, to which tests compare the others.
    """
    known, odd = m & lay.M_DUE != 0 and m & (lay.M_CLOSED | lay.M_ROWHIT) == 0, (m & lay.M_HALF) >> 1
    hits, rows, soon = lay.INF, lay.INF, lay.INF
    if m & lay.M_SPLIT and (s[o + lay.H_PENDING] >= 0 or s[o + lay.H_CAS] >= 0):
        soon = t + 1  # the second half issues, unless something else does
    active = max(s[o + lay.H_ACTIVE_MIN], t + 1)
    if m & lay.M_CLOSED == 0:  # then the active list needs column commands only
        active = max(active, min(class_bound(s, o, lay.F_RD, m), class_bound(s, o, lay.F_WR, m)))
    elif s[o + lay.H_ACTIVE_N] == 0:
        active = lay.INF
    active |= odd
    if s[o + lay.H_PRIO_N] > 0:
        known = False
        x = max(front_ready(s, o, m), t + 1)
        if m & lay.M_HALF and front_command(s, o) >= lay.REFAB:
            x |= 1
        soon = min(soon, x)
    else:
        if mode_changes(s, o):
            known = _switch(s, o, t, min(active, soon), m) and known
            if not known:
                soon = t + 1
        d = s[o + lay.H_MODE] & 1
        rows = row_wake(s, o, d, t + 1, m)
        exact = m & lay.M_EXACT != 0 and s[o + lay.H_HIT_T] > t
        if exact:
            hits = s[o + lay.H_HIT_T]
        else:
            hits = max(s[o + lay.H_LIST_MIN + d * lay.D_LISTS], class_bound(s, o, d, m), t + 1) | odd
        if known and m & lay.M_EXACT:
            first = min(soon, rows, s[o + lay.H_NEXT_REF])
            found = s[o + lay.H_ACTIVE_AT] >= 0 and s[o + lay.H_ACTIVE_MIN] > t
            if not found and active <= min(first, hits):
                active, found = soonest_active(s, o, t + 1, m), True
            if not exact and hits <= min(first, active):
                hits = next_column(s, o, d, t + 1, m)
                if not found and active <= min(first, hits):
                    active = soonest_active(s, o, t + 1, m)
    s[o + lay.H_STOP] = min(active, rows, s[o + lay.H_NEXT_REF])
    w = min(hits, soon, s[o + lay.H_STOP])
    s[o + lay.H_DUE_COLUMN] = (active <= w) + 2 * (hits <= w)
    s[o + lay.H_DUE_N] = -1
    if known:
        s[o + lay.H_DUE_N] = s[o + lay.H_DUE_ROWS] if rows <= w else 0
    if m & lay.M_CLOSED and s[o + lay.H_POLICY_N] > 0:
        w = min(w, max(t + 1, s[o + lay.H_POLICY_WAKE]))
    s[o + lay.H_WAKE] = max(w, t + 1)


@outlined
def _switch(s: Array, o: int, t: int, before: int, m: int) -> bool:
    """Switch the write mode as the next look would, if it surely does. `before`: when a command may come first."""
    reached = m & lay.M_DUAL != 0 or before > t + 1
    if reached and s[o + lay.H_NEXT_REF] > t + 1 and m & lay.M_CLOSED == 0:
        s[o + lay.H_MODE] = 1 - s[o + lay.H_MODE]
        s[o + lay.H_FLIPS] += 1
        s[o + lay.H_HIT_T] = -1
        return True
    return False
