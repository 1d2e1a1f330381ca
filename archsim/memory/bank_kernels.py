"""Earliest issue times, bank states and the per-bank request lists of the command engine.

Every function takes the engine array `s` (see layout_kernels), `o` = start of a channel block and `b` = start of a
bank record. Direction d: 0 reads, 1 writes. Candidate class c: 0 column command, 1 activate, 2 precharge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory import layout_kernels as L
from archsim.memory.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def ready_at(s: Array, b: int, f: int) -> int:
    """Earliest tick of a command of class `f` to bank `b`: the latest over its path."""
    t = max(s[b + f], s[(s[b + L.B_PATH] & L.AT) + f], s[(s[b + L.B_PATH + 3] & L.AT) + f])
    if s[L.G_DEEP] != 0:  # several ranks, pseudo channels or stacks; else their rules are folded into the channel's
        t = max(t, s[(s[b + L.B_PATH + 1] & L.AT) + f], s[(s[b + L.B_PATH + 2] & L.AT) + f])
    return t


@inner
def scope_ready_at(s: Array, b: int, f: int) -> int:
    """Earliest tick of an all-bank command to the rank / pseudo channel of bank `b`."""
    return max(s[(s[b + L.B_PATH] & L.AT) + f], s[(s[b + L.B_PATH + 1] & L.AT) + f])


@inner
def class_bound(s: Array, o: int, f: int) -> int:
    """No bank of the channel is ready for class `f` before this tick."""
    t = s[o + L.NODE + f]
    if s[L.G_N1] > 1:
        low = s[o + L.NODE1 + f]
        for k in range(1, s[L.G_N1]):
            low = min(low, s[o + L.NODE1 + 8 * k + f])
        t = max(t, low)
    return t


@inner
def list_add(s: Array, o: int, d: int, c: int, b: int) -> None:
    """Put bank `b` into a candidate list, with its ready time."""
    q = d * 3 + c
    f = d
    if c > 0:
        f = c + 1  # F_ACT, F_PRE
    ready = ready_at(s, b, f)
    p = b + L.B_POS + q
    n = s[p]
    if n < 0:
        n = s[o + L.H_LIST_N + q]
        s[o + L.H_LIST_N + q] = n + 1
        s[p] = n
    e = (o + L.LISTS + q * L.LIST_SIZE + 2 * n) & L.AT
    s[e] = b
    s[e + 1] = ready
    if ready < s[o + L.H_LIST_MIN + q]:
        s[o + L.H_LIST_MIN + q] = ready


@inner
def list_remove(s: Array, o: int, d: int, c: int, b: int) -> None:
    """Take bank `b` out of a candidate list (nothing happens if it is not there)."""
    q = d * 3 + c
    p = b + L.B_POS + q
    at = s[p]
    if at < 0:
        return
    n = s[o + L.H_LIST_N + q] - 1
    s[o + L.H_LIST_N + q] = n
    s[p] = -1
    base = o + L.LISTS + q * L.LIST_SIZE
    if at != n:
        to, last = (base + 2 * at) & L.AT, (base + 2 * n) & L.AT
        moved = s[last] & L.AT
        s[to] = moved
        s[to + 1] = s[last + 1]
        s[moved + L.B_POS + q] = at
    if n == 0:
        s[o + L.H_LIST_MIN + q] = L.INF


@inner
def rescan(s: Array, o: int, b: int, d: int) -> None:
    """After a change of the bank's state: find its oldest hit and oldest other request, and its lists."""
    e = b + L.B_LIST + 4 * d
    i = s[e + L.B_HEAD]
    row = s[b + L.B_ROW]
    hit, miss = L.NO_KEY, L.NO_KEY
    if row >= 0:
        while i >= 0:
            i &= L.AT
            if s[i + L.S_ROW] == row:
                if hit == L.NO_KEY:
                    hit = s[i + L.S_KEY]
                    if miss != L.NO_KEY:
                        break
            elif miss == L.NO_KEY:
                miss = s[i + L.S_KEY]
                if hit != L.NO_KEY:
                    break
            i = s[i + L.S_NEXT]
    elif row == L.CLOSED and i >= 0:
        miss = s[(i & L.AT) + L.S_KEY]
    s[e + L.B_HIT] = hit
    s[e + L.B_MISS] = miss
    if hit != L.NO_KEY:
        list_add(s, o, d, 0, b)
    else:
        list_remove(s, o, d, 0, b)
    closed = row < 0
    if miss != L.NO_KEY and closed:
        list_add(s, o, d, 1, b)
    else:
        list_remove(s, o, d, 1, b)
    if miss != L.NO_KEY and not closed:
        list_add(s, o, d, 2, b)
    else:
        list_remove(s, o, d, 2, b)


@inner
def set_row(s: Array, o: int, b: int, row: int) -> None:
    """Open (row >= 0), begin to open or close bank `b`, after the constraints of the command were applied."""
    before = s[b + L.B_ROW]
    s[b + L.B_ROW] = row
    n1 = s[b + L.B_N1] & L.AT
    if before == L.CLOSED and row != L.CLOSED:
        s[o + L.H_OPEN + n1] += 1
    if before != L.CLOSED and row == L.CLOSED:
        s[o + L.H_OPEN + n1] -= 1
    if row == L.CLOSED:
        if s[L.G_CLOSED] > 0 and s[b + L.B_ACC] >= s[L.G_CLOSED] and s[b + L.B_QUEUED] == 0:
            s[o + L.H_POLICY_N] -= 1
        s[b + L.B_ACC] = 0
        s[b + L.B_QUEUED] = 0
    for d in range(2):
        e = b + L.B_LIST + 4 * d
        if s[e + L.B_HEAD] >= 0 or s[e + L.B_HIT] != L.NO_KEY or s[e + L.B_MISS] != L.NO_KEY:
            rescan(s, o, b, d)


@inner
def unlink(s: Array, o: int, b: int, d: int, i: int) -> None:
    """Take request slot `i` out of the list of its bank and its buffer. Candidates are set right by the caller."""
    e = b + L.B_LIST + 4 * d
    before, after = s[i + L.S_PREV], s[i + L.S_NEXT]
    if before >= 0:
        s[(before & L.AT) + L.S_NEXT] = after
    else:
        s[e + L.B_HEAD] = after
    if after >= 0:
        s[(after & L.AT) + L.S_PREV] = before
    else:
        s[e + L.B_TAIL] = before
    s[o + L.H_N + d] -= 1
    if d == 1:
        s[(s[o + L.H_FILTER] & L.AT) + ((s[i + L.S_ADDR] >> s[L.G_ADDR_SHIFT]) & (L.FILTER_SIZE - 1))] -= 1


@inner
def next_hit(s: Array, o: int, b: int, d: int, i: int) -> None:
    """The oldest hit of bank `b` was removed; `i` is the slot that followed it: find the next hit."""
    row = s[b + L.B_ROW]
    e = b + L.B_LIST + 4 * d
    while i >= 0:
        i &= L.AT
        if s[i + L.S_ROW] == row:
            s[e + L.B_HIT] = s[i + L.S_KEY]
            return
        i = s[i + L.S_NEXT]
    s[e + L.B_HIT] = L.NO_KEY
    list_remove(s, o, d, 0, b)


@inner
def apply_constraints(s: Array, o: int, command: int, b: int, t: int) -> None:
    """`command` issues to bank `b` (or its scope) at `t`: raise the earliest ticks of what follows."""
    for k in range(s[L.G_ROWS + command], s[L.G_ROWS + command + 1]):
        at = (L.G_TABLE + 2 * k) & L.AT
        code = s[at] & L.AT
        i = (s[b + L.B_PATH + (code >> 3)] & L.AT) + (code & 7)
        v = t + s[at + 1]
        if s[i] < v:
            s[i] = v
    for k in range(s[L.G_EXTRA + command], s[L.G_EXTRA + command + 1]):
        x = (L.G_XTABLE + 5 * k) & L.AT
        if s[x] == 1:
            _raise_siblings(s, o, b, s[x + 1], s[x + 2], t + s[x + 3])
        else:
            _window(s, o, b, x, t)


@outlined
def _raise_siblings(s: Array, o: int, b: int, level: int, f: int, v: int) -> None:
    mine = s[b + L.B_PATH + level]
    if level == 1:
        first, n = o + L.NODE1, s[L.G_N1]
    elif level == 2:
        n = s[L.G_FAN2]
        first = o + L.NODE2
        first += (mine - first) // (8 * n) * (8 * n)
    else:
        n = s[L.G_FAN3]
        first = o + L.NODE3
        first += (mine - first) // (8 * n) * (8 * n)
    for k in range(n):
        i = first + 8 * k
        if i != mine and s[i + f] < v:
            s[i + f] = v


@outlined
def _window(s: Array, o: int, b: int, x: int, t: int) -> None:
    n, level, f = s[x], s[x + 1], s[x + 2]
    node = s[b + L.B_PATH + level]
    ring = s[o + L.H_HIST] + (s[x + 4] * (L.N_NODES + 1) + (node - o - L.NODE) // 8) * 16
    at = s[ring + 15]
    s[ring + at] = t
    at += 1
    if at == n:
        at = 0
    s[ring + 15] = at
    v = s[ring + at] + s[x + 3]
    if s[node + f] < v:
        s[node + f] = v
