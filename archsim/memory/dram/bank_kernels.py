"""Earliest issue times, bank states and the per-bank request lists of the command engine.

Every function takes the engine array `s` (see layout_kernels), `o` = start of a channel block and `b` = start of a
bank record. Direction d: 0 reads, 1 writes. Candidate class c: 0 column command, 1 activate, 2 precharge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def ready_at(s: Array, b: int, f: int, m: int) -> int:
    """Earliest tick of a command of class `f` to bank `b`: the latest over its path."""
    t = max(s[b + f], s[(s[b + lay.B_PATH] & lay.AT) + f], s[(s[b + lay.B_PATH + 3] & lay.AT) + f])
    if m & lay.M_DEEP:  # several ranks, pseudo channels or stacks; else their rules are folded into the channel's
        t = max(t, s[(s[b + lay.B_PATH + 1] & lay.AT) + f], s[(s[b + lay.B_PATH + 2] & lay.AT) + f])
    return int(t)


@inner
def scope_ready_at(s: Array, b: int, f: int) -> int:
    """Earliest tick of an all-bank command to the rank / pseudo channel of bank `b`."""
    return int(max(s[(s[b + lay.B_PATH] & lay.AT) + f], s[(s[b + lay.B_PATH + 1] & lay.AT) + f]))


@inner
def class_bound(s: Array, o: int, f: int, m: int) -> int:
    """No bank of the channel is ready for class `f` before this tick."""
    t = s[o + lay.NODE + f]
    if m & lay.M_DEEP:
        low, n = s[o + lay.NODE1 + f], s[lay.G_N1]
        if n > 1:
            low = min(low, s[o + lay.NODE1 + 8 + f])
            for k in range(2, n):
                low = min(low, s[(o + lay.NODE1 + 8 * k + f) & lay.AT])
        t = max(t, low)
    return int(t)


@inner
def row_wake(s: Array, o: int, d: int, t: int, m: int) -> int:
    """The earliest tick from `t` on at which an activate or a precharge of direction `d` may issue.

    Writes down the lists that this holds for (H_DUE_ROWS, H_DUE).
    """
    low, w, n, odd = o + lay.H_LIST_MIN + d * lay.D_LISTS, lay.INF, 0, (m & lay.M_HALF) >> 1
    opens, closes = max(t, s[o + lay.NODE + lay.F_ACT]), max(t, s[o + lay.NODE + lay.F_PRE])
    for k in range(s[lay.G_N1] if m & lay.M_DEEP else 1):
        at = (low + 2 * k) & lay.AT
        opening, closing = max(opens, s[at + 1]), max(closes, s[at + 2])
        if m & lay.M_DEEP:
            node = (o + lay.NODE1 + 8 * k) & lay.AT
            opening, closing = max(opening, s[node + lay.F_ACT]), max(closing, s[node + lay.F_PRE])
        opening |= odd
        n = n if opening >= w else 0
        s[(o + lay.H_DUE + n) & lay.AT] = 1 + 2 * k
        n += opening <= w
        w = min(w, opening)
        n = n if closing >= w else 0
        s[(o + lay.H_DUE + n) & lay.AT] = 2 + 2 * k
        n += closing <= w
        w = min(w, closing)
    s[o + lay.H_DUE_ROWS] = n
    return int(w)


@outlined
def waits_for_hits(s: Array, o: int, d: int) -> bool:
    """FRFCFS-RowHit: might a precharge become possible once a hit has issued?"""
    waiting = 0
    for k in range(s[lay.G_N1]):
        waiting += s[o + lay.H_LIST_N + d * lay.D_LISTS + 2 + 2 * k]
    return waiting > 0


@inner
def list_of(s: Array, d: int, c: int, b: int) -> int:
    """Number of the candidate list for class `c` of bank `b`."""
    if c == 0:
        return d * lay.D_LISTS
    return int(d * lay.D_LISTS + c + 2 * s[b + lay.B_N1])


@inner
def list_add(s: Array, o: int, d: int, c: int, b: int, m: int) -> None:
    """Put bank `b` into a candidate list, with the earliest tick that its own rules allow (hits: all rules)."""
    q = list_of(s, d, c, b)
    ready = s[b + 1 + c]  # F_ACT, F_PRE
    if c == 0:
        ready = ready_at(s, b, d, m)
        if m & lay.M_EXACT and ready <= s[o + lay.H_HIT_T]:
            s[o + lay.H_HIT_T] = -1
    if c == 2 and s[b + lay.B_ACTIVE] > 0 and m & lay.M_CLOSED == 0:
        ready = lay.INF  # guarded until the activated request is served: `remove_active` puts the real time
    p = b + lay.B_POS + 3 * d + c
    n = s[p]
    if n < 0:
        n = s[o + lay.H_LIST_N + q]
        s[o + lay.H_LIST_N + q] = n + 1
        s[p] = n
    e = (o + lay.LISTS + q * lay.LIST_SIZE + n) & lay.AT
    s[e] = ready
    s[e + lay.L_BANK] = b
    if c > 0:
        s[e + lay.L_KEY] = s[b + lay.B_LIST + 4 * d + lay.B_MISS]
        s[o + lay.H_STOP] = min(s[o + lay.H_STOP], ready)
    s[o + lay.H_LIST_MIN + q] = min(s[o + lay.H_LIST_MIN + q], ready)


@inner
def list_remove(s: Array, o: int, d: int, c: int, b: int) -> None:
    """Take bank `b` out of a candidate list (nothing happens if it is not there)."""
    q = list_of(s, d, c, b)
    p = b + lay.B_POS + 3 * d + c
    at = s[p]
    if at < 0:
        return
    n = s[o + lay.H_LIST_N + q] - 1
    s[o + lay.H_LIST_N + q] = n
    base = o + lay.LISTS + q * lay.LIST_SIZE
    to, last = (base + at) & lay.AT, (base + n) & lay.AT  # the last one takes its place
    moved = s[last + lay.L_BANK] & lay.AT
    s[to] = s[last]
    s[to + lay.L_BANK] = moved
    s[to + lay.L_KEY] = s[last + lay.L_KEY]
    s[moved + lay.B_POS + 3 * d + c] = at
    s[p] = -1
    if n == 0:
        s[o + lay.H_LIST_MIN + q] = lay.INF


@inner
def rescan(s: Array, o: int, b: int, d: int, before: int, m: int) -> None:
    """The row of bank `b` was `before`: leave the lists that follow from it, find the candidates, join their lists."""
    e = b + lay.B_LIST + 4 * d
    row = s[b + lay.B_ROW]
    if s[e + lay.B_HIT] != lay.NO_KEY:
        s[e + lay.B_HIT] = lay.NO_KEY
        if m & lay.M_EXACT:
            s[o + lay.H_HIT_T] = -1
        list_remove(s, o, d, 0, b)
    if s[e + lay.B_MISS] != lay.NO_KEY:
        s[e + lay.B_MISS] = lay.NO_KEY
        list_remove(s, o, d, 1 if before == lay.CLOSED else 2, b)
    i = s[e + lay.B_HEAD]
    if row == lay.CLOSED and i >= 0:
        s[e + lay.B_MISS] = s[(i & lay.AT) + lay.S_KEY]
        list_add(s, o, d, 1, b, m)
    if row >= 0:
        hit, miss = lay.NO_KEY, lay.NO_KEY
        while i >= 0:
            i &= lay.AT
            if s[i + lay.S_ROW] == row:
                hit = min(hit, s[i + lay.S_KEY])
            else:
                miss = min(miss, s[i + lay.S_KEY])
            if max(hit, miss) < lay.NO_KEY:
                break
            i = s[i + lay.S_NEXT]
        if hit != lay.NO_KEY:
            s[e + lay.B_HIT] = hit
            list_add(s, o, d, 0, b, m)
        if miss != lay.NO_KEY:
            s[e + lay.B_MISS] = miss
            list_add(s, o, d, 2, b, m)


@inner
def set_row(s: Array, o: int, b: int, row: int, t: int, m: int) -> None:
    """Open (row >= 0), begin to open or close bank `b`, after the constraints of the command were applied."""
    before = s[b + lay.B_ROW]
    s[b + lay.B_ROW] = row
    n1 = s[b + lay.B_N1] & lay.AT
    if before == lay.CLOSED and row != lay.CLOSED:
        if s[o + lay.H_OPEN + n1] == 0:
            s[o + lay.H_SINCE + n1] = t
        s[o + lay.H_OPEN + n1] += 1
    if before != lay.CLOSED and row == lay.CLOSED:
        s[o + lay.H_OPEN + n1] -= 1
        if s[o + lay.H_OPEN + n1] == 0:
            s[o + lay.H_BUSY + n1] += t - s[o + lay.H_SINCE + n1]
    if row == lay.CLOSED and m & lay.M_CLOSED:
        if s[b + lay.B_ACC] >= s[lay.G_CLOSED] and s[b + lay.B_QUEUED] == 0:
            s[o + lay.H_POLICY_N] -= 1
        s[b + lay.B_ACC] = 0
        s[b + lay.B_QUEUED] = 0
    for d in range(s[lay.G_TWO]):  # not 2: one copy of the loop body is enough
        d &= 1
        e = b + lay.B_LIST + 4 * d
        if s[e + lay.B_HEAD] >= 0 or s[e + lay.B_HIT] != lay.NO_KEY or s[e + lay.B_MISS] != lay.NO_KEY:
            rescan(s, o, b, d, before, m)


@inner
def unlink(s: Array, o: int, b: int, d: int, i: int) -> None:
    """Take request slot `i` out of the list of its bank and its buffer. Candidates are set right by the caller."""
    e = b + lay.B_LIST + 4 * d
    before, after = s[i + lay.S_PREV], s[i + lay.S_NEXT]
    if before >= 0:
        s[(before & lay.AT) + lay.S_NEXT] = after
    else:
        s[e + lay.B_HEAD] = after
    if after >= 0:
        s[(after & lay.AT) + lay.S_PREV] = before
    else:
        s[e + lay.B_TAIL] = before
    s[o + lay.H_N + d] -= 1
    if d == 1:
        s[(s[o + lay.H_FILTER] & lay.AT) + ((s[i + lay.S_ADDR] >> s[lay.G_ADDR_SHIFT]) & (lay.FILTER_SIZE - 1))] -= 1


@inner
def next_hit(s: Array, o: int, b: int, d: int, i: int) -> None:
    """The oldest hit of bank `b` was removed; `i` is the slot that followed it: find the next hit."""
    row = s[b + lay.B_ROW]
    e = b + lay.B_LIST + 4 * d
    while i >= 0:
        i &= lay.AT
        if s[i + lay.S_ROW] == row:
            s[e + lay.B_HIT] = s[i + lay.S_KEY]
            return
        i = s[i + lay.S_NEXT]
    s[e + lay.B_HIT] = lay.NO_KEY
    list_remove(s, o, d, 0, b)


@inner
def raise_path(s: Array, first: int, last: int, b: int, t: int) -> None:
    """Rules `first` to `last` of a command that issues to bank `b` (or its scope) at `t`, for the nodes on its path."""
    for k in range(first, last):
        rule = s[(lay.G_TABLE + k) & lay.AT]
        i = (s[(b + lay.B_PATH + (rule & 7)) & lay.AT] + ((rule >> 3) & 7)) & lay.AT
        s[i] = max(s[i], t + (rule >> 6))


@inner
def raise_others(s: Array, o: int, command: int, b: int, t: int) -> None:
    """The rules of a command for the siblings of its path, and those that count several commands."""
    for k in range(s[lay.G_EXTRA + command], s[lay.G_EXTRA + command + 1]):
        x = (lay.G_XTABLE + 5 * k) & lay.AT
        if s[x] == 1:
            _raise_siblings(s, o, b, s[x + 1], s[x + 2] & 7, t + s[x + 3])
        else:
            _window(s, o, b, x, t)


@inner
def apply_constraints(s: Array, o: int, command: int, b: int, t: int) -> None:
    """`command` issues to bank `b` (or its scope) at `t`: raise the earliest ticks of what follows."""
    raise_path(s, s[lay.G_ROWS + command], s[lay.G_ROWS + command + 1], b, t)
    raise_others(s, o, command, b, t)


@outlined
def _raise_siblings(s: Array, o: int, b: int, level: int, f: int, v: int) -> None:
    mine = s[b + lay.B_PATH + (level & 7)]
    if level == 1:
        first, n = o + lay.NODE1, s[lay.G_N1]
    elif level == 2:
        n = s[lay.G_FAN2]
        first = o + lay.NODE2 + 8 * n * s[b + lay.B_N1]
    else:
        n = s[lay.G_FAN3]
        first = o + lay.NODE3 + n * (s[b + lay.B_PATH + 2] - o - lay.NODE2)
    for k in range(n):
        i = (first + 8 * k) & lay.AT
        if i != mine and s[i + f] < v:
            s[i + f] = v


@outlined
def _window(s: Array, o: int, b: int, x: int, t: int) -> None:
    n, level, f = s[x], s[x + 1] & 7, s[x + 2] & 7
    node = s[b + lay.B_PATH + level] & lay.AT
    ring = (s[o + lay.H_HIST] + (s[x + 4] * (lay.N_NODES + 1) + ((node - o - lay.NODE) >> 3)) * 16) & lay.AT
    at = s[ring + 15] & 15
    s[ring + at] = t
    at += 1
    if at == n:
        at = 0
    s[ring + 15] = at
    v = s[ring + at] + s[x + 3]
    if s[node + f] < v:
        s[node + f] = v


@outlined
def rebuild_lists(s: Array, o: int, m: int) -> None:
    """Candidates and candidate lists of all banks, and the ready times of activated requests, from the rest."""
    for q in range(lay.N_LISTS):
        s[o + lay.H_LIST_N + q], s[o + lay.H_LIST_MIN + q] = 0, lay.INF
    for k in range(s[lay.G_BANKS]):
        b = (o + lay.BANK + lay.BANK_SIZE * k) & lay.AT
        for q in range(6):
            s[b + lay.B_POS + q] = -1
        for d in range(s[lay.G_TWO]):
            if s[b + lay.B_LIST + 4 * (d & 1) + lay.B_HEAD] >= 0:
                rescan(s, o, b, d & 1, lay.CLOSED, m)
    s[o + lay.H_ACTIVE_MIN], s[o + lay.H_STOP] = lay.INF, 0
    s[o + lay.H_HIT_T] = s[o + lay.H_ACTIVE_AT] = -1
    for k in range(s[o + lay.H_ACTIVE_N]):
        e = (s[o + lay.H_ACTIVE] + 2 * k) & lay.AT
        i = s[e] & lay.AT
        s[e + 1] = ready_at(s, s[i + lay.S_BANK] & lay.AT, s[i + lay.S_KIND] & 1, m)
        s[o + lay.H_ACTIVE_MIN] = min(s[o + lay.H_ACTIVE_MIN], s[e + 1])
