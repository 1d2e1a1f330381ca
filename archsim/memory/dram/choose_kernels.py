"""Which command may issue at a tick: first-ready, first-come-first-served over the candidate lists.

A choice is one integer, `value * 4 + source`: source 0 nothing, 1 active list (value: position), 2 front of the
priority queue, 3 read or write buffer (value: request key * 4 + candidate class). Column commands qualify if
`what & 1`, row commands if `what & 2`; `what & 4` restricts row commands to precharges (falling edge).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import class_bound, ready_at, scope_ready_at
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def scan(s: Array, o: int, d: int, c: int, t: int, m: int) -> int:
    """Key of the oldest candidate of class `c` that is ready at `t`, or NO_KEY; sets the class's lower bound.

    For classes 1 and 2 the bound leaves out the candidate returned: the caller must restore it if that does not issue.
    """
    q = d * 3 + c
    n = s[o + lay.H_LIST_N + q]
    e = o + lay.LISTS + q * lay.LIST_SIZE
    f = d
    field = lay.B_LIST + 4 * d + lay.B_HIT
    if c > 0:
        f = c + 1
        field += 1  # B_MISS
    best, low, best_ready = lay.NO_KEY, lay.INF, lay.INF
    for k in range(n):
        at = (e + 2 * k) & lay.AT
        ready = s[at + 1]
        if ready <= t:
            b = s[at] & lay.AT
            if m & lay.M_DEEP:  # most candidates of a rank or pseudo channel that must wait wait for the same rule
                ready = s[(s[b + lay.B_PATH + 1] & lay.AT) + f]
                if ready > t:
                    s[at + 1] = ready
                    low = min(low, ready)
                    continue
            if c == 2 and s[b + lay.B_ACTIVE] > 0 and s[o + lay.H_ACTIVE_N] > 0:
                continue  # guarded: an activated request waits for this row
            ready = ready_at(s, b, f, m)
            s[at + 1] = ready
            if ready <= t:
                key = s[b + field]
                if c == 2 and m & lay.M_ROWHIT and not _no_older_hit(s, o, b, d):
                    continue  # `column` makes the list be looked at again
                if c > 0:  # an activated or precharged bank leaves the list: the bound is that of the others
                    if best != lay.NO_KEY:
                        low = min(low, ready, best_ready)
                    if key < best:
                        best, best_ready = key, ready
                    continue
                best = min(best, key)
        if ready < low:
            low = ready
    s[o + lay.H_LIST_MIN + q] = low
    return best


@outlined
def _no_older_hit(s: Array, o: int, b: int, d: int) -> bool:
    hit, miss = s[b + lay.B_LIST + 4 * d + lay.B_HIT], s[b + lay.B_LIST + 4 * d + lay.B_MISS]
    if hit == lay.NO_KEY:
        return True
    base = s[o + lay.H_SLOTS] & lay.AT
    arrival = s[base + (miss & lay.SLOT_MASK) * lay.SLOT_SIZE + lay.S_ARRIVAL]
    return bool(s[base + (hit & lay.SLOT_MASK) * lay.SLOT_SIZE + lay.S_ARRIVAL] > arrival)


@inner
def pick_buffer(s: Array, o: int, t: int, what: int, m: int) -> int:
    """Best of the read or write buffer (the current mode's)."""
    d = s[o + lay.H_MODE] & 1
    best, best_class = lay.NO_KEY, 0
    if what & 1 and s[o + lay.H_LIST_MIN + 3 * d] <= t and class_bound(s, o, d, m) <= t:
        best = scan(s, o, d, 0, t, m)
    if what & 2:
        low = o + lay.H_LIST_MIN + 3 * d
        opens = what & 4 == 0 and (m & lay.M_SPLIT == 0 or s[o + lay.H_PENDING] < 0)
        if opens and s[low + 1] <= t and class_bound(s, o, lay.F_ACT, m) <= t:
            key = scan(s, o, d, 1, t, m)
            if key < best:
                best, best_class = key, 1
            elif key != lay.NO_KEY:
                s[low + 1] = min(s[low + 1], t)
        if s[low + 2] <= t and class_bound(s, o, lay.F_PRE, m) <= t:
            if m & lay.M_HALF and what & 4 and t == s[o + lay.H_PAIR_END]:
                key = _scan_paired(s, o, d, t, m)
            else:
                key = scan(s, o, d, 2, t, m)
            if key < best:
                if best_class == 1:
                    s[low + 1] = min(s[low + 1], t)
                best, best_class = key, 2
            elif key != lay.NO_KEY:
                s[low + 2] = min(s[low + 2], t)
    if best == lay.NO_KEY:
        return 0
    return (best * 4 + best_class) * 4 + 3


@outlined
def pair_allows(s: Array, o: int, b: int, single: bool) -> bool:
    """May a precharge to `b` share the clock with the row command of its first half (HBM3)?"""
    other = s[o + lay.H_PAIR_BANK] & lay.AT
    if s[b + lay.B_N1] != s[other + lay.B_N1]:
        return True
    command = s[o + lay.H_PAIR_CMD]
    return single and command != lay.PREA and command != lay.REFAB and b != other


@outlined
def _scan_paired(s: Array, o: int, d: int, t: int, m: int) -> int:
    """`scan` for precharges under the pairing rule; leaves the lower bound alone."""
    q = d * 3 + 2
    e = o + lay.LISTS + q * lay.LIST_SIZE
    best = lay.NO_KEY
    for k in range(s[o + lay.H_LIST_N + q]):
        b = s[(e + 2 * k) & lay.AT] & lay.AT
        if s[b + lay.B_ACTIVE] > 0 and s[o + lay.H_ACTIVE_N] > 0:
            continue
        key = s[b + lay.B_LIST + 4 * d + lay.B_MISS]
        if key < best and ready_at(s, b, lay.F_PRE, m) <= t and pair_allows(s, o, b, True):
            if m & lay.M_ROWHIT == 0 or _no_older_hit(s, o, b, d):
                best = key
    return best


@inner
def pick_active(s: Array, o: int, t: int, what: int, m: int) -> int:
    """Position of the oldest entry of the active list that may issue, or -1; sets the list's lower bound."""
    a = s[o + lay.H_ACTIVE] & lay.AT
    best, best_arrival, low = -1, lay.INF, lay.INF
    fixed = m & lay.M_CLOSED == 0  # without auto-precharge an activated row stays open until its request is served
    for k in range(s[o + lay.H_ACTIVE_N]):
        at = (a + 2 * k) & lay.AT
        ready = s[at + 1]
        if fixed and ready > t:
            low = min(low, ready)
            continue
        i = s[at] & lay.AT
        b = s[i + lay.S_BANK] & lay.AT
        row = s[b + lay.B_ROW]
        if row == s[i + lay.S_ROW]:
            ready = ready_at(s, b, s[i + lay.S_KIND] & 1, m)
        elif what & 2 == 0 or row == lay.OPENING:
            continue
        elif row == lay.CLOSED:
            if s[o + lay.H_PENDING] >= 0:
                continue
            ready = ready_at(s, b, lay.F_ACT, m)
        else:
            ready = ready_at(s, b, lay.F_PRE, m)
        s[at + 1] = ready
        low = min(low, ready)
        if ready <= t and s[i + lay.S_ARRIVAL] < best_arrival:
            best, best_arrival = k, s[i + lay.S_ARRIVAL]
    s[o + lay.H_ACTIVE_MIN] = low
    return best


@outlined
def front_command(s: Array, o: int) -> int:
    """The command the front of the priority queue needs now."""
    e = (s[o + lay.H_PRIO] + 2 * s[o + lay.H_PRIO_HEAD]) & lay.AT
    command, b = s[e], s[e + 1] & lay.AT
    if command == lay.REFAB:
        if s[o + lay.H_OPEN + (s[b + lay.B_N1] & lay.AT)] > 0:
            return lay.PREA
    elif command == lay.REFPB:
        if s[b + lay.B_ROW] != lay.CLOSED:
            return lay.PRE
    return int(command)


@outlined
def front_ready(s: Array, o: int, m: int) -> int:
    """Earliest tick of the front of the priority queue, INF while a guard or a pending activation holds it."""
    e = (s[o + lay.H_PRIO] + 2 * s[o + lay.H_PRIO_HEAD]) & lay.AT
    b = s[e + 1] & lay.AT
    command = front_command(s, o)
    pending = s[o + lay.H_PENDING]
    if command == lay.PREA or command == lay.PRE:
        held = s[b + lay.B_ACTIVE]
        if command == lay.PREA:
            held = s[o + lay.H_GUARD + (s[b + lay.B_N1] & lay.AT)]
        if held > 0 and s[o + lay.H_ACTIVE_N] > 0:
            return lay.INF
    if pending >= 0:
        other = s[(pending & lay.AT) + lay.S_BANK] & lay.AT
        wide = command == lay.PREA or command == lay.REFAB
        if b == other or (wide and s[b + lay.B_N1] == s[other + lay.B_N1]):
            return lay.INF
    if command == lay.PREA:
        return scope_ready_at(s, b, lay.F_PREA)
    if command == lay.REFAB:
        return scope_ready_at(s, b, lay.F_REFAB)
    if command == lay.PRE:
        return ready_at(s, b, lay.F_PRE, m)
    return ready_at(s, b, lay.F_REFPB, m)


@inner
def mode_changes(s: Array, o: int) -> bool:
    """Would an evaluation of the write mode switch it?"""
    if s[o + lay.H_MODE] == 0:
        return bool(s[o + lay.H_NW] > s[lay.G_HI] or s[o + lay.H_N] == 0)
    return bool(s[o + lay.H_NW] < s[lay.G_LO] and s[o + lay.H_N] > 0)


@inner
def choose(s: Array, o: int, t: int, what: int, m: int) -> int:
    """The command of one slot at `t` (see the module text); evaluates the write mode where it is reached."""
    if what & 1 and s[o + lay.H_ACTIVE_N] > 0 and s[o + lay.H_ACTIVE_MIN] <= t:
        k = pick_active(s, o, t, what, m)
        if k >= 0:
            return k * 4 + 1
    if s[o + lay.H_PRIO_N] > 0:
        if what & 2 and front_ready(s, o, m) <= t and (m & lay.M_HALF == 0 or what & 4 == 0 or _front_falls(s, o, t)):
            return 2
        return 0
    if mode_changes(s, o):
        s[o + lay.H_MODE] = 1 - s[o + lay.H_MODE]
        s[o + lay.H_FLIPS] += 1
    return pick_buffer(s, o, t, what, m)


@outlined
def _front_falls(s: Array, o: int, t: int) -> bool:
    """May the front of the priority queue issue on a falling edge?"""
    command = front_command(s, o)
    if command != lay.PRE and command != lay.PREA:
        return False
    b = s[((s[o + lay.H_PRIO] + 2 * s[o + lay.H_PRIO_HEAD]) & lay.AT) + 1] & lay.AT
    return t != s[o + lay.H_PAIR_END] or pair_allows(s, o, b, command == lay.PRE)
