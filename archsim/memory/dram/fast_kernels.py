"""Runs of row hits served in order: the common case of streaming reads, without lists and scans.

While every queued read is a hit, too few writes wait to be served, nothing is activated and no refresh is due, the
oldest read is the next to issue if no younger one can be ready before it. Then only the time of the oldest counts, and
the request that takes its place in the full queue. The loop ends, and the lists are made up again, at the first request
or tick at which any of this fails; so the result is that of the general loop, tick by tick.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import apply_constraints, class_bound, list_add, list_remove, ready_at
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
_USEFUL_RUN, _SHORTEST_PAUSE, _LONGEST_PAUSE = 40, 16, 4096


@inner
def fast_possible(s: Array, o: int) -> bool:
    """Is the channel in the state that `fast_run` needs?"""
    return bool(
        s[lay.G_BLOCK_O] == o
        and s[lay.G_BLOCK_DIR] == 0
        and s[o + lay.H_N] == s[lay.G_RCAP]
        and s[o + lay.H_LIST_N + 1] == 0
        and s[o + lay.H_LIST_N + 2] == 0
        and s[o + lay.H_NW] <= s[lay.G_HI]
        and s[lay.G_RCAP] > 1
        and s[o + lay.H_ACTIVE_N] == 0
        and s[o + lay.H_PRIO_N] == 0
        and s[o + lay.H_MODE] == 0
        and s[o + lay.H_PENDING] < 0
        and s[o + lay.H_CAS] < 0
        and s[lay.G_NEXT] >= s[o + lay.H_FAST_RETRY]
    )


@outlined
def _gather(s: Array, o: int) -> None:
    """The queued reads in order of age in the ring; the banks leave the candidate list."""
    ring = s[o + lay.H_RING] & lay.AT
    n = 0
    while s[o + lay.H_LIST_N] > 0:
        b = s[o + lay.LISTS] & lay.AT
        i = s[b + lay.B_LIST + lay.B_HEAD]
        while i >= 0:
            i &= lay.AT
            at = n
            while at > 0 and s[(s[ring + at - 1] & lay.AT) + lay.S_KEY] > s[i + lay.S_KEY]:
                s[ring + at] = s[ring + at - 1]
                at -= 1
            s[ring + at] = i
            n += 1
            i = s[i + lay.S_NEXT]
        s[b + lay.B_LIST + lay.B_HEAD] = -1
        s[b + lay.B_LIST + lay.B_TAIL] = -1
        s[b + lay.B_LIST + lay.B_HIT] = lay.NO_KEY
        list_remove(s, o, 0, 0, b)


@outlined
def _scatter(s: Array, o: int, head: int, n: int) -> None:
    """`n` reads of the ring, oldest at `head`, back into the lists of their banks."""
    ring, size = s[o + lay.H_RING] & lay.AT, s[lay.G_RCAP]
    for k in range(n):
        at = head + k
        if at >= size:
            at -= size
        i = s[(ring + at) & lay.AT] & lay.AT
        b = s[i + lay.S_BANK] & lay.AT
        tail = s[b + lay.B_LIST + lay.B_TAIL]
        s[i + lay.S_PREV] = tail
        s[i + lay.S_NEXT] = -1
        s[b + lay.B_LIST + lay.B_TAIL] = i
        if tail >= 0:
            s[(tail & lay.AT) + lay.S_NEXT] = i
        else:
            s[b + lay.B_LIST + lay.B_HEAD] = i
            s[b + lay.B_LIST + lay.B_HIT] = s[i + lay.S_KEY]
            list_add(s, o, 0, 0, b)
    s[o + lay.H_N] = n


@outlined
def _last_change(s: Array, o: int) -> int:
    """Position in the freshly filled ring after which all reads go to one bank."""
    ring = s[o + lay.H_RING] & lay.AT
    change, last = 0, s[(s[ring] & lay.AT) + lay.S_BANK]
    for k in range(1, s[lay.G_RCAP]):
        b = s[(s[(ring + k) & lay.AT] & lay.AT) + lay.S_BANK]
        if b != last:
            change, last = k, b
    return change


@outlined
def _in_order(s: Array, o: int, head: int, ready: int) -> bool:
    """Can no younger read be ready before the oldest, which is at `ready`?"""
    ring, size = s[o + lay.H_RING] & lay.AT, s[lay.G_RCAP]
    last = s[(s[(ring + head) & lay.AT] & lay.AT) + lay.S_BANK]
    for k in range(1, size):
        at = head + k
        if at >= size:
            at -= size
        b = s[(s[(ring + at) & lay.AT] & lay.AT) + lay.S_BANK]
        if b != last:
            if ready_at(s, b & lay.AT, lay.F_RD) < ready:
                return False
            last = b
    return True


@inner
def _may_forward(s: Array, o: int, address: int) -> bool:
    """Might a write to this address be waiting? (The filter may say yes without one.)"""
    slot = (address >> s[lay.G_ADDR_SHIFT]) & (lay.FILTER_SIZE - 1)
    return bool(s[(s[o + lay.H_FILTER] & lay.AT) + slot] != 0)


@outlined
def fast_run(s: Array, o: int, t: int, locations: Array, addresses: Array) -> int:
    """Serve hits from tick `t` on; returns the tick of the last one, or -1 if there was none.

    After a run the front end must offer again at that tick. locations, addresses: the chunk, as for `advance`.
    """
    _gather(s, o)
    ring, size, first = s[o + lay.H_RING] & lay.AT, s[lay.G_RCAP], s[lay.G_CHUNK0]
    number, end, half, split = s[lay.G_NEXT], s[lay.G_CHUNK1], s[lay.G_HALF], s[lay.G_SPLIT]
    out, latency = (s[lay.G_OUT] + s[lay.G_OUT_N]) & lay.AT, s[lay.G_RLAT]
    head, served, hits, now = 0, 0, 0, t - 1
    change, newest = _last_change(s, o), s[(s[(ring + size - 1) & lay.AT] & lay.AT) + lay.S_BANK]
    open_end, writes = False, s[o + lay.H_NW] > 0
    while True:
        i = s[(ring + head) & lay.AT] & lay.AT
        b = s[i + lay.S_BANK] & lay.AT
        soonest = max(now + 1, class_bound(s, o, lay.F_RD))
        tick = max(soonest, ready_at(s, b, lay.F_RD))
        if tick > soonest and change > served and not _in_order(s, o, head, tick):
            break
        if half != 0:
            tick |= 1
        if tick >= s[o + lay.H_NEXT_REF] or (split != 0 and tick >= s[o + lay.H_WCK]):
            break
        apply_constraints(s, o, lay.RD, b, tick)
        now = tick
        if split != 0:
            s[o + lay.H_WCK] = max(s[o + lay.H_WCK], tick + s[lay.G_WCK_RD])
        hits += 1 - ((s[i + lay.S_KIND] >> 1) & 1)
        s[(out + served) & lay.AT] = tick + latency - s[i + lay.S_ARRIVAL]
        if s[lay.G_RECORD] != 0:
            e = (s[lay.G_OUT2] + 2 * (s[lay.G_OUT_N] + served)) & lay.AT
            s[e], s[e + 1] = s[i + lay.S_KEY] >> lay.SLOT_BITS, tick + latency
        served += 1
        if number + 1 >= end:
            open_end = True
            break
        at = (number - first) & lay.AT
        location = locations[at]
        b = (o + lay.BANK + ((location >> lay.LOC_BANK) & 0x3FF) * lay.BANK_SIZE) & lay.AT
        row = (location >> lay.LOC_ROW) & 0xFFFFFFFF
        special = (location | locations[at + 1]) >> lay.LOC_WRITE != 0 or s[b + lay.B_ROW] != row
        if writes and not special:  # a read of a waiting write's data would be forwarded, even by a full queue
            special = _may_forward(s, o, addresses[at]) or _may_forward(s, o, addresses[at + 1])
        if special:
            open_end = True
            break
        if b != newest:  # reads `change` and later go to one bank
            change, newest = served + size - 1, b
        s[i + lay.S_ROW] = row
        s[i + lay.S_BANK] = b
        s[i + lay.S_ARRIVAL] = tick
        s[i + lay.S_ADDR] = addresses[at]
        s[i + lay.S_KEY] = (number << lay.SLOT_BITS) | (s[i + lay.S_KEY] & lay.SLOT_MASK)
        s[i + lay.S_KIND] = (location & 0xFFF) << 8
        number += 1
        head = head + 1 if head + 1 < size else 0
    waiting = size
    if open_end:  # the slot of the last one is free again
        i = s[(ring + head) & lay.AT] & lay.AT
        s[i + lay.S_NEXT] = s[o + lay.H_FREE]
        s[o + lay.H_FREE] = i
        head = head + 1 if head + 1 < size else 0
        waiting -= 1
        s[lay.G_REMAINING] -= 1
        s[lay.G_FE_WAKE] = now
    _scatter(s, o, head, waiting)
    pause = (
        _SHORTEST_PAUSE  # making up the lists costs as much as some tens of requests: wait longer after each failure
    )
    if served < _USEFUL_RUN:
        pause = min(_LONGEST_PAUSE, 2 * s[o + lay.H_FAST_PAUSE])
    s[o + lay.H_FAST_PAUSE] = pause
    s[o + lay.H_FAST_RETRY] = number + pause
    _account(s, o, served, hits, number, now + latency)
    return now if served > 0 else -1


@inner
def _account(s: Array, o: int, served: int, hits: int, number: int, due: int) -> None:
    s[lay.G_OUTSTANDING] += number - s[lay.G_NEXT]
    s[lay.G_NEXT] = number
    s[o + lay.H_COUNT + lay.RD] += served
    s[o + lay.H_HITS] += hits
    s[lay.G_OUT_N] += served
    if served > 0:
        s[o + lay.H_DIRTY] = 1
        s[lay.G_END] = max(s[lay.G_END], due)
        s[lay.G_FINISH] = max(s[lay.G_FINISH], due)
