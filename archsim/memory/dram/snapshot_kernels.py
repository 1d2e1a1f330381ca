"""A state of all channels as words that do not depend on when and where: writing it down and putting it back.

Ticks count from the clock, ages from the number of the next request, rows from the row and banks from the bank of the
next request. Waiting writes are left out: while reads go on they have no effect (see recall_kernels). Two states with
equal words serve equal requests alike. A snapshot is taken when the front end waits and every channel is settled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import rebuild_lists
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
_TICKS = 15  # bits of a tick, four to a word
_TICK_MASK = (1 << _TICKS) - 1
_WAIT_AT, _ROW_AT, _COUNTED_AT = 16, 36, 60  # a request: age, ticks since its arrival, row, counted as hit or miss
_ACTIVE_AT, _QUEUED_AT, _BANK_ROW_AT = 1, 12, 24  # a bank: open or not, requests activated, requests waiting, row
_MIDDLE, _ROW_MASK = 1 << 23, (1 << 24) - 1


@inner
def _packed(s: Array, i: int, t: int) -> int:
    """Four earliest ticks from word `i` on, those that have passed as 0; -1 if one is too far ahead."""
    a, b, c, d = max(0, s[i] - t), max(0, s[i + 1] - t), max(0, s[i + 2] - t), max(0, s[i + 3] - t)
    if (a | b | c | d) >> _TICKS:
        return -1
    return int(a | b << _TICKS | c << (2 * _TICKS) | d << (3 * _TICKS))


@inner
def _unpack(s: Array, i: int, t: int, word: int) -> None:
    s[i], s[i + 1] = t + (word & _TICK_MASK), t + ((word >> _TICKS) & _TICK_MASK)
    s[i + 2], s[i + 3] = t + ((word >> (2 * _TICKS)) & _TICK_MASK), t + ((word >> (3 * _TICKS)) & _TICK_MASK)


@inner
def _request(s: Array, i: int, t: int, number: int, row: int) -> int:
    """A waiting read as a word; -1 if it is a write or too old."""
    age, wait, kind = number - (s[i + lay.S_KEY] >> lay.SLOT_BITS), t - s[i + lay.S_ARRIVAL], s[i + lay.S_KIND] & 3
    place = s[i + lay.S_ROW] - row + _MIDDLE
    if age >> 16 or wait >> 20 or place >> 24 or kind & 1:
        return -1
    return int(age | wait << _WAIT_AT | place << _ROW_AT | (kind >> 1) << _COUNTED_AT)


@outlined
def _write_nodes(s: Array, first: int, n: int, flip: int, t: int, at: int) -> int:
    for k in range(n):
        i = (first + 8 * (k ^ flip)) & lay.AT
        s[at & lay.AT], s[(at + 1) & lay.AT] = _packed(s, i, t), _packed(s, i + 4, t)
        if (s[at & lay.AT] | s[(at + 1) & lay.AT]) < 0:
            return -1
        at += 2
    return at


@outlined
def _read_nodes(s: Array, first: int, n: int, flip: int, t: int, at: int) -> int:
    for k in range(n):
        i = (first + 8 * (k ^ flip)) & lay.AT
        _unpack(s, i, t, s[at & lay.AT])
        _unpack(s, i + 4, t, s[(at + 1) & lay.AT])
        at += 2
    return at


@inner
def _flip_of(s: Array, level: int, flip: int) -> int:
    """What a flip of bank numbers does to the numbers of the nodes of a level."""
    if level < 2:
        return 0
    per_3 = s[lay.G_BANKS_PER_1] // (s[lay.G_FAN2] * s[lay.G_FAN3])
    return int(flip // (per_3 if level == 3 else per_3 * s[lay.G_FAN3]))


@outlined
def _all_nodes(s: Array, o: int, flip: int, t: int, at: int, read: bool) -> int:
    """The nodes above the banks, all levels."""
    n2 = s[lay.G_N1] * s[lay.G_FAN2]
    for level in range(4):
        first, n = o + lay.NODE, 1
        if level == 1:
            first, n = o + lay.NODE1, s[lay.G_N1]
        elif level == 2:
            first, n = o + lay.NODE2, n2
        elif level == 3:
            first, n = o + lay.NODE3, n2 * s[lay.G_FAN3]
        turn = _flip_of(s, level, flip)
        at = _read_nodes(s, first, n, turn, t, at) if read else _write_nodes(s, first, n, turn, t, at)
        if at < 0:
            break
    return at


@outlined
def _all_windows(s: Array, o: int, flip: int, t: int, at: int, read: bool) -> int:
    """The last ticks of the commands that windows count."""
    for x in range(lay.G_XTABLE, lay.G_XTABLE + 5 * s[lay.G_EXTRA + lay.N_COMMANDS], 5):
        n, level, ticks = s[x], s[x + 1], s[x + 3]
        if n < 2:
            continue
        first, nodes = 0, 1
        if level > 0:
            first, nodes = 1, s[lay.G_N1]
        if level > 1:
            first, nodes = 1 + lay.MAX_N1, nodes * s[lay.G_FAN2]
        if level > 2:
            first, nodes = first + lay.MAX_N2, nodes * s[lay.G_FAN3]
        turn = _flip_of(s, level, flip)
        for node in range(nodes):
            ring = s[o + lay.H_HIST] + (s[x + 4] * (lay.N_NODES + 1) + first + (node ^ turn)) * 16
            place = 0
            if read:
                s[(ring + 15) & lay.AT] = 0
            else:
                place = s[(ring + 15) & lay.AT]
            for _ in range(n):
                if read:
                    s[(ring + place) & lay.AT] = s[at & lay.AT] + t - ticks
                else:
                    s[at & lay.AT] = max(0, s[(ring + place) & lay.AT] + ticks - t)
                at += 1
                place = place + 1 if place + 1 < n else 0
    return at


@outlined
def _refresh(s: Array, o: int, t: int, at: int, read: bool) -> int:
    """Per-bank refresh is part of the state; all-bank refresh is not (it comes rarely)."""
    if s[lay.G_REF_MODE] < lay.REF_BANK:
        return at
    at &= lay.AT
    if read:
        s[o + lay.H_NEXT_REF], s[o + lay.H_REF_DUE] = s[at] + t, s[at + 1] + t
        s[o + lay.H_REF_CURSOR], s[o + lay.H_REF_PC], s[o + lay.H_REF_BANK] = s[at + 2], s[at + 3], s[at + 4]
    else:
        s[at], s[at + 1] = s[o + lay.H_NEXT_REF] - t, s[o + lay.H_REF_DUE] - t
        s[at + 2], s[at + 3], s[at + 4] = s[o + lay.H_REF_CURSOR], s[o + lay.H_REF_PC], s[o + lay.H_REF_BANK]
    at += 5
    for k in range(lay.MAX_N2):
        if read:
            s[o + lay.H_ALLOWED + k] = s[at + k] + t
        else:
            s[at + k] = max(0, s[o + lay.H_ALLOWED + k] - t)
    return at + lay.MAX_N2


@outlined
def _write_channel(s: Array, o: int, t: int, row: int, flip: int, at: int) -> int:
    """Words of a channel from `at` on; returns the word after the last, or -1 if the state cannot be written down."""
    number = s[lay.G_NEXT]
    if s[o + lay.H_PRIO_N] > 0 or s[o + lay.H_PENDING] >= 0 or s[o + lay.H_CAS] >= 0:
        return -1
    at &= lay.AT
    s[at] = s[o + lay.H_N] | s[o + lay.H_MODE] << 16 | s[o + lay.H_ACTIVE_N] << 20
    s[at + 1], s[at + 2] = max(0, s[o + lay.H_WCK] - t), 0
    if s[o + lay.H_PAIR_END] > t:
        k = (s[o + lay.H_PAIR_BANK] - o - lay.BANK) // lay.BANK_SIZE
        s[at + 2] = (s[o + lay.H_PAIR_END] - t) << 20 | s[o + lay.H_PAIR_CMD] << 12 | (k ^ flip)
    at += 3
    a = s[o + lay.H_ACTIVE]
    for k in range(s[o + lay.H_ACTIVE_N]):
        i = s[(a + 2 * k) & lay.AT] & lay.AT
        s[at] = _request(s, i, t, number, row)
        s[at + 1] = ((s[i + lay.S_BANK] - o - lay.BANK) // lay.BANK_SIZE) ^ flip
        if s[at] < 0:
            return -1
        at += 2
    for k in range(s[lay.G_BANKS]):
        b = (o + lay.BANK + lay.BANK_SIZE * (k ^ flip)) & lay.AT
        head, at, n = at, at + 3, 0
        i = s[b + lay.B_LIST + lay.B_HEAD]
        while i >= 0:
            i &= lay.AT
            s[at] = _request(s, i, t, number, row)
            if s[at] < 0:
                return -1
            at, n = at + 1, n + 1
            i = s[i + lay.S_NEXT]
        if n >= 1 << 12 or s[b + lay.B_ACTIVE] >= 1 << 11:
            return -1
        place = 0
        if s[b + lay.B_ROW] >= 0:
            place = s[b + lay.B_ROW] - row + _MIDDLE
            if place >> 24:
                return -1
            place = place << _BANK_ROW_AT | 1
        s[head] = place | s[b + lay.B_ACTIVE] << _ACTIVE_AT | n << _QUEUED_AT
        s[head + 1], s[head + 2] = _packed(s, b, t), _packed(s, b + 4, t)
        if (s[head + 1] | s[head + 2]) < 0:
            return -1
    at = _all_nodes(s, o, flip, t, at, False)
    if at < 0:
        return -1
    return int(_refresh(s, o, t, _all_windows(s, o, flip, t, at, False), False))


@outlined
def write_state(s: Array, t: int, row: int, flip: int, at: int) -> int:
    """Write the state at clock `t` from word `at` on; returns the word after the last, or -1 if it cannot be.

    row, flip  of the next request: its row, and its bank number where banks are alike
    """
    s[at & lay.AT] = t & (s[lay.G_MODE] >> 1) & 1  # M_HALF: even and odd ticks differ
    at += 1
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        at = _write_channel(s, o, t, row, flip, at)
        if at < 0:
            return -1
    return at


@inner
def _free(s: Array, o: int, i: int) -> None:
    s[i + lay.S_NEXT] = s[o + lay.H_FREE]
    s[o + lay.H_FREE] = i


@outlined
def _free_reads(s: Array, o: int) -> None:
    """Give back the slots of all reads."""
    a = s[o + lay.H_ACTIVE]
    for k in range(s[o + lay.H_ACTIVE_N]):
        _free(s, o, s[(a + 2 * k) & lay.AT] & lay.AT)
    for k in range(s[lay.G_BANKS]):
        i = s[((o + lay.BANK + lay.BANK_SIZE * k) & lay.AT) + lay.B_LIST + lay.B_HEAD]
        while i >= 0:
            i &= lay.AT
            after = s[i + lay.S_NEXT]
            _free(s, o, i)
            i = after


@inner
def _slot(s: Array, o: int, b: int, word: int, t: int, row: int) -> int:
    """A slot for the read that `word` describes."""
    i = s[o + lay.H_FREE] & lay.AT
    s[o + lay.H_FREE] = s[i + lay.S_NEXT]
    number = s[lay.G_NEXT] - (word & 0xFFFF)
    s[i + lay.S_ROW] = ((word >> _ROW_AT) & _ROW_MASK) - _MIDDLE + row
    s[i + lay.S_BANK] = b
    s[i + lay.S_ARRIVAL] = t - ((word >> _WAIT_AT) & 0xFFFFF)
    s[i + lay.S_NEXT], s[i + lay.S_PREV], s[i + lay.S_ADDR] = -1, -1, 0
    s[i + lay.S_KEY] = number << lay.SLOT_BITS | ((i - s[o + lay.H_SLOTS]) // lay.SLOT_SIZE)
    s[i + lay.S_KIND] = ((word >> _COUNTED_AT) & 1) << 1
    return int(i)


@outlined
def _read_bank(s: Array, o: int, b: int, t: int, row: int, at: int) -> int:
    """A bank and its reads; its candidate lists come later."""
    word, n1 = s[at], s[b + lay.B_N1] & lay.AT
    s[b + lay.B_ROW] = lay.CLOSED
    if word & 1:
        s[b + lay.B_ROW] = ((word >> _BANK_ROW_AT) & _ROW_MASK) - _MIDDLE + row
        s[o + lay.H_OPEN + n1] += 1
        s[o + lay.H_SINCE + n1] = t
    s[b + lay.B_ACTIVE] = (word >> _ACTIVE_AT) & 0x7FF
    s[o + lay.H_GUARD + n1] += s[b + lay.B_ACTIVE]
    _unpack(s, b, t, s[at + 1])
    _unpack(s, b + 4, t, s[at + 2])
    at, last, head = at + 3, -1, -1
    for _ in range((word >> _QUEUED_AT) & 0xFFF):
        i = _slot(s, o, b, s[at & lay.AT], t, row)
        s[i + lay.S_PREV] = last
        if last >= 0:
            s[(last & lay.AT) + lay.S_NEXT] = i
        else:
            head = i
        at, last = at + 1, i
    s[b + lay.B_LIST + lay.B_HEAD], s[b + lay.B_LIST + lay.B_TAIL] = head, last
    s[b + lay.B_LIST + lay.B_HIT], s[b + lay.B_LIST + lay.B_MISS] = lay.NO_KEY, lay.NO_KEY
    return int(at)


@outlined
def _read_channel(s: Array, o: int, t: int, row: int, flip: int, at: int, m: int) -> int:
    """Put the words of a channel back; returns the word after the last."""
    _free_reads(s, o)
    at &= lay.AT
    s[o + lay.H_N], s[o + lay.H_MODE], n = s[at] & 0xFFFF, (s[at] >> 16) & 1, s[at] >> 20
    s[o + lay.H_WCK], s[o + lay.H_PAIR_END] = t + s[at + 1], t + (s[at + 2] >> 20)
    if s[at + 2] > 0:
        s[o + lay.H_PAIR_CMD] = (s[at + 2] >> 12) & 0xFF
        s[o + lay.H_PAIR_BANK] = o + lay.BANK + lay.BANK_SIZE * ((s[at + 2] & 0xFFF) ^ flip)
    active, at = at + 3, at + 3 + 2 * n
    for k in range(8):
        s[o + lay.H_OPEN + k] = s[o + lay.H_GUARD + k] = 0
    for k in range(s[lay.G_BANKS]):
        at = _read_bank(s, o, (o + lay.BANK + lay.BANK_SIZE * (k ^ flip)) & lay.AT, t, row, at & lay.AT)
    at = _all_windows(s, o, flip, t, _all_nodes(s, o, flip, t, at, True), True)
    s[o + lay.H_ACTIVE_N] = n
    for k in range(n):
        b = (o + lay.BANK + lay.BANK_SIZE * (s[(active + 2 * k + 1) & lay.AT] ^ flip)) & lay.AT
        s[(s[o + lay.H_ACTIVE] + 2 * k) & lay.AT] = _slot(s, o, b, s[(active + 2 * k) & lay.AT], t, row)
    rebuild_lists(s, o, m)
    s[o + lay.H_CLOCK] = t
    return int(_refresh(s, o, t, at, True))


@outlined
def read_state(s: Array, t: int, row: int, flip: int, at: int, m: int) -> None:
    """Put the state that `write_state` wrote at word `at` back, as of clock `t` and the next request."""
    at += 1
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        at = _read_channel(s, o, t, row, flip, at, m)
