"""Skipping ahead exactly: when a stream repeats and the state of all channels recurs, whole periods are added up.

The stream repeats while request i goes to the bank and row of request i - p. At points where the front end waits, the
state of the channels is written down relative to the clock and to the number of the next request; if a later state of
the same run is equal, everything in between happens again, shifted, until the run or the time to the next refresh
ends. Counts, latencies and times are then those of the plain run, bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.tables.jit_kernels import inner, outlined

Array = NDArray[np.int64]
_SAME_ROW = ~0xFFF  # a packed location without its column
_LONGEST_PERIOD, _MOST_PERIODS, _LONGEST_LOOK, _LONGEST_PAUSE, _MOST_TRIES = 64, 4, 1 << 14, 1 << 12, 24


@inner
def _note(s: Array, at: int, value: int, compare: bool) -> bool:
    """Write a word of the state down, or compare it with what was written."""
    if compare:
        return bool(s[at & lay.AT] == value)
    s[at & lay.AT] = value
    return True


@outlined
def _requests(s: Array, first: int, t: int, number: int, at: int, compare: bool) -> int:
    """The list of reads or writes that begins in slot `first`; returns the next free word, or -1 (differs, or full)."""
    i = first
    while i >= 0:
        i &= lay.AT
        if at + 4 > s[lay.G_STATE_END]:
            return -1
        age, arrival = s[i + lay.S_KEY] >> lay.SLOT_BITS, s[i + lay.S_ARRIVAL]
        if s[i + lay.S_KIND] & 1 == 0:  # writes stay as they are
            age, arrival = age - number, arrival - t
        same = _note(s, at, age, compare) and _note(s, at + 1, arrival, compare)
        if not (same and _note(s, at + 2, s[i + lay.S_ROW], compare)):
            return -1
        if not _note(s, at + 3, s[i + lay.S_KIND] & 3, compare):
            return -1
        at += 4
        i = s[i + lay.S_NEXT]
    return at + 1 if _note(s, at, -1, compare) else -1


@outlined
def _times(s: Array, first: int, n: int, stride: int, t: int, at: int, compare: bool) -> int:
    """Earliest ticks of `n` nodes or banks, those that have passed as 0."""
    if at + 8 * n > s[lay.G_STATE_END]:
        return -1
    for k in range(n):
        for f in range(8):
            if not _note(s, at, max(0, s[(first + stride * k + f) & lay.AT] - t), compare):
                return -1
            at += 1
    return at


@outlined
def _windows(s: Array, o: int, t: int, at: int, compare: bool) -> int:
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
        if at + nodes * n > s[lay.G_STATE_END]:
            return -1
        for node in range(nodes):
            ring = s[o + lay.H_HIST] + (s[x + 4] * (lay.N_NODES + 1) + first + node) * 16
            place = s[(ring + 15) & lay.AT]
            for _ in range(n):
                if not _note(s, at, max(0, s[(ring + place) & lay.AT] + ticks - t), compare):
                    return -1
                at += 1
                place = place + 1 if place + 1 < n else 0
    return at


@outlined
def _channel(s: Array, o: int, t: int, number: int, at: int, compare: bool) -> int:
    """The state of a channel at clock `t`; returns the next free word, or -1."""
    n1 = s[lay.G_N1]
    n2 = n1 * s[lay.G_FAN2]
    if at + 32 > s[lay.G_STATE_END]:
        return -1
    paired = s[o + lay.H_PAIR_END] > t
    for value in (
        s[o + lay.H_N], s[o + lay.H_NW], s[o + lay.H_MODE], s[o + lay.H_ACTIVE_N], s[o + lay.H_NEXT_REF],
        s[o + lay.H_COUNT + lay.WR], max(0, s[o + lay.H_WCK] - t), max(0, s[o + lay.H_PAIR_END] - t),
        s[o + lay.H_PAIR_CMD] if paired else 0, s[o + lay.H_PAIR_BANK] if paired else 0,
    ):  # fmt: skip
        if not _note(s, at, value, compare):
            return -1
        at += 1
    a = s[o + lay.H_ACTIVE]
    for k in range(s[o + lay.H_ACTIVE_N]):
        i = s[(a + 2 * k) & lay.AT] & lay.AT
        if at + 3 > s[lay.G_STATE_END] or s[i + lay.S_KIND] & 1:
            return -1
        same = _note(s, at, s[i + lay.S_BANK], compare) and _note(s, at + 1, s[i + lay.S_ARRIVAL] - t, compare)
        if not (same and _note(s, at + 2, (s[i + lay.S_KEY] >> lay.SLOT_BITS) - number, compare)):
            return -1
        at += 3
    for k in range(s[lay.G_BANKS]):
        b = (o + lay.BANK + lay.BANK_SIZE * k) & lay.AT
        if at + 3 > s[lay.G_STATE_END]:
            return -1
        if not (_note(s, at, s[b + lay.B_ROW], compare) and _note(s, at + 1, s[b + lay.B_ACTIVE], compare)):
            return -1
        at = _requests(s, s[b + lay.B_LIST + lay.B_HEAD], t, number, at + 2, compare)
        if at >= 0 and s[o + lay.H_NW] > 0:
            at = _requests(s, s[b + lay.B_LIST + 4 + lay.B_HEAD], t, number, at, compare)
        if at < 0:
            return -1
    at = _times(s, o + lay.NODE, 1, 8, t, at, compare)
    for first, nodes, size in (
        (lay.NODE1, n1, 8), (lay.NODE2, n2, 8), (lay.NODE3, n2 * s[lay.G_FAN3], 8),
        (lay.BANK, s[lay.G_BANKS], lay.BANK_SIZE),
    ):  # fmt: skip
        if at >= 0:
            at = _times(s, o + first, nodes, size, t, at, compare)
    return _windows(s, o, t, at, compare) if at >= 0 else -1


@outlined
def _state(s: Array, t: int, compare: bool) -> bool:
    """Write the state of everything down, or compare. False: it differs, or holds what is not handled here."""
    number, at = s[lay.G_NEXT], s[lay.G_STATE]
    for value in (s[lay.G_GOAL_O], s[lay.G_GOAL_D], s[lay.G_FORWARDED], s[lay.G_MERGED]):
        if not _note(s, at, value, compare):
            return False
        at += 1
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        if s[o + lay.H_PRIO_N] > 0 or s[o + lay.H_PENDING] >= 0 or s[o + lay.H_CAS] >= 0:
            return False
        at = _channel(s, o, t, number, at, compare)
        if at < 0:
            return False
    return True


@outlined
def _remember(s: Array, t: int) -> bool:
    """Begin a comparison: the state, and the statistics so far."""
    if not _state(s, t, False):
        return False
    s[lay.G_FROM_T], s[lay.G_FROM_N], s[lay.G_FROM_OUT] = t, s[lay.G_NEXT], s[lay.G_OUT_N]
    s[lay.G_FROM_END], s[lay.G_FROM_FINISH], s[lay.G_FROM_OUTSTANDING] = (
        s[lay.G_END], s[lay.G_FINISH], s[lay.G_OUTSTANDING],
    )  # fmt: skip
    at = s[lay.G_STATE_END]
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        for j in range(16):
            s[(at + j) & lay.AT] = s[o + lay.H_COUNT + j]
            s[(at + 16 + j) & lay.AT] = s[o + lay.H_SINCE + j]  # and H_BUSY
        at += 32
    return True


@inner
def _shift(s: Array, at: int, by: int) -> None:
    if s[at & lay.AT] < lay.INF:
        s[at & lay.AT] += by


@outlined
def _shift_slot(s: Array, i: int, ticks: int, requests: int) -> int:
    """A read in the queue becomes one `requests` later; returns the slot after it."""
    i &= lay.AT
    s[i + lay.S_KEY] += requests << lay.SLOT_BITS
    s[i + lay.S_ARRIVAL] += ticks
    return int(s[i + lay.S_NEXT])


@outlined
def _shift_channel(s: Array, o: int, at: int, times: int, ticks: int, requests: int) -> None:
    """Add `times` periods to a channel: `ticks` and `requests` in all. at: its statistics at the first state."""
    for j in range(15):
        s[o + lay.H_COUNT + j] += times * (s[o + lay.H_COUNT + j] - s[(at + j) & lay.AT])
    for j in range(8):
        if s[o + lay.H_SINCE + j] != s[(at + 16 + j) & lay.AT]:
            s[o + lay.H_SINCE + j] += ticks
        s[o + lay.H_BUSY + j] += times * (s[o + lay.H_BUSY + j] - s[(at + 24 + j) & lay.AT])
    for j in range(lay.NODE, lay.NODE + 8 * lay.N_NODES):
        s[o + j] += ticks
    for j in range(s[lay.G_WINDOWS] * (lay.N_NODES + 1)):
        ring = (s[o + lay.H_HIST] + 16 * j) & lay.AT
        for x in range(15):
            s[ring + x] += ticks
    for k in range(s[lay.G_BANKS]):
        b = (o + lay.BANK + lay.BANK_SIZE * k) & lay.AT
        for f in range(8):
            s[b + f] += ticks
        i = s[b + lay.B_LIST + lay.B_HEAD]
        while i >= 0:
            i = _shift_slot(s, i, ticks, requests)
        for key in (b + lay.B_LIST + lay.B_HIT, b + lay.B_LIST + lay.B_MISS):
            if s[key] != lay.NO_KEY:
                s[key] += requests << lay.SLOT_BITS
    a = s[o + lay.H_ACTIVE] & lay.AT
    for k in range(s[o + lay.H_ACTIVE_N]):
        _shift_slot(s, s[(a + 2 * k) & lay.AT], ticks, requests)
        _shift(s, a + 2 * k + 1, ticks)
    for q in range(6):
        _shift(s, o + lay.H_LIST_MIN + q, ticks)
        for k in range(s[o + lay.H_LIST_N + q]):
            _shift(s, o + lay.LISTS + q * lay.LIST_SIZE + 2 * k + 1, ticks)
    _shift(s, o + lay.H_ACTIVE_MIN, ticks)
    s[o + lay.H_WCK] += ticks
    s[o + lay.H_PAIR_END] += ticks
    s[o + lay.H_WAKE] = min(s[o + lay.H_WAKE] + ticks, s[o + lay.H_NEXT_REF])


@outlined
def _repeat_output(s: Array, times: int, ticks: int, requests: int) -> bool:
    """The latencies of the period `times` more; False if there is no room for that."""
    first, n = s[lay.G_FROM_OUT], s[lay.G_OUT_N] - s[lay.G_FROM_OUT]
    if s[lay.G_MODE] & lay.M_RECORD == 0:
        if s[lay.G_REPEAT_N] >= lay.MAX_REPEATS:
            return False
        e = (s[lay.G_REPEAT] + 3 * s[lay.G_REPEAT_N]) & lay.AT
        s[e], s[e + 1], s[e + 2] = first, n, times
        s[lay.G_REPEAT_N] += 1
        return True
    if times * n > requests * times:
        return False
    for k in range(1, times + 1):
        for j in range(n):
            to = s[lay.G_OUT_N]
            s[lay.G_OUT_N] = to + 1
            s[(s[lay.G_OUT] + to) & lay.AT] = s[(s[lay.G_OUT] + first + j) & lay.AT]
            e, own = (s[lay.G_OUT2] + 2 * to) & lay.AT, (s[lay.G_OUT2] + 2 * (first + j)) & lay.AT
            s[e], s[e + 1] = s[own] + k * requests, s[own + 1] + k * ticks
    return True


@outlined
def _collides(s: Array, locations: Array, at: int, period: int) -> bool:
    """Does a write wait in a bank and row that the run reads? (It might be forwarded.)"""
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        if s[o + lay.H_NW] == 0:
            continue
        for j in range(at, at + period):
            location = locations[j & lay.AT]
            b = o + lay.BANK + ((location >> lay.LOC_BANK) & 0x3FF) * lay.BANK_SIZE
            i = s[(b & lay.AT) + lay.B_LIST + 4 + lay.B_HEAD]
            while i >= 0:
                i &= lay.AT
                if s[i + lay.S_ROW] == (location >> lay.LOC_ROW) & 0xFFFFFFFF:
                    return True
                i = s[i + lay.S_NEXT]
    return False


@outlined
def _jump(s: Array, t: int, locations: Array) -> int:
    """The state recurred: add as many periods as fit. Returns the new clock."""
    ticks, requests = t - s[lay.G_FROM_T], s[lay.G_NEXT] - s[lay.G_FROM_N]
    times = (s[lay.G_RUN_END] - 1 - s[lay.G_NEXT]) // requests
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        times = min(times, (s[o + lay.H_NEXT_REF] - 1 - t) // ticks)
    moved = s[lay.G_END] - s[lay.G_FROM_END] == ticks and s[lay.G_FINISH] - s[lay.G_FROM_FINISH] == ticks
    if times < 1 or not moved or _collides(s, locations, s[lay.G_NEXT] - s[lay.G_CHUNK0], s[lay.G_PERIOD]):
        return t
    if not _repeat_output(s, times, ticks, requests):
        return t
    s[lay.G_OUTSTANDING] += times * (s[lay.G_OUTSTANDING] - s[lay.G_FROM_OUTSTANDING])
    s[lay.G_NEXT] += times * requests
    s[lay.G_END] += times * ticks
    s[lay.G_FINISH] += times * ticks
    t += times * ticks
    for k in range(s[lay.G_CHANNELS]):
        o = (lay.G_SIZE + k * s[lay.G_STRIDE]) & lay.AT
        _shift_channel(s, o, s[lay.G_STATE_END] + 32 * k, times, times * ticks, times * requests)
    return int(t)


@outlined
def _find_run(s: Array, locations: Array) -> bool:
    """Does the stream repeat from the next request on, for long enough? Sets G_PERIOD and G_RUN_END."""
    first, here = s[lay.G_CHUNK0], s[lay.G_NEXT] - s[lay.G_CHUNK0]
    end = min(s[lay.G_CHUNK1] - first, here + _LONGEST_LOOK)
    location = locations[here & lay.AT] & _SAME_ROW
    if location >> lay.LOC_WRITE:
        return False
    tested = 0
    for p in range(1, min(_LONGEST_PERIOD, here) + 1):
        if locations[(here - p) & lay.AT] & _SAME_ROW != location:
            continue
        i = here
        while i < end and (locations[i & lay.AT] ^ locations[(i - p) & lay.AT]) & _SAME_ROW == 0:
            i += 1
        if i - here >= s[lay.G_USEFUL_RUN] + 4 * p:
            s[lay.G_PERIOD] = p * ((15 + p) // p)
            s[lay.G_RUN_END] = first + i
            return True
        tested += 1
        if tested == _MOST_PERIODS:
            break
    return False


@outlined
def _give_up(s: Array, t: int) -> int:
    """Look again later, after a failure each time later."""
    s[lay.G_PAUSE] = min(_LONGEST_PAUSE, 2 * s[lay.G_PAUSE])
    s[lay.G_TRIES], s[lay.G_LOOK_AT] = -1, s[lay.G_NEXT] + s[lay.G_PAUSE]
    return t


@outlined
def skip_ahead(s: Array, t: int, locations: Array) -> int:
    """Called when the front end waits at clock `t`, all channels settled, from request G_LOOK_AT on: the new clock."""
    number = s[lay.G_NEXT]
    tries, since = s[lay.G_TRIES], s[lay.G_FROM_N]
    if tries < 0:  # no state is written down
        ahead = s[lay.G_RUN_END] - number
        if ahead < s[lay.G_USEFUL_RUN] + 4 * s[lay.G_PERIOD] and not _find_run(s, locations):
            return _give_up(s, t)
        tries, since = 0, -1
    if since >= 0 and number > since and (number - since) % s[lay.G_PERIOD] == 0 and _state(s, t, True):
        t = _jump(s, t, locations)
        s[lay.G_TRIES], s[lay.G_PAUSE], s[lay.G_LOOK_AT] = -1, 32, s[lay.G_NEXT] + 64
        return t
    if tries > _MOST_TRIES or number + 2 * s[lay.G_PERIOD] >= s[lay.G_RUN_END]:
        return _give_up(s, t)
    s[lay.G_TRIES] = tries + 1
    if since < 0 or tries & (tries - 1) == 0:  # a later state may be past the transient, or the period longer
        if not _remember(s, t):
            s[lay.G_FROM_N], s[lay.G_LOOK_AT] = -1, number + 1
            return t
    since = s[lay.G_FROM_N]
    s[lay.G_LOOK_AT] = number + s[lay.G_PERIOD] - (number - since) % s[lay.G_PERIOD]
    return t
