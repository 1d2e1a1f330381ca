"""How a request enters a channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import list_add
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]


@inner
def may_forward(s: Array, o: int, address: int) -> bool:
    """Might a write to this address be waiting? (The filter may say yes without one.)"""
    slot = (address >> s[lay.G_ADDR_SHIFT]) & (lay.FILTER_SIZE - 1)
    return bool(s[(s[o + lay.H_FILTER] & lay.AT) + slot] != 0)


@outlined
def buffered_write(s: Array, o: int, b: int, address: int) -> bool:
    """Is a write to `address` waiting in the write buffer?"""
    if not may_forward(s, o, address):
        return False
    i = s[b + lay.B_LIST + 4 + lay.B_HEAD]
    while i >= 0:
        i &= lay.AT
        if s[i + lay.S_ADDR] == address:
            return True
        i = s[i + lay.S_NEXT]
    return False


@inner
def behind(s: Array, o: int, t: int) -> bool:
    """Has channel `o` anything to do up to tick `t`?"""
    clock = s[o + lay.H_CLOCK]
    return bool(s[o + lay.H_WAKE] <= t if clock < 0 else clock < t)


@inner
def enter(s: Array, o: int, b: int, d: int, number: int, location: int, address: int, t: int, m: int) -> None:
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
            list_add(s, o, d, 0, b, m)
    elif open_row != lay.OPENING and s[e + lay.B_MISS] == lay.NO_KEY:
        s[e + lay.B_MISS] = key
        list_add(s, o, d, 1 if open_row == lay.CLOSED else 2, b, m)
