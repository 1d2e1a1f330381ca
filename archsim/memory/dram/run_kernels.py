"""The event loop: requests are offered at a clock, channels act at the next tick, time jumps in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import list_add
from archsim.memory.dram.controller_kernels import look, settle
from archsim.memory.dram.fast_kernels import fast_possible, fast_run
from archsim.memory.dram.issue_kernels import finish_read
from archsim.memory.tables.jit_kernels import entry, inner, outlined

Array = NDArray[np.int64]
MORE, DONE, FLUSH, FAILED = 0, 1, 2, 3


@outlined
def _buffered_write(s: Array, o: int, b: int, address: int) -> bool:
    """Is a write to `address` waiting in the write buffer?"""
    if s[(s[o + lay.H_FILTER] & lay.AT) + ((address >> s[lay.G_ADDR_SHIFT]) & (lay.FILTER_SIZE - 1))] == 0:
        return False
    i = s[b + lay.B_LIST + 4 + lay.B_HEAD]
    while i >= 0:
        i &= lay.AT
        if s[i + lay.S_ADDR] == address:
            return True
        i = s[i + lay.S_NEXT]
    return False


@inner
def _enter(s: Array, o: int, b: int, d: int, number: int, location: int, address: int, t: int) -> None:
    """Put a request into its buffer and, if it is the oldest of its kind in the bank, into the candidate lists."""
    i = s[o + lay.H_FREE]
    if i < 0:
        s[lay.G_ERROR] = lay.ERROR_SLOTS
        return
    i &= lay.AT
    s[o + lay.H_FREE] = s[i + lay.S_NEXT]
    row = (location >> lay.LOC_ROW) & 0xFFFFFFFF
    key = (number << lay.SLOT_BITS) | ((i - s[o + lay.H_SLOTS]) // lay.SLOT_SIZE)
    e = b + lay.B_LIST + 4 * d
    tail = s[e + lay.B_TAIL]
    s[i + lay.S_ROW] = row
    s[i + lay.S_BANK] = b
    s[i + lay.S_ARRIVAL] = t
    s[i + lay.S_NEXT] = -1
    s[i + lay.S_PREV] = tail
    s[i + lay.S_ADDR] = address
    s[i + lay.S_KEY] = key
    s[i + lay.S_KIND] = d | ((location & 0xFFF) << 8)
    if tail >= 0:
        s[(tail & lay.AT) + lay.S_NEXT] = i
    else:
        s[e + lay.B_HEAD] = i
    s[e + lay.B_TAIL] = i
    s[o + lay.H_N + d] += 1
    if d == 1:
        s[(s[o + lay.H_FILTER] & lay.AT) + ((address >> s[lay.G_ADDR_SHIFT]) & (lay.FILTER_SIZE - 1))] += 1
    open_row = s[b + lay.B_ROW]
    if open_row == row:
        if s[e + lay.B_HIT] == lay.NO_KEY:
            s[e + lay.B_HIT] = key
            list_add(s, o, d, 0, b)
    elif open_row != lay.OPENING and s[e + lay.B_MISS] == lay.NO_KEY:
        s[e + lay.B_MISS] = key
        list_add(s, o, d, 1 if open_row == lay.CLOSED else 2, b)


@inner
def _accept(s: Array, number: int, location: int, address: int, t: int) -> int:
    """Offer one request at clock `t`. Returns -1 if it was taken, else the offset of the channel that refused."""
    o = (lay.G_SIZE + ((location >> lay.LOC_CHANNEL) & 0xFF) * s[lay.G_STRIDE]) & lay.AT
    b = o + lay.BANK + ((location >> lay.LOC_BANK) & 0x3FF) * lay.BANK_SIZE
    d = (location >> lay.LOC_WRITE) & 1
    if s[o + lay.H_NW] > 0 and _buffered_write(s, o, b, address):
        if d == 0:
            s[lay.G_FORWARDED] += 1
            finish_read(s, o, number, t, t + 1)
            s[lay.G_OUTSTANDING] += 1
        else:
            s[lay.G_MERGED] += 1
            s[lay.G_END] = max(s[lay.G_END], t + 1 + s[lay.G_WEND])
            s[lay.G_FINISH] = max(s[lay.G_FINISH], t + 1)
        return -1
    if s[o + lay.H_N + d] >= s[lay.G_RCAP + d]:
        s[lay.G_BLOCK_DIR] = d
        return int(o)
    _enter(s, o, b, d, number, location, address, t)
    s[lay.G_REMAINING] += 1
    s[lay.G_OUTSTANDING] += 1 - d
    s[o + lay.H_DIRTY] = 1
    return -1


@outlined
def _deliver(s: Array, t: int) -> int:
    """Hand back the reads that are due by `t`; returns the due time of the next one (INF: none is known)."""
    first = lay.INF
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        while s[o + lay.H_FIFO_N] > 0:
            due = s[(s[o + lay.H_FIFO] + (s[o + lay.H_FIFO_HEAD] & s[lay.G_FIFO_MASK])) & lay.AT]
            if due > t:
                first = min(first, due)
                break
            s[o + lay.H_FIFO_N] -= 1
            s[o + lay.H_FIFO_HEAD] += 1
            s[lay.G_OUTSTANDING] -= 1
    return int(first)


@inner
def _surely_refused(s: Array, taken: int, following: int) -> bool:
    """One channel: the read just taken filled its queue, and the following read finds no write to be forwarded."""
    o = lay.G_SIZE
    full = (taken | following) >> lay.LOC_WRITE == 0 and s[o + lay.H_N] >= s[lay.G_RCAP] and s[o + lay.H_NW] == 0
    if full and s[lay.G_TIMED] == 0:
        s[lay.G_BLOCK_O] = o
        s[lay.G_BLOCK_DIR] = 0
        return True
    return False


@inner
def _offer(s: Array, locations: Array, addresses: Array, times: Array, gap: float, t: int) -> bool:
    """Offer requests in order at clock `t`; sets when to offer again. False: the chunk is used up."""
    used = s[lay.G_USED]
    s[lay.G_USED] = 0
    s[lay.G_BLOCK_O] = -1
    i, end, first = s[lay.G_NEXT], s[lay.G_CHUNK1], s[lay.G_CHUNK0]
    wake = lay.INF
    while True:
        if i >= end:
            if s[lay.G_FINAL] == 0:
                s[lay.G_NEXT] = i
                s[lay.G_USED] = used
                return False
            break
        if used >= s[lay.G_BUDGET]:
            wake = t + 1
            break
        if s[lay.G_LIMIT] > 0:
            due = _deliver(s, t)
            if s[lay.G_OUTSTANDING] >= s[lay.G_LIMIT]:
                wake = due
                s[lay.G_BLOCK_O] = 0
                break
        if s[lay.G_TIMED] != 0 and t < times[(i - first) & lay.AT]:
            wake = times[(i - first) & lay.AT]
            break
        if gap > 0.0 and t < i * gap:
            wake = int(np.ceil(i * gap))
            break
        blocked = _accept(s, i, locations[(i - first) & lay.AT], addresses[(i - first) & lay.AT], t)
        if blocked >= 0:
            s[lay.G_BLOCK_O] = blocked
            break
        i += 1
        used += 1
        if (
            s[lay.G_FAST] != 0
            and i < end
            and _surely_refused(s, locations[(i - 1 - first) & lay.AT], locations[(i - first) & lay.AT])
        ):
            break
    s[lay.G_NEXT] = i
    s[lay.G_FE_WAKE] = wake
    return True


@inner
def _unblock(s: Array, o: int, t: int) -> None:
    """After an issue in channel `o`: may the front end go on?"""
    block = s[lay.G_BLOCK_O]
    if block == o:
        d = s[lay.G_BLOCK_DIR] & 1
        if s[o + lay.H_N + d] < s[lay.G_RCAP + d]:
            s[lay.G_FE_WAKE] = t
    elif block == 0:
        s[lay.G_FE_WAKE] = min(s[lay.G_FE_WAKE], max(t, _deliver(s, t - 1)))


@inner
def _tick(s: Array, t: int) -> None:
    """Tick `t` of every channel that has something to do."""
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        if s[o + lay.H_WAKE] <= t:
            look(s, o, t)
            s[o + lay.H_DIRTY] = 1
            if s[lay.G_BLOCK_O] >= 0:
                _unblock(s, o, t)


@inner
def _next_time(s: Array, t: int) -> int:
    """Settle the channels that changed; the next clock or tick with something to do."""
    first = max(s[lay.G_FE_WAKE], t + 1)
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        if s[o + lay.H_DIRTY] != 0:
            s[o + lay.H_DIRTY] = 0
            settle(s, o, t)
        first = min(first, s[o + lay.H_WAKE])
    return int(first)


@entry
def advance(s: Array, locations: Array, addresses: Array, times: Array, gap: float) -> int:
    """Run until the chunk is used up (MORE), all is served (DONE), the trace buffer is full (FLUSH) or an error.

    locations, addresses  (n,) packed locations (see layout_kernels) and byte addresses of the chunk's requests
    times                 (n,) earliest clock of each request, used if G_TIMED
    gap                   request i is not offered before clock i * gap
    """
    t = s[lay.G_TIME]
    while True:
        if s[lay.G_IN_FE] == 0:
            _tick(s, t)
        s[lay.G_IN_FE] = 0
        if s[lay.G_FE_WAKE] <= t and not _offer(s, locations, addresses, times, gap, t):
            s[lay.G_TIME] = t
            s[lay.G_IN_FE] = 1
            return MORE
        t = _next_time(s, t)
        if s[lay.G_FAST] != 0 and t < lay.INF and s[lay.G_TIMED] == 0 and fast_possible(s, lay.G_SIZE):
            last = fast_run(s, lay.G_SIZE, t, locations, addresses)
            if last >= 0:
                t = last
                s[lay.G_IN_FE] = 1
                continue
        if s[lay.G_ERROR] != 0:
            return FAILED
        if s[lay.G_REMAINING] == 0 and s[lay.G_FINAL] != 0 and s[lay.G_NEXT] >= s[lay.G_CHUNK1] and t > s[lay.G_FINISH]:
            return DONE
        if t >= lay.INF:
            s[lay.G_ERROR] = lay.ERROR_STUCK
            return FAILED
        if s[lay.G_TRACE] != 0 and s[lay.G_TRACE_N] + 4 * s[lay.G_CHANNELS] >= s[lay.G_TRACE_CAP]:
            s[lay.G_TIME] = t
            return FLUSH
