"""Streaming reads: while nothing but reads of open rows can issue, one issues for each request taken.

Needed: a full read queue that the front end waits for, too few writes to be served, no refresh due. Then, up to the
first tick at which a row command or a read that was activated may issue, the next command is the oldest read that can
issue first, and the request that takes its place is known. The loop works on the lists of the general one and ends at
the first request or tick at which any of this fails.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import (
    class_bound,
    list_add,
    raise_others,
    raise_path,
    ready_at,
    row_wake,
    waits_for_hits,
)
from archsim.memory.dram.enter_kernels import may_forward
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
_USEFUL_RUN, _LONGEST_PAUSE = 3, 1024


@inner
def hits_until(s: Array, o: int, t: int, m: int) -> int:
    """Only hits can issue after clock `t` and before the tick returned; 0: none can, or more than that is going on."""
    if (
        s[lay.G_NEXT] < s[lay.G_HIT_RETRY]
        or s[o + lay.H_LIST_N] == 0
        or s[o + lay.H_NW] > s[lay.G_HI]
        or s[o + lay.H_PRIO_N] > 0
        or s[o + lay.H_MODE] != 0
        or s[o + lay.H_PENDING] >= 0
        or s[o + lay.H_CAS] >= 0
        or (m & lay.M_ROWHIT and waits_for_hits(s, o, 0))
    ):
        return 0
    stop = s[o + lay.H_NEXT_REF]
    if s[o + lay.H_ACTIVE_N] > 0:
        stop = min(stop, s[o + lay.H_ACTIVE_MIN])
    stop = min(stop, row_wake(s, o, 0, t + 1, m))
    if max(t + 1, s[o + lay.H_LIST_MIN], class_bound(s, o, lay.F_RD, m)) >= stop:
        return 0
    return int(stop)


@inner
def _age(s: Array, b: int) -> int:
    """Key of the oldest read of bank `b`."""
    return int(s[(b & lay.AT) + lay.B_LIST + lay.B_HIT])


@outlined
def _gather(s: Array, o: int, order: int) -> int:
    """Banks with reads in order of age from position 1 on; returns the position after the last."""
    tail = 1
    for k in range(s[o + lay.H_LIST_N]):
        b = s[(o + lay.LISTS + lay.L_BANK + k) & lay.AT]
        at, key = tail, _age(s, b)
        while at > 1 and _age(s, s[(order + at - 1) & lay.AT]) > key:
            s[(order + at) & lay.AT] = s[(order + at - 1) & lay.AT]
            at -= 1
        s[(order + at) & lay.AT] = b
        tail += 1
    return tail


@outlined
def _scatter(s: Array, o: int, order: int, head: int, tail: int, m: int) -> None:
    """Make up the candidate list of hits again, in order of age: then the next `_gather` has little to move."""
    for k in range(s[o + lay.H_LIST_N]):
        s[(s[(o + lay.LISTS + lay.L_BANK + k) & lay.AT] & lay.AT) + lay.B_POS] = -1
    s[o + lay.H_LIST_N], s[o + lay.H_LIST_MIN], s[o + lay.H_HIT_T], s[o + lay.H_ACTIVE_AT] = 0, lay.INF, -1, -1
    for k in range(head, tail):
        list_add(s, o, 0, 0, s[(order + k) & lay.AT] & lay.AT, m)


@inner
def _pop(s: Array, o: int, b: int) -> int:
    """Take the oldest hit of bank `b` out of its list."""
    e = b + lay.B_LIST
    i = ((s[o + lay.H_SLOTS] & lay.AT) + (s[e + lay.B_HIT] & lay.SLOT_MASK) * lay.SLOT_SIZE) & lay.AT
    before, after, row = s[i + lay.S_PREV], s[i + lay.S_NEXT], s[b + lay.B_ROW]
    if before >= 0:
        s[(before & lay.AT) + lay.S_NEXT] = after
    else:
        s[e + lay.B_HEAD] = after
    if after >= 0:
        s[(after & lay.AT) + lay.S_PREV] = before
    else:
        s[e + lay.B_TAIL] = before
    while after >= 0 and s[(after & lay.AT) + lay.S_ROW] != row:
        after = s[(after & lay.AT) + lay.S_NEXT]
    s[e + lay.B_HIT] = s[(after & lay.AT) + lay.S_KEY] if after >= 0 else lay.NO_KEY
    return int(i)


@inner
def _push(s: Array, b: int, i: int, number: int, location: int, address: int, t: int) -> bool:
    """Append the request to the reads of bank `b`, in slot `i`. Is it the only hit?"""
    e, row = b + lay.B_LIST, (location >> lay.LOC_ROW) & 0xFFFFFFFF
    tail, key = s[e + lay.B_TAIL], (number << lay.SLOT_BITS) | (s[i + lay.S_KEY] & lay.SLOT_MASK)
    s[i + lay.S_ROW] = row
    s[i + lay.S_BANK] = b
    s[i + lay.S_ARRIVAL] = t
    s[i + lay.S_NEXT] = -1
    s[i + lay.S_PREV] = tail
    s[i + lay.S_ADDR] = address
    s[i + lay.S_KEY] = key
    s[i + lay.S_KIND] = (location & 0xFFF) << 8
    s[e + lay.B_TAIL] = i
    if tail >= 0:
        s[(tail & lay.AT) + lay.S_NEXT] = i
    else:
        s[e + lay.B_HEAD] = i
    if s[e + lay.B_HIT] != lay.NO_KEY or row != s[b + lay.B_ROW]:
        return False
    s[e + lay.B_HIT] = key
    return True


@inner
def _soonest(s: Array, order: int, head: int, tail: int, soonest: int, m: int) -> int:
    """Place of the bank whose oldest read can issue first; of several, the one that is oldest."""
    odd = (m & lay.M_HALF) >> 1
    place, best = head, max(soonest, ready_at(s, s[(order + head) & lay.AT] & lay.AT, lay.F_RD, m) | odd)
    for k in range(head + 1, tail):
        if best == soonest:
            break
        ready = max(soonest, ready_at(s, s[(order + k) & lay.AT] & lay.AT, lay.F_RD, m) | odd)
        if ready < best:
            place, best = k, ready
    return place


@inner
def _move_up(s: Array, order: int, head: int, tail: int, place: int, b: int) -> int:
    """Bank `b` at `place` was served: `head` becomes free, `b` goes where its next read puts it. The new tail."""
    for k in range(place, head, -1):
        s[(order + k) & lay.AT] = s[(order + k - 1) & lay.AT]
    key = _age(s, b)
    if key == lay.NO_KEY:
        return tail
    place = tail
    while place > head + 1 and _age(s, s[(order + place - 1) & lay.AT]) > key:
        s[(order + place) & lay.AT] = s[(order + place - 1) & lay.AT]
        place -= 1
    s[(order + place) & lay.AT] = b
    return tail + 1


@inner
def _raise_read(s: Array, o: int, touched: int, n: int, start: int, b: int, t: int) -> int:
    """A read issues at `t`: raise the earliest ticks of reads. Appends bank `b` to `touched` if it is the first there.

    Everything else that it restricts waits until the end of the run: B_LAST tells what it was.
    """
    first = s[lay.G_ROWS + lay.RD]
    raise_path(s, first, first + s[lay.G_READ_RULES], b, t)
    raise_others(s, o, lay.RD, b, t)
    untouched = s[b + lay.B_LAST] <= start
    s[b + lay.B_LAST] = t
    if untouched:
        s[(touched + n) & lay.AT] = b
    return int(untouched)


@outlined
def _rewind(s: Array, order: int, head: int, tail: int) -> int:
    """Move the banks back to position 1."""
    for k in range(head, tail):
        s[(order + 1 + k - head) & lay.AT] = s[(order + k) & lay.AT]
    return 1


@outlined
def hit_run(s: Array, o: int, t: int, stop: int, locations: Array, addresses: Array, m: int) -> int:
    """Serve hits after clock `t` and before `stop`; returns the clock of the front end then, -1: no read issued.

    locations, addresses: the chunk, as for `advance`.
    """
    order = s[o + lay.H_ORDER] & lay.AT
    tail, head = _gather(s, o, order), 1
    first, number = s[lay.G_CHUNK0], s[lay.G_NEXT]
    end = min(s[lay.G_CHUNK1], s[lay.G_LOOK_AT])
    out, latency, odd = (s[lay.G_OUT] + s[lay.G_OUT_N]) & lay.AT, s[lay.G_RLAT], (m & lay.M_HALF) >> 1
    served, hits, now, touched, writes = 0, 0, t, 0, s[o + lay.H_NW] > 0
    i = -1  # the slot of the last read served, as long as it is free
    while head < tail:
        soonest = max(now + 1, class_bound(s, o, lay.F_RD, m)) | odd
        place = _soonest(s, order, head, tail, soonest, m)
        b = s[(order + place) & lay.AT] & lay.AT
        tick = max(soonest, ready_at(s, b, lay.F_RD, m) | odd)
        if tick >= stop or (m & lay.M_SPLIT and tick >= s[o + lay.H_WCK]):
            break
        touched += _raise_read(s, o, order + lay.ORDER_SIZE, touched, t, b, tick)
        now = tick
        if m & lay.M_SPLIT:
            s[o + lay.H_WCK] = max(s[o + lay.H_WCK], tick + s[lay.G_WCK_RD])
        i = _pop(s, o, b)
        if tail - head > 1 or _age(s, b) == lay.NO_KEY:
            tail = _move_up(s, order, head, tail, place, b)
            head += 1
        hits += 1 - ((s[i + lay.S_KIND] >> 1) & 1)
        s[(out + served) & lay.AT] = tick + latency - s[i + lay.S_ARRIVAL]
        if m & lay.M_RECORD:
            e = (s[lay.G_OUT2] + 2 * (s[lay.G_OUT_N] + served)) & lay.AT
            s[e], s[e + 1] = s[i + lay.S_KEY] >> lay.SLOT_BITS, tick + latency
        served += 1
        if number + 1 >= end:
            break
        at = (number - first) & lay.AT
        location = locations[at]
        b = (o + lay.BANK + ((location >> lay.LOC_BANK) & 0x3FF) * lay.BANK_SIZE) & lay.AT
        if (location | locations[at + 1]) >> lay.LOC_WRITE:
            break
        # a read of another row changes nothing if its bank already waits for one
        hit = s[b + lay.B_ROW] == (location >> lay.LOC_ROW) & 0xFFFFFFFF
        if not hit and s[b + lay.B_LIST + lay.B_MISS] == lay.NO_KEY:
            break
        # a read of a waiting write's data would be forwarded, even by a full queue
        if writes and (may_forward(s, o, addresses[at]) or may_forward(s, o, addresses[at + 1])):
            break
        if _push(s, b, i, number, location, addresses[at], tick):
            s[(order + tail) & lay.AT] = b
            tail += 1
        number += 1
        i = -1
        if tail + 2 >= lay.ORDER_SIZE:
            head, tail = _rewind(s, order, head, tail), 1 + tail - head
    if i >= 0:
        s[i + lay.S_NEXT], s[o + lay.H_FREE] = s[o + lay.H_FREE], i
        s[o + lay.H_N] -= 1
    for k in range(touched):  # of the reads of a bank the last one decides when anything but a read may follow
        b = s[(order + lay.ORDER_SIZE + k) & lay.AT] & lay.AT
        raise_path(s, s[lay.G_ROWS + lay.RD] + s[lay.G_READ_RULES], s[lay.G_ROWS + lay.RD + 1], b, s[b + lay.B_LAST])
    _scatter(s, o, order, head, tail, m)
    return _account(s, o, served, hits, number, now, now + latency)


@inner
def _account(s: Array, o: int, served: int, hits: int, number: int, now: int, due: int) -> int:
    pause = 0
    if served < _USEFUL_RUN:
        pause = min(_LONGEST_PAUSE, 2 * s[lay.G_HIT_PAUSE] + 1)
    s[lay.G_HIT_PAUSE], s[lay.G_HIT_RETRY] = pause, number + pause
    if served == 0:
        return -1
    s[lay.G_OUTSTANDING] += number - s[lay.G_NEXT]
    s[lay.G_NEXT] = number
    s[o + lay.H_COUNT + lay.RD] += served
    s[o + lay.H_HITS] += hits
    s[lay.G_OUT_N] += served
    s[lay.G_END], s[lay.G_FINISH] = max(s[lay.G_END], due), max(s[lay.G_FINISH], due)
    s[o + lay.H_CLOCK] = now
    return now
