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
        low = s[o + lay.NODE1 + f]
        for k in range(1, s[lay.G_N1]):
            low = min(low, s[o + lay.NODE1 + 8 * k + f])
        t = max(t, low)
    return int(t)


@inner
def list_add(s: Array, o: int, d: int, c: int, b: int, m: int) -> None:
    """Put bank `b` into a candidate list, with its ready time."""
    q = d * 3 + c
    f = d
    if c > 0:
        f = c + 1  # F_ACT, F_PRE
    ready = ready_at(s, b, f, m)
    if c == 2 and s[b + lay.B_ACTIVE] > 0 and m & lay.M_CLOSED == 0:
        ready = lay.INF  # guarded until the activated request is served: `remove_active` puts the real time
    p = b + lay.B_POS + q
    n = s[p]
    if n < 0:
        n = s[o + lay.H_LIST_N + q]
        s[o + lay.H_LIST_N + q] = n + 1
        s[p] = n
    e = (o + lay.LISTS + q * lay.LIST_SIZE + 2 * n) & lay.AT
    s[e] = b
    s[e + 1] = ready
    if ready < s[o + lay.H_LIST_MIN + q]:
        s[o + lay.H_LIST_MIN + q] = ready


@inner
def list_remove(s: Array, o: int, d: int, c: int, b: int) -> None:
    """Take bank `b` out of a candidate list (nothing happens if it is not there)."""
    q = d * 3 + c
    p = b + lay.B_POS + q
    at = s[p]
    if at < 0:
        return
    n = s[o + lay.H_LIST_N + q] - 1
    s[o + lay.H_LIST_N + q] = n
    s[p] = -1
    base = o + lay.LISTS + q * lay.LIST_SIZE
    if at != n:
        to, last = (base + 2 * at) & lay.AT, (base + 2 * n) & lay.AT
        moved = s[last] & lay.AT
        s[to] = moved
        s[to + 1] = s[last + 1]
        s[moved + lay.B_POS + q] = at
    if n == 0:
        s[o + lay.H_LIST_MIN + q] = lay.INF


@inner
def rescan(s: Array, o: int, b: int, d: int, m: int) -> None:
    """After a change of the bank's state: find its oldest hit and oldest other request, and its lists."""
    e = b + lay.B_LIST + 4 * d
    i = s[e + lay.B_HEAD]
    row = s[b + lay.B_ROW]
    hit, miss = lay.NO_KEY, lay.NO_KEY
    if row >= 0:
        while i >= 0:
            i &= lay.AT
            if s[i + lay.S_ROW] == row:
                if hit == lay.NO_KEY:
                    hit = s[i + lay.S_KEY]
                    if miss != lay.NO_KEY:
                        break
            elif miss == lay.NO_KEY:
                miss = s[i + lay.S_KEY]
                if hit != lay.NO_KEY:
                    break
            i = s[i + lay.S_NEXT]
    elif row == lay.CLOSED and i >= 0:
        miss = s[(i & lay.AT) + lay.S_KEY]
    s[e + lay.B_HIT] = hit
    s[e + lay.B_MISS] = miss
    for c in range(s[lay.G_THREE]):
        c &= 3
        if (hit if c == 0 else miss) != lay.NO_KEY and (row < 0) == (c == 1):
            list_add(s, o, d, c, b, m)
        else:
            list_remove(s, o, d, c, b)


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
            rescan(s, o, b, d, m)


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
def apply_constraints(s: Array, o: int, command: int, b: int, t: int) -> None:
    """`command` issues to bank `b` (or its scope) at `t`: raise the earliest ticks of what follows."""
    for k in range(s[lay.G_ROWS + command], s[lay.G_ROWS + command + 1]):
        rule = s[(lay.G_TABLE + k) & lay.AT]
        i = (s[(b + lay.B_PATH + (rule & 7)) & lay.AT] + ((rule >> 3) & 7)) & lay.AT
        s[i] = max(s[i], t + (rule >> 6))
    for k in range(s[lay.G_EXTRA + command], s[lay.G_EXTRA + command + 1]):
        x = (lay.G_XTABLE + 5 * k) & lay.AT
        if s[x] == 1:
            _raise_siblings(s, o, b, s[x + 1], s[x + 2] & 7, t + s[x + 3])
        else:
            _window(s, o, b, x, t)


@outlined
def _raise_siblings(s: Array, o: int, b: int, level: int, f: int, v: int) -> None:
    mine = s[b + lay.B_PATH + (level & 7)] & lay.AT
    first, n = o + lay.NODE1, s[lay.G_N1]
    if level == 2:
        n = s[lay.G_FAN2]
        first = o + lay.NODE2 + (s[b + lay.B_PATH + 1] - o - lay.NODE1) * n
    elif level == 3:
        n = s[lay.G_FAN3]
        first = o + lay.NODE3 + (s[b + lay.B_PATH + 2] - o - lay.NODE2) * n
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
    for q in range(6):
        s[o + lay.H_LIST_N + q], s[o + lay.H_LIST_MIN + q] = 0, lay.INF
    for k in range(s[lay.G_BANKS]):
        b = (o + lay.BANK + lay.BANK_SIZE * k) & lay.AT
        for q in range(6):
            s[b + lay.B_POS + q] = -1
        for d in range(s[lay.G_TWO]):
            if s[b + lay.B_LIST + 4 * (d & 1) + lay.B_HEAD] >= 0:
                rescan(s, o, b, d & 1, m)
    s[o + lay.H_ACTIVE_MIN] = lay.INF
    for k in range(s[o + lay.H_ACTIVE_N]):
        e = (s[o + lay.H_ACTIVE] + 2 * k) & lay.AT
        i = s[e] & lay.AT
        s[e + 1] = ready_at(s, s[i + lay.S_BANK] & lay.AT, s[i + lay.S_KIND] & 1, m)
        s[o + lay.H_ACTIVE_MIN] = min(s[o + lay.H_ACTIVE_MIN], s[e + 1])
