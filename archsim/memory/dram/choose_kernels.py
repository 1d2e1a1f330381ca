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
def soonest_hit(s: Array, o: int, d: int, soonest: int, m: int) -> tuple[int, int, int]:
    """The first tick from `soonest` on at which a hit can issue; key and bank of the oldest that can."""
    q, odd = d * lay.D_LISTS, (m & lay.M_HALF) >> 1
    e, field = o + lay.LISTS + q * lay.LIST_SIZE, lay.B_LIST + 4 * d + lay.B_HIT
    tick, key, b = lay.INF, lay.NO_KEY, o
    for k in range(s[o + lay.H_LIST_N + q]):
        at = (e + k) & lay.AT
        if s[at] <= tick:
            bank = s[at + lay.L_BANK] & lay.AT
            ready = ready_at(s, bank, d, m)
            s[at] = ready
            ready = max(soonest, ready) | odd
            if ready < tick or (ready == tick and s[bank + field] < key):
                tick, key, b = ready, s[bank + field], bank
    return tick, key, b


@inner
def next_column(s: Array, o: int, d: int, soonest: int, m: int) -> int:
    """`soonest_hit`, remembered in H_HIT_T, H_HIT_KEY, H_HIT_BANK and as bound of the list."""
    tick, s[o + lay.H_HIT_KEY], s[o + lay.H_HIT_BANK] = soonest_hit(s, o, d, soonest, m)
    s[o + lay.H_LIST_MIN + d * lay.D_LISTS] = s[o + lay.H_HIT_T] = tick
    return int(tick)


@inner
def soonest_active(s: Array, o: int, soonest: int, m: int) -> int:
    """The first tick from `soonest` on at which an activated request can issue; its position: H_ACTIVE_AT."""
    a, odd = s[o + lay.H_ACTIVE] & lay.AT, (m & lay.M_HALF) >> 1
    tick, best, arrival = lay.INF, -1, lay.INF
    for k in range(s[o + lay.H_ACTIVE_N]):
        at = (a + 2 * k) & lay.AT
        if s[at + 1] <= tick:
            i = s[at] & lay.AT
            ready = ready_at(s, s[i + lay.S_BANK] & lay.AT, s[i + lay.S_KIND] & 1, m)
            s[at + 1] = ready
            ready = max(soonest, ready) | odd
            if ready < tick or (ready == tick and s[i + lay.S_ARRIVAL] < arrival):
                tick, best, arrival = ready, k, s[i + lay.S_ARRIVAL]
    s[o + lay.H_ACTIVE_MIN], s[o + lay.H_ACTIVE_AT] = tick, best
    return int(tick)


@inner
def oldest_hit(s: Array, o: int, d: int, t: int, m: int) -> int:
    """Key of the oldest request that hits and may issue at `t`, or NO_KEY; sets the list's lower bound."""
    q = d * lay.D_LISTS
    e = o + lay.LISTS + q * lay.LIST_SIZE
    field = lay.B_LIST + 4 * d + lay.B_HIT
    best, low = lay.NO_KEY, lay.INF
    for k in range(s[o + lay.H_LIST_N + q]):
        at = (e + k) & lay.AT
        ready = s[at]
        if ready <= t:
            b = s[at + lay.L_BANK] & lay.AT
            ready = ready_at(s, b, d, m)
            s[at] = ready
            if ready <= t:
                best = min(best, s[b + field])
        low = min(low, ready)
    s[o + lay.H_LIST_MIN + q] = low
    return best


@inner
def oldest_other(s: Array, o: int, q: int, d: int, c: int, t: int, barred: int, m: int) -> int:
    """Key of the oldest request of list `q` for whose bank an activate or precharge may issue at `t`, or NO_KEY.

    Channel and rank or pseudo channel allow it. The list's lower bound, which this sets, leaves out the candidate
    returned: the caller must restore it if that does not issue. barred: a bank to leave out at this tick.
    """
    e, n, f = o + lay.LISTS + q * lay.LIST_SIZE, s[o + lay.H_LIST_N + q], c + 1
    while True:
        best, low, n_ready = lay.NO_KEY, lay.INF, 0
        for k in range(n):  # without branches: which entries are ready cannot be foreseen
            ready, key = s[(e + k) & lay.AT], s[(e + k + lay.L_KEY) & lay.AT]
            is_ready = int(ready <= t)
            best = min(best, key + (1 - is_ready) * lay.NO_KEY)
            low = min(low, ready + is_ready * lay.INF)
            n_ready += is_ready
        if n_ready == 0:
            break
        # an entry's tick may be too early, as it knows the rules of its bank only
        b = s[((s[o + lay.H_SLOTS] & lay.AT) + (best & lay.SLOT_MASK) * lay.SLOT_SIZE + lay.S_BANK) & lay.AT] & lay.AT
        ready = max(s[b + f], s[(s[b + lay.B_PATH + 3] & lay.AT) + f])
        if m & lay.M_DEEP:
            ready = max(ready, s[(s[b + lay.B_PATH + 2] & lay.AT) + f])
        if m & lay.M_HALF and c == 2 and b == barred:
            ready = max(ready, t + 1)
        if ready <= t:
            if n_ready > 1:
                low = t
            break
        s[(e + s[b + lay.B_POS + 3 * d + c]) & lay.AT] = ready
    s[o + lay.H_LIST_MIN + q] = low
    return best


@outlined
def oldest_allowed(s: Array, o: int, q: int, d: int, c: int, t: int, barred: int, m: int) -> int:
    """`oldest_other` where guards come and go while a bank waits (closed rows), or hits go first (FRFCFS-RowHit)."""
    e, f = o + lay.LISTS + q * lay.LIST_SIZE, c + 1
    best, low, best_ready = lay.NO_KEY, lay.INF, lay.INF
    for k in range(s[o + lay.H_LIST_N + q]):
        at = (e + k) & lay.AT
        ready = s[at]
        if ready <= t:
            b = s[at + lay.L_BANK] & lay.AT
            if c == 2 and s[b + lay.B_ACTIVE] > 0 and s[o + lay.H_ACTIVE_N] > 0:
                continue  # guarded: an activated request waits for this row
            ready = ready_at(s, b, f, m)
            s[at] = ready
            if c == 2 and b == barred:
                ready = max(ready, t + 1)
            if ready <= t:
                if c == 2 and m & lay.M_ROWHIT and not _no_older_hit(s, o, b, d):
                    continue  # a column command makes the list be looked at again
                if best != lay.NO_KEY:
                    low = min(low, ready, best_ready)
                key = s[at + lay.L_KEY]
                if key < best:
                    best, best_ready = key, ready
                continue
        low = min(low, ready)
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
def _row_candidate(s: Array, o: int, q: int, t: int, m: int) -> int:
    """Oldest request of list `q` (within its direction) whose bank may be opened or closed."""
    d, c, k = s[o + lay.H_MODE] & 1, 2 - (q & 1), (q - 1) >> 1
    low = s[(o + lay.H_LIST_MIN + d * lay.D_LISTS + q) & lay.AT]
    if max(low, s[o + lay.NODE + c + 1]) > t or (m & lay.M_DEEP and s[(o + lay.NODE1 + 8 * k + c + 1) & lay.AT] > t):
        return lay.NO_KEY
    barred = -1
    if m & lay.M_HALF and c == 2 and t & 1 == 0 and t == s[o + lay.H_PAIR_END]:
        barred = s[o + lay.H_PAIR_BANK]
        if s[(barred & lay.AT) + lay.B_N1] == k:
            if s[o + lay.H_PAIR_CMD] == lay.PREA or s[o + lay.H_PAIR_CMD] == lay.REFAB:
                return lay.NO_KEY
    if m & (lay.M_CLOSED | lay.M_ROWHIT):
        return int(oldest_allowed(s, o, d * lay.D_LISTS + q, d, c, t, barred, m))
    return int(oldest_other(s, o, d * lay.D_LISTS + q, d, c, t, barred, m))


@inner
def _pick(s: Array, o: int, t: int, what: int, hits: bool, known: bool, m: int) -> int:
    """Best of the read or write buffer (the current mode's); `known`: only the lists of H_DUE can have it."""
    d = s[o + lay.H_MODE] & 1
    best, best_class, bound = lay.NO_KEY, 0, -1
    if what & 1 and hits:
        best = s[o + lay.H_HIT_KEY] if known and m & lay.M_EXACT else oldest_hit(s, o, d, t, m)
    if what & 2:
        opens = what & 4 == 0
        if m & lay.M_SPLIT:
            opens = opens and s[o + lay.H_PENDING] < 0
        low = o + lay.H_LIST_MIN + d * lay.D_LISTS
        for k in range(s[o + lay.H_DUE_N] if known else 2 * s[lay.G_N1]):
            q = s[(o + lay.H_DUE + k) & lay.AT] if known else k + 1
            if opens or q & 1 == 0:
                key, own = _row_candidate(s, o, q, t, m), (low + q) & lay.AT
                if key < best:
                    best, best_class, own, bound = key, 2 - (q & 1), bound, own
                if key != lay.NO_KEY and own >= 0:  # what does not issue stays a candidate
                    s[own & lay.AT] = min(s[own & lay.AT], t)
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
    s[o + lay.H_ACTIVE_MIN], s[o + lay.H_ACTIVE_AT] = low, -1
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


@outlined
def choose(s: Array, o: int, t: int, what: int, m: int) -> int:
    """The command of one slot at `t` (see the module text); evaluates the write mode where it is reached."""
    if what & 1 and s[o + lay.H_ACTIVE_N] > 0 and s[o + lay.H_ACTIVE_MIN] <= t:
        k = pick_active(s, o, t, what, m)
        if k >= 0:
            return int(k * 4 + 1)
    if s[o + lay.H_PRIO_N] > 0:
        if what & 2 and front_ready(s, o, m) <= t and (m & lay.M_HALF == 0 or what & 4 == 0 or _front_falls(s, o, t)):
            return 2
        return 0
    if mode_changes(s, o):
        s[o + lay.H_MODE] = 1 - s[o + lay.H_MODE]
        s[o + lay.H_FLIPS] += 1
        s[o + lay.H_HIT_T] = -1
    d = s[o + lay.H_MODE] & 1
    hits = s[o + lay.H_LIST_MIN + d * lay.D_LISTS] <= t and class_bound(s, o, d, m) <= t
    return int(_pick(s, o, t, what, hits, False, m))


@inner
def choose_due(s: Array, o: int, t: int, what: int, m: int) -> int:
    """`choose` at a tick for which it is known what may issue."""
    column = s[o + lay.H_DUE_COLUMN]
    if what & 1 and column & 1:
        k = s[o + lay.H_ACTIVE_AT] if m & lay.M_EXACT else pick_active(s, o, t, what, m)
        if k >= 0:
            return k * 4 + 1
    return _pick(s, o, t, what, column & 2 != 0, True, m)


@outlined
def _front_falls(s: Array, o: int, t: int) -> bool:
    """May the front of the priority queue issue on a falling edge?"""
    command = front_command(s, o)
    if command != lay.PRE and command != lay.PREA:
        return False
    b = s[((s[o + lay.H_PRIO] + 2 * s[o + lay.H_PRIO_HEAD]) & lay.AT) + 1] & lay.AT
    return t != s[o + lay.H_PAIR_END] or pair_allows(s, o, b, command == lay.PRE)
