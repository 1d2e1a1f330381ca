"""The event loop: requests are offered at a clock, channels act at the next tick, time jumps in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory import layout_kernels as L
from archsim.memory.jit_kernels import entry, inner, outlined
from archsim.memory.bank_kernels import list_add
from archsim.memory.controller_kernels import look, settle
from archsim.memory.issue_kernels import finish_read

Array = NDArray[np.int64]
MORE, DONE, FLUSH, FAILED = 0, 1, 2, 3


@outlined
def _buffered_write(s: Array, o: int, b: int, address: int) -> bool:
    """Is a write to `address` waiting in the write buffer?"""
    if s[(s[o + L.H_FILTER] & L.AT) + ((address >> s[L.G_ADDR_SHIFT]) & (L.FILTER_SIZE - 1))] == 0:
        return False
    i = s[b + L.B_LIST + 4 + L.B_HEAD]
    while i >= 0:
        if s[i + L.S_ADDR] == address:
            return True
        i = s[i + L.S_NEXT]
    return False


@inner
def _enter(s: Array, o: int, b: int, d: int, number: int, location: int, address: int, t: int) -> None:
    """Put a request into its buffer and, if it is the oldest of its kind in the bank, into the candidate lists."""
    i = s[o + L.H_FREE]
    if i < 0:
        s[L.G_ERROR] = L.ERROR_SLOTS
        return
    i &= L.AT
    s[o + L.H_FREE] = s[i + L.S_NEXT]
    row = (location >> L.LOC_ROW) & 0xFFFFFFFF
    key = (number << L.SLOT_BITS) | ((i - s[o + L.H_SLOTS]) // L.SLOT_SIZE)
    e = b + L.B_LIST + 4 * d
    tail = s[e + L.B_TAIL]
    s[i + L.S_ROW] = row
    s[i + L.S_BANK] = b
    s[i + L.S_ARRIVAL] = t
    s[i + L.S_NEXT] = -1
    s[i + L.S_PREV] = tail
    s[i + L.S_ADDR] = address
    s[i + L.S_KEY] = key
    s[i + L.S_KIND] = d | ((location & 0xFFF) << 8)
    if tail >= 0:
        s[(tail & L.AT) + L.S_NEXT] = i
    else:
        s[e + L.B_HEAD] = i
    s[e + L.B_TAIL] = i
    s[o + L.H_N + d] += 1
    if d == 1:
        s[(s[o + L.H_FILTER] & L.AT) + ((address >> s[L.G_ADDR_SHIFT]) & (L.FILTER_SIZE - 1))] += 1
    open_row = s[b + L.B_ROW]
    if open_row == row:
        if s[e + L.B_HIT] == L.NO_KEY:
            s[e + L.B_HIT] = key
            list_add(s, o, d, 0, b)
    elif open_row != L.OPENING and s[e + L.B_MISS] == L.NO_KEY:
        s[e + L.B_MISS] = key
        list_add(s, o, d, 1 if open_row == L.CLOSED else 2, b)


@inner
def _accept(s: Array, number: int, location: int, address: int, t: int) -> int:
    """Offer one request at clock `t`. Returns -1 if it was taken, else the offset of the channel that refused."""
    o = (L.G_SIZE + ((location >> L.LOC_CHANNEL) & 0xFF) * s[L.G_STRIDE]) & L.AT
    b = o + L.BANK + ((location >> L.LOC_BANK) & 0x3FF) * L.BANK_SIZE
    d = (location >> L.LOC_WRITE) & 1
    if s[o + L.H_NW] > 0 and _buffered_write(s, o, b, address):
        if d == 0:
            s[L.G_FORWARDED] += 1
            finish_read(s, o, number, t, t + 1)
            s[L.G_OUTSTANDING] += 1
        else:
            s[L.G_MERGED] += 1
            s[L.G_END] = max(s[L.G_END], t + 1 + s[L.G_WEND])
            s[L.G_FINISH] = max(s[L.G_FINISH], t + 1)
        return -1
    if s[o + L.H_N + d] >= s[L.G_RCAP + d]:
        s[L.G_BLOCK_DIR] = d
        return int(o)
    _enter(s, o, b, d, number, location, address, t)
    s[L.G_REMAINING] += 1
    s[L.G_OUTSTANDING] += 1 - d
    s[o + L.H_DIRTY] = 1
    return -1


@outlined
def _deliver(s: Array, t: int) -> int:
    """Hand back the reads that are due by `t`; returns the due time of the next one (INF: none is known)."""
    first = L.INF
    for k in range(s[L.G_CHANNELS]):
        o = (L.G_SIZE + k * s[L.G_STRIDE]) & L.AT
        while s[o + L.H_FIFO_N] > 0:
            due = s[s[o + L.H_FIFO] + (s[o + L.H_FIFO_HEAD] & s[L.G_FIFO_MASK])]
            if due > t:
                first = min(first, due)
                break
            s[o + L.H_FIFO_N] -= 1
            s[o + L.H_FIFO_HEAD] += 1
            s[L.G_OUTSTANDING] -= 1
    return int(first)


@inner
def _offer(s: Array, locations: Array, addresses: Array, times: Array, gap: float, t: int) -> bool:
    """Offer requests in order at clock `t`; sets when to offer again. False: the chunk is used up."""
    used = s[L.G_USED]
    s[L.G_USED] = 0
    s[L.G_BLOCK_O] = -1
    i, end, first = s[L.G_NEXT], s[L.G_CHUNK1], s[L.G_CHUNK0]
    wake = L.INF
    while True:
        if i >= end:
            if s[L.G_FINAL] == 0:
                s[L.G_NEXT] = i
                s[L.G_USED] = used
                return False
            break
        if used >= s[L.G_BUDGET]:
            wake = t + 1
            break
        if s[L.G_LIMIT] > 0:
            due = _deliver(s, t)
            if s[L.G_OUTSTANDING] >= s[L.G_LIMIT]:
                wake = due
                s[L.G_BLOCK_O] = 0
                break
        if s[L.G_TIMED] != 0 and t < times[i - first]:
            wake = times[i - first]
            break
        if gap > 0.0 and t < i * gap:
            wake = np.int64(np.ceil(i * gap))
            break
        blocked = _accept(s, i, locations[i - first], addresses[i - first], t)
        if blocked >= 0:
            s[L.G_BLOCK_O] = blocked
            break
        i += 1
        used += 1
    s[L.G_NEXT] = i
    s[L.G_FE_WAKE] = wake
    return True


@inner
def _unblock(s: Array, o: int, t: int) -> None:
    """After an issue in channel `o`: may the front end go on?"""
    block = s[L.G_BLOCK_O]
    if block == o:
        d = s[L.G_BLOCK_DIR]
        if s[o + L.H_N + d] < s[L.G_RCAP + d]:
            s[L.G_FE_WAKE] = t
    elif block == 0:
        s[L.G_FE_WAKE] = min(s[L.G_FE_WAKE], max(t, _deliver(s, t - 1)))


@inner
def _tick(s: Array, t: int) -> None:
    """Tick `t` of every channel that has something to do."""
    for k in range(s[L.G_CHANNELS]):
        o = (L.G_SIZE + k * s[L.G_STRIDE]) & L.AT
        if s[o + L.H_WAKE] <= t:
            look(s, o, t)
            s[o + L.H_DIRTY] = 1
            if s[L.G_BLOCK_O] >= 0:
                _unblock(s, o, t)


@inner
def _next_time(s: Array, t: int) -> int:
    """Settle the channels that changed; the next clock or tick with something to do."""
    first = max(s[L.G_FE_WAKE], t + 1)
    for k in range(s[L.G_CHANNELS]):
        o = (L.G_SIZE + k * s[L.G_STRIDE]) & L.AT
        if s[o + L.H_DIRTY] != 0:
            s[o + L.H_DIRTY] = 0
            settle(s, o, t)
        first = min(first, s[o + L.H_WAKE])
    return int(first)


@entry
def advance(s: Array, locations: Array, addresses: Array, times: Array, gap: float) -> int:
    """Run until the chunk is used up (MORE), all is served (DONE), the trace buffer is full (FLUSH) or an error.

    locations, addresses  (n,) packed locations (see layout_kernels) and byte addresses of the chunk's requests
    times                 (n,) earliest clock of each request, used if G_TIMED
    gap                   request i is not offered before clock i * gap
    """
    t = s[L.G_TIME]
    while True:
        if s[L.G_IN_FE] == 0:
            _tick(s, t)
        s[L.G_IN_FE] = 0
        if s[L.G_FE_WAKE] <= t and not _offer(s, locations, addresses, times, gap, t):
            s[L.G_TIME] = t
            s[L.G_IN_FE] = 1
            return MORE
        t = _next_time(s, t)
        if s[L.G_ERROR] != 0:
            return FAILED
        if s[L.G_REMAINING] == 0 and s[L.G_FINAL] != 0 and s[L.G_NEXT] >= s[L.G_CHUNK1] and t > s[L.G_FINISH]:
            return DONE
        if t >= L.INF:
            s[L.G_ERROR] = L.ERROR_STUCK
            return FAILED
        if s[L.G_TRACE] != 0 and s[L.G_TRACE_N] + 4 * s[L.G_CHANNELS] >= s[L.G_TRACE_CAP]:
            s[L.G_TIME] = t
            return FLUSH
