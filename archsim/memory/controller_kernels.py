"""One tick of a channel's controller, and the next tick at which it can do anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory import layout_kernels as L
from archsim.memory.jit_kernels import inner, outlined
from archsim.memory.bank_kernels import class_bound, ready_at
from archsim.memory.choose_kernels import choose, front_command, front_ready, mode_changes
from archsim.memory.issue_kernels import activate, activate_second, column, precharge, precharge_all, record, refresh

Array = NDArray[np.int64]


@outlined
def push_priority(s: Array, o: int, command: int, b: int) -> bool:
    """Append to the priority queue; False if it is full."""
    n = s[o + L.H_PRIO_N]
    if n >= s[L.G_PRIO_CAP]:
        return False
    at = s[o + L.H_PRIO_HEAD] + n
    if at >= s[L.G_PRIO_CAP]:
        at -= s[L.G_PRIO_CAP]
    e = s[o + L.H_PRIO] + 2 * at
    s[e] = command
    s[e + 1] = b
    s[o + L.H_PRIO_N] = n + 1
    return True


@outlined
def push_refresh(s: Array, o: int, t: int) -> None:
    """The refresh manager at tick `t` >= its next tick."""
    mode, interval = s[L.G_REF_MODE], s[L.G_REF_INTERVAL]
    ok = True
    if mode == L.REF_ALL:
        for k in range(s[L.G_N1]):
            ok = push_priority(s, o, L.REFAB, o + L.BANK + L.BANK_SIZE * k * s[L.G_BANKS_PER_1]) and ok
        s[o + L.H_NEXT_REF] += interval
    elif mode == L.REF_BANK:
        k = s[o + L.H_REF_CURSOR]
        ok = push_priority(s, o, L.REFPB, o + L.BANK + L.BANK_SIZE * k)
        s[o + L.H_REF_CURSOR] = (k + 1) % s[L.G_BANKS]
        s[o + L.H_NEXT_REF] += interval
    else:
        ok = _push_together(s, o, t)
    if not ok:
        s[L.G_ERROR] = L.ERROR_PRIO_FULL


@outlined
def _push_together(s: Array, o: int, t: int) -> bool:
    """Per-bank refresh of the same bank in every pseudo channel, one push per tick."""
    n1, per = s[L.G_N1], s[L.G_BANKS_PER_1]
    per_stack = per // s[L.G_FAN2]
    if s[o + L.H_REF_PC] >= n1:
        stack = s[o + L.H_REF_CURSOR] // per_stack
        for pc in range(n1):
            if t < s[o + L.H_ALLOWED + pc * s[L.G_FAN2] + stack]:
                s[o + L.H_REF_DUE] = t + 1
                s[o + L.H_NEXT_REF] = t + 1
                return True
        s[o + L.H_REF_BANK] = s[o + L.H_REF_CURSOR]
        s[o + L.H_REF_PC] = 0
        s[o + L.H_REF_CURSOR] = (s[o + L.H_REF_CURSOR] + 1) % per
        s[o + L.H_REF_DUE] += s[L.G_REF_INTERVAL]
    pc, k = s[o + L.H_REF_PC], s[o + L.H_REF_BANK]
    ok = push_priority(s, o, L.REFPB, o + L.BANK + L.BANK_SIZE * (pc * per + k))
    if (k + 1) % per_stack == 0:
        s[o + L.H_ALLOWED + pc * s[L.G_FAN2] + k // per_stack] = t + s[L.G_RFC_PB]
    s[o + L.H_REF_PC] = pc + 1
    s[o + L.H_NEXT_REF] = t + 1 if pc + 1 < n1 else max(t + 1, s[o + L.H_REF_DUE])
    return ok


@outlined
def row_policy(s: Array, o: int, t: int) -> None:
    """Queue a precharge for every bank that served enough column commands and may be precharged now."""
    wake = L.INF
    if s[o + L.H_POLICY_N] > 0:
        for k in range(s[L.G_BANKS]):
            b = o + L.BANK + L.BANK_SIZE * k
            if s[b + L.B_ACC] >= s[L.G_CLOSED] and s[b + L.B_QUEUED] == 0:
                ready = ready_at(s, b, L.F_PRE)
                if ready <= t and push_priority(s, o, L.PRE, b):
                    s[b + L.B_QUEUED] = 1
                    s[o + L.H_POLICY_N] -= 1
                else:
                    wake = min(wake, max(ready, t + 1))
    s[o + L.H_POLICY_WAKE] = wake


@inner
def issue_choice(s: Array, o: int, t: int, choice: int) -> None:
    """Issue what `choose` found."""
    source, value = choice & 3, choice >> 2
    if source == 2:
        _issue_front(s, o, t)
        return
    if source == 3:
        i = (s[o + L.H_SLOTS] & L.AT) + ((value >> 2) & L.SLOT_MASK) * L.SLOT_SIZE
        c = value & 3
        active = s[L.G_MINUS_1]
    else:
        i = s[(s[o + L.H_ACTIVE] + 2 * value) & L.AT] & L.AT
        row = s[(s[i + L.S_BANK] & L.AT) + L.B_ROW]
        active = value
        c = 2
        if row == s[i + L.S_ROW]:
            c = 0
        elif row == L.CLOSED:
            c = 1
    if c == 0:
        column(s, o, i, t, active, choice >= 0)
    elif c == 1:
        activate(s, o, i, t, active)
    else:
        precharge(s, o, s[i + L.S_BANK] & L.AT, i, t)


@outlined
def _issue_front(s: Array, o: int, t: int) -> None:
    e = s[o + L.H_PRIO] + 2 * s[o + L.H_PRIO_HEAD]
    b, command = s[e + 1], front_command(s, o)
    if command == L.PREA:
        precharge_all(s, o, b, t)
        return
    done = command == s[e]
    if command == L.PRE:
        precharge(s, o, b, -1, t)
    else:
        refresh(s, o, command, b, t)
    if done:
        s[o + L.H_PRIO_N] -= 1
        head = s[o + L.H_PRIO_HEAD] + 1
        s[o + L.H_PRIO_HEAD] = head if head < s[L.G_PRIO_CAP] else 0


@outlined
def _remember_pair(s: Array, o: int, t: int, choice: int) -> None:
    """Keep the row command of a rising edge: it limits what may follow on the falling edge."""
    if choice & 3 == 2:
        command = front_command(s, o)
        b = s[s[o + L.H_PRIO] + 2 * s[o + L.H_PRIO_HEAD] + 1]
    else:
        command = L.ACT if (choice >> 2) & 3 == 1 else L.PRE
        b = s[s[o + L.H_SLOTS] + ((choice >> 4) & L.SLOT_MASK) * L.SLOT_SIZE + L.S_BANK]
    s[o + L.H_PAIR_CMD] = command
    s[o + L.H_PAIR_BANK] = b
    s[o + L.H_PAIR_END] = t + (s[L.G_ACT_CYCLES] if command == L.ACT else 1)


@inner
def look(s: Array, o: int, t: int) -> None:
    """Tick `t` of a channel: refresh manager, row policy, then the commands that may issue.

    One command slot; or a column slot followed by a row slot (on falling edges only the row slot, for precharges).
    """
    if t >= s[o + L.H_NEXT_REF]:
        push_refresh(s, o, t)
    if s[L.G_CLOSED] > 0:
        row_policy(s, o, t)
    if s[L.G_SPLIT] != 0 and not _split_free(s, o, t):
        return
    what, last = 3, 3
    if s[L.G_DUAL] != 0:
        what, last = 1, 2
        if s[L.G_HALF] != 0 and t & 1 == 0:
            what, last = 6, 6
    while True:
        choice = choose(s, o, t, what)
        if s[L.G_SPLIT] != 0:
            choice = _split_allows(s, o, t, choice)
        if choice != 0:
            if what == 2 and s[L.G_HALF] != 0:
                _remember_pair(s, o, t, choice)
            issue_choice(s, o, t, choice)
        if what == last:
            break
        what = last


@outlined
def _split_free(s: Array, o: int, t: int) -> bool:
    """Two-command activation: False if this tick is taken by a due ACT2 or by the column command after a CAS."""
    if s[o + L.H_PENDING] >= 0 and s[o + L.H_PEND_DEADLINE] <= t:
        activate_second(s, o, t)
        return False
    i = s[o + L.H_CAS]
    if i < 0:
        return True
    s[o + L.H_CAS] = -1
    column(s, o, i, t, s[o + L.H_CAS_ACTIVE], i < 0)
    return False


@outlined
def _split_allows(s: Array, o: int, t: int, choice: int) -> int:
    """The choice, or 0 after something else was issued for it: the pending ACT2, or CAS where the data clock is off."""
    pending = s[o + L.H_PENDING]
    if choice == 0:
        if pending >= 0:
            activate_second(s, o, t)
        return 0
    source, value = choice & 3, choice >> 2
    i, active = -1, -1
    if source == 3 and value & 3 == 0:
        i = s[o + L.H_SLOTS] + ((value >> 2) & L.SLOT_MASK) * L.SLOT_SIZE
    elif source == 1:
        active = value
        i = s[s[o + L.H_ACTIVE] + 2 * value]
        if s[s[i + L.S_BANK] + L.B_ROW] != s[i + L.S_ROW]:
            i = -1
    if i < 0 or t < s[o + L.H_WCK]:
        return choice
    if pending >= 0 and s[o + L.H_PEND_DEADLINE] <= t + 1:
        activate_second(s, o, t)
    else:
        record(s, o, L.CAS_RD + (s[i + L.S_KIND] & 1), s[i + L.S_BANK], i, t)
        s[o + L.H_CAS] = i
        s[o + L.H_CAS_ACTIVE] = active
    return 0


@inner
def settle(s: Array, o: int, t: int) -> None:
    """After tick `t` and the offers at clock `t`: the next tick at which this channel must be looked at."""
    if s[o + L.H_PENDING] >= 0 or s[o + L.H_CAS] >= 0:
        s[o + L.H_WAKE] = t + 1
        return
    half = s[L.G_HALF]
    w = L.INF
    if s[o + L.H_ACTIVE_N] > 0:
        w = max(s[o + L.H_ACTIVE_MIN], t + 1)
        if half != 0:
            w |= 1
    if s[o + L.H_PRIO_N] > 0:
        x = max(front_ready(s, o), t + 1)
        if half != 0 and front_command(s, o) >= L.REFAB:
            x |= 1
        w = min(w, x)
    else:
        if mode_changes(s, o):
            reached = s[L.G_DUAL] != 0 or w > t + 1
            if reached and s[o + L.H_NEXT_REF] > t + 1 and s[L.G_CLOSED] == 0:
                s[o + L.H_MODE] = 1 - s[o + L.H_MODE]
            else:
                w = t + 1
        w = _buffer_wake(s, o, t, w)
    w = min(w, s[o + L.H_NEXT_REF])
    if s[L.G_CLOSED] > 0 and s[o + L.H_POLICY_N] > 0:
        w = min(w, max(t + 1, s[o + L.H_POLICY_WAKE]))
    s[o + L.H_WAKE] = max(w, t + 1)


@inner
def _buffer_wake(s: Array, o: int, t: int, w: int) -> int:
    d = s[o + L.H_MODE] & 1
    for c in range(3):
        q = 3 * d + c
        low = s[o + L.H_LIST_MIN + q]
        if s[o + L.H_LIST_N + q] > 0 and low < w:
            x = max(low, class_bound(s, o, d if c == 0 else c + 1), t + 1)
            if c < 2 and s[L.G_HALF] != 0:
                x |= 1
            w = min(w, x)
    return int(w)
