"""Refresh and PIM commands of one NeuPIMs channel, dual-row-buffer device and single-buffer (Newton) device."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.neupims import layout_kernels as at
from archsim.memory.neupims.bank_kernels import (
    activate,
    answer_fast,
    answer_slowly,
    count_hits,
    note_open,
    precharge,
)
from archsim.memory.neupims.timing_kernels import (
    activate_clock,
    after_comp,
    after_composite,
    after_group_activate,
    after_gwrite,
    after_pim_precharge,
    after_read_result,
    after_refresh,
)

NOTHING = 0
ISSUED = 1
HOLD = 2  # no command at all in this cycle


@njit(cache=True, nogil=True)
def pim_precharge(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, now: int) -> None:
    """PIM_PRECHARGE: close the PIM row buffer."""
    after_pim_precharge(state, lat, bank, now)
    state[at.PIM_ROW + bank] = -1
    state[at.COUNTS + at.N_PIM_PRE] += 1
    rank = bank >> 4
    state[at.PIM_OPEN_BANKS + rank] -= 1
    if state[at.PIM_OPEN_BANKS + rank] == 0:
        state[at.PIM_OPEN_TIME + rank] += now - state[at.PIM_OPEN_SINCE + rank]


@njit(cache=True, nogil=True)
def refresh_step(state: NDArray[np.int64], lat: NDArray[np.int64], now: int) -> bool:
    """One step of a queued refresh: close the first bank that may, or REF. Returns whether a command issued."""
    rank = state[at.REF_RANK]
    closed = True
    for bank in range(16 * rank, 16 * rank + 16):
        if state[at.ROW + bank] >= 0:
            closed = False
            if max(state[at.B_PRE + bank], state[at.C_PRE]) <= now:
                precharge(state, lat, bank, now)
                return True
        elif state[at.PIM_ROW + bank] >= 0:
            closed = False
            if max(state[at.B_PIM_PRE + bank], state[at.C_PIM_PRE]) <= now:
                pim_precharge(state, lat, bank, now)
                return True
    if not closed or state[at.R_REF + rank] > now:
        return False
    after_refresh(state, lat, rank, now)
    state[at.REF_PENDING] -= 1
    state[at.REF_RANK] = 1 - rank
    state[at.SKIP] = 0
    state[at.BUDGET] = 0
    state[at.COUNTS + at.N_REF] += 1
    state[at.NEXT_SCAN] = 0
    state[at.PIM_NEXT] = 0
    return True


@njit(cache=True, nogil=True)
def guard(state: NDArray[np.int64], lat: NDArray[np.int64], estimate: int, now: int) -> bool:
    """Does work of `estimate` clocks end before the next refresh? The remaining slack is the memory's budget."""
    slack = state[at.NEXT_REFRESH] - (now + 1)
    if slack == 0:
        slack = lat[at.P_REFRESH]
    state[at.NEXT_SCAN] = 0
    if estimate >= slack:
        state[at.SKIP] = 1
        state[at.BUDGET] = 0
        return False
    state[at.BUDGET] = slack - estimate
    return True


@njit(cache=True, nogil=True)
def gwrite_step(state: NDArray[np.int64], lat: NDArray[np.int64], word: int, now: int) -> int:
    """Work on a GWRITE at the head: guard once, then open row 0 of bank 0 and issue."""
    row = state[at.ROW]
    if not state[at.GWRITING]:
        estimate = lat[at.P_GWRITE]
        if row < 0:
            estimate += lat[at.P_RP] + lat[at.P_RCD]
        elif row != 0:
            estimate += lat[at.P_RP] + lat[at.P_RCD] + lat[at.P_PRE_STEP]
        if not guard(state, lat, estimate, now):
            return HOLD
        state[at.GWRITING] = 1
    if row < 0:
        if activate_clock(state, lat, 0) <= now:
            activate(state, lat, 0, 0, now)
            return ISSUED
    elif row != 0:
        if max(state[at.B_PRE], state[at.C_PRE]) <= now:
            precharge(state, lat, 0, now)
            return ISSUED
    elif state[at.C_GWRITE] <= now:
        after_gwrite(state, lat, now)
        state[at.COUNTS + at.N_GWRITE] += 1
        state[at.PIM_ISSUED] += 1
        block = (word >> 4) & 0x7FFFFFF
        state[at.GWRITES_PENDING + (block >> 3)] -= 1
        state[at.GWRITE_DONE] = now + lat[at.P_GWRITE]
        state[at.GWRITE_TAG] = -1 - (block >> 3) if lat[at.P_MIXUP] else word >> 31
        return ISSUED
    return NOTHING


@njit(cache=True, nogil=True)
def header_step(state: NDArray[np.int64], lat: NDArray[np.int64], word: int, rows: int, now: int) -> int:
    """Work on a P_HEADER: guard every cycle, close other rows of the PIM buffers, then consume the header.

    rows: offset of the row buffers that PIM uses (its own, or the shared ones).
    """
    row = (word >> 4) & 0x7FFFFFF
    others = 0
    groups = 0
    for group in range(at.GROUPS):
        ready = True
        for bank in range(4 * group, 4 * group + 4):
            opened = state[rows + bank]
            if opened != row:
                ready = False
                if opened >= 0:
                    others += 1
        if not ready:
            groups += 1
    comps, results = (word >> 47) & 0xFFFF, (word >> 31) & 0xFFFF
    estimate = lat[at.P_PRE_STEP] * others + lat[at.P_FAW] * (groups // 2 - 1) + lat[at.P_RCD]
    estimate += lat[at.P_BURST] * max(comps, lat[at.P_MIN_COMPS]) + lat[at.P_BURST] * (results - 1)
    if not guard(state, lat, estimate, now):
        return HOLD
    single = rows == at.ROW
    if single:
        state[at.PIM_MODE] = 1
    for bank in range(at.BANKS):
        if others > 0 and state[rows + bank] >= 0 and state[rows + bank] != row:
            if single:
                if max(state[at.B_PRE + bank], state[at.C_PRE]) <= now:
                    precharge(state, lat, bank, now)
                    return ISSUED
            elif max(state[at.B_PIM_PRE + bank], state[at.C_PIM_PRE]) <= now:
                pim_precharge(state, lat, bank, now)
                return ISSUED
    if others > 0:
        return NOTHING
    state[at.PIM_ISSUED] += 1
    state[at.HEADER_ROW] = row
    state[at.RESULTS_LEFT] = results
    state[at.PIM_NEXT] = 0
    return ISSUED


@njit(cache=True, nogil=True)
def open_groups(state: NDArray[np.int64], lat: NDArray[np.int64], rows: int, now: int) -> int:
    """Issue the next G_ACT. Returns NOTHING (must wait), ISSUED, or HOLD if every bank is open."""
    earliest = at.FAR
    for bank in range(at.BANKS):
        if state[rows + bank] >= 0:
            continue
        group, rank = bank >> 2, bank >> 4
        ready = max(max(state[at.B_GACT + bank], state[at.G_GACT + group]), state[at.R_GACT + rank])
        ready = max(ready, state[at.C_GACT])
        earliest = min(earliest, ready)
        if ready <= now:
            after_group_activate(state, lat, group, now)
            state[at.COUNTS + at.N_GACT] += 1
            for each in range(4 * group, 4 * group + 4):
                if state[rows + each] < 0:
                    mark_open(state, rows, each, now)
            return ISSUED
    if earliest == at.FAR:
        return HOLD
    state[at.PIM_NEXT] = earliest
    return NOTHING


@njit(cache=True, nogil=True)
def mark_open(state: NDArray[np.int64], rows: int, bank: int, now: int) -> None:
    """The row of the current header is open in `bank`."""
    state[rows + bank] = state[at.HEADER_ROW]
    rank = bank >> 4
    if rows == at.ROW:
        state[at.COLUMNS + bank] = 0
        count_hits(state, bank)
        note_open(state, bank, now)
    else:
        if state[at.PIM_OPEN_BANKS + rank] == 0:
            state[at.PIM_OPEN_SINCE + rank] = now
        state[at.PIM_OPEN_BANKS + rank] += 1


@njit(cache=True, nogil=True)
def compute_step(state: NDArray[np.int64], lat: NDArray[np.int64], word: int, rows: int, now: int) -> int:
    """Work on a COMPS_READRES, COMP or READRES: open the groups, then issue it."""
    if now < state[at.PIM_NEXT]:
        return NOTHING
    opened = open_groups(state, lat, rows, now)
    if opened != HOLD:
        return int(opened)
    kind = word & 15
    ready = state[at.C_READRES] if kind == at.READRES else state[at.C_COMPS]
    if ready > now:
        state[at.PIM_NEXT] = ready
        return NOTHING
    state[at.PIM_ISSUED] += 1
    tag = word >> 31
    if kind == at.COMPS:
        comps = (word >> 4) & 0x7FFFFFF
        after_composite(state, lat, comps, now)
        state[at.COUNTS + at.N_COMP] += comps
        state[at.COUNTS + at.N_READRES] += 1
        answer_slowly(state, now + lat[at.P_READ_DUE], tag)
    elif kind == at.COMP:
        after_comp(state, lat, now)
        state[at.FIRST_COMP] = 0
        state[at.COUNTS + at.N_COMP] += 1
        answer_fast(state, now + 1, tag)
    else:
        after_read_result(state, lat, now)
        state[at.FIRST_COMP] = 1
        state[at.COUNTS + at.N_READRES] += 1
        answer_slowly(state, now + lat[at.P_READ_DUE], tag)
        state[at.RESULTS_LEFT] -= 1
        if state[at.RESULTS_LEFT] <= 0:
            state[at.PIM_MODE] = 0
    return ISSUED


@njit(cache=True, nogil=True)
def pim_command(state: NDArray[np.int64], lat: NDArray[np.int64], now: int) -> int:
    """Work on the head of the PIM command queue, which is not empty. Returns NOTHING, ISSUED or HOLD."""
    rows = at.ROW if lat[at.P_SINGLE] else at.PIM_ROW
    word = state[at.PIM_Q + (state[at.PIM_ISSUED] & (at.PIM_RING - 1))]
    kind = word & 15
    done = NOTHING
    if state[at.GWRITE_DONE] >= 0:
        done = NOTHING
    elif kind == at.GWRITE:
        done = gwrite_step(state, lat, word, now)
    elif state[at.GWRITING]:
        done = NOTHING
    elif kind == at.P_HEADER:
        done = header_step(state, lat, word, rows, now)
    else:
        done = compute_step(state, lat, word, rows, now)
    if done == ISSUED:
        state[at.NEXT_SCAN] = 0
    elif state[at.BUDGET] < lat[at.P_RESERVE]:
        done = HOLD
    return done
