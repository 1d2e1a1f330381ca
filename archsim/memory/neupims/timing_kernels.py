"""What each command of a NeuPIMs channel does to the earliest issue times of the others.

`state` is one channel's vector (layout_kernels), `lat` the latency table in clocks, `now` the issue clock.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.neupims import layout_kernels as at


@njit(cache=True, nogil=True)
def push_back(state: NDArray[np.int64], index: int, clock: int) -> None:
    """The command at `index` may not issue before `clock`."""
    if state[index] < clock:
        state[index] = clock


@njit(cache=True, nogil=True)
def after_read(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, now: int) -> None:
    """READ on `bank`."""
    rank = bank >> 4
    push_back(state, at.R_READ + rank, now + lat[at.P_READ_READ])
    push_back(state, at.R_READ + 1 - rank, now + lat[at.P_READ_READ_OTHER])
    push_back(state, at.C_WRITE, now + lat[at.P_READ_WRITE])
    push_back(state, at.B_PRE + bank, now + lat[at.P_READ_PRE])
    push_back(state, at.C_COMPS, now + lat[at.P_BURST])
    if rank == 0:
        push_back(state, at.C_GWRITE, now + lat[at.P_BURST])


@njit(cache=True, nogil=True)
def after_write(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, now: int) -> None:
    """WRITE on `bank`."""
    rank, group = bank >> 4, bank >> 2
    push_back(state, at.C_WRITE, now + lat[at.P_WRITE_WRITE])
    push_back(state, at.G_READ + group, now + lat[at.P_WRITE_READ_GROUP])
    push_back(state, at.R_READ + rank, now + lat[at.P_WRITE_READ_RANK])
    push_back(state, at.B_PRE + bank, now + lat[at.P_WRITE_PRE])
    push_back(state, at.C_COMPS, now + lat[at.P_WRITE_COMPS])
    if rank == 0:
        wait = lat[at.P_WRITE_READ_GROUP] if group == 0 else lat[at.P_WRITE_READ_RANK]
        push_back(state, at.C_GWRITE, now + wait)


@njit(cache=True, nogil=True)
def activate_clock(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int) -> int:
    """Earliest ACT of `bank`: bank, group and rank distances and the window of four ACTs."""
    rank, group = bank >> 4, bank >> 2
    oldest = state[at.WINDOW + 4 * rank + state[at.WINDOW_AT + rank]] + lat[at.P_FAW]
    own = max(state[at.B_ACT + bank], state[at.G_ACT + group])
    return int(max(own, state[at.R_ACT + rank], oldest))


@njit(cache=True, nogil=True)
def after_activate(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, now: int) -> None:
    """ACT on `bank` (memory row buffer)."""
    rank, group = bank >> 4, bank >> 2
    push_back(state, at.B_READ + bank, now + lat[at.P_RCD])
    push_back(state, at.B_WRITE + bank, now + lat[at.P_RCD])
    push_back(state, at.B_PRE + bank, now + lat[at.P_RAS])
    push_back(state, at.B_ACT + bank, now + lat[at.P_RC])
    push_back(state, at.B_GACT + bank, now + lat[at.P_ACT_GACT])
    push_back(state, at.G_ACT + group, now + lat[at.P_RRD_L])
    push_back(state, at.G_GACT + group, now + lat[at.P_RRD_L])
    push_back(state, at.R_ACT + rank, now + lat[at.P_RRD_S])
    push_back(state, at.R_GACT + rank, now + lat[at.P_RRD_S])
    if bank == 0:
        push_back(state, at.C_GWRITE, now + lat[at.P_RCD])
    slot = state[at.WINDOW_AT + rank]
    state[at.WINDOW + 4 * rank + slot] = now
    state[at.WINDOW_AT + rank] = (slot + 1) & 3


@njit(cache=True, nogil=True)
def after_precharge(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, now: int) -> None:
    """PRE on `bank` (memory row buffer)."""
    push_back(state, at.B_ACT + bank, now + lat[at.P_RP])
    push_back(state, at.R_REF + (bank >> 4), now + lat[at.P_RP])
    if lat[at.P_SINGLE] and not lat[at.P_LOOSE]:
        push_back(state, at.B_GACT + bank, now + lat[at.P_RP])


@njit(cache=True, nogil=True)
def after_pim_precharge(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, now: int) -> None:
    """PIM_PRECHARGE on `bank` (PIM row buffer)."""
    push_back(state, at.B_GACT + bank, now + lat[at.P_RP])
    push_back(state, at.R_REF + (bank >> 4), now + lat[at.P_RP])


@njit(cache=True, nogil=True)
def after_refresh(state: NDArray[np.int64], lat: NDArray[np.int64], rank: int, now: int) -> None:
    """REF of `rank`."""
    push_back(state, at.R_ACT + rank, now + lat[at.P_RFC])
    push_back(state, at.R_GACT + rank, now + lat[at.P_RFC])
    push_back(state, at.R_REF + rank, now + lat[at.P_RFC])


@njit(cache=True, nogil=True)
def after_group_activate(state: NDArray[np.int64], lat: NDArray[np.int64], group: int, now: int) -> None:
    """G_ACT of the four banks of `group`."""
    rank = group >> 2
    push_back(state, at.R_ACT + rank, now + lat[at.P_GACT_RANK])
    push_back(state, at.G_ACT + group, now + lat[at.P_GACT_ACT])
    push_back(state, at.G_GACT + group, now + lat[at.P_RC])
    push_back(state, at.R_GACT + rank, now + lat[at.P_GACT_RANK])
    push_back(state, at.C_COMPS, now + lat[at.P_RCD])
    push_back(state, at.C_READRES, now + lat[at.P_RCD])
    for bank in range(4 * group, 4 * group + 4):
        push_back(state, at.B_PIM_PRE + bank, now + lat[at.P_RAS])
        if lat[at.P_SINGLE] and not lat[at.P_LOOSE]:
            push_back(state, at.B_PRE + bank, now + lat[at.P_RAS])


@njit(cache=True, nogil=True)
def after_gwrite(state: NDArray[np.int64], lat: NDArray[np.int64], now: int) -> None:
    """GWRITE from rank 0, bank 0."""
    busy = now + lat[at.P_GWRITE]
    push_back(state, at.B_READ, busy)
    push_back(state, at.B_WRITE, busy)
    push_back(state, at.B_PRE, busy)
    push_back(state, at.R_READ, now + lat[at.P_READ_READ])
    push_back(state, at.R_WRITE, now + lat[at.P_READ_WRITE])
    push_back(state, at.C_GWRITE, busy)
    push_back(state, at.C_COMPS, busy)


@njit(cache=True, nogil=True)
def after_composite(state: NDArray[np.int64], lat: NDArray[np.int64], comps: int, now: int) -> None:
    """COMPS_READRES: `comps` all-bank COMPs and one READRES."""
    push_back(state, at.C_COMPS, now + lat[at.P_BURST] * (max(comps, lat[at.P_MIN_COMPS]) + 1))
    for rank in range(at.RANKS):
        push_back(state, at.R_READ + rank, now + lat[at.P_READ_READ_OTHER])
    push_back(state, at.C_WRITE, now + lat[at.P_READ_WRITE])
    push_back(state, at.C_GWRITE, now + lat[at.P_BURST])
    push_back(state, at.C_GACT, now + lat[at.P_COMPS_GACT])
    push_back(state, at.C_PIM_PRE, now + lat[at.P_READ_PRE])


@njit(cache=True, nogil=True)
def after_comp(state: NDArray[np.int64], lat: NDArray[np.int64], now: int) -> None:
    """COMP of the single-buffer device."""
    push_back(state, at.C_COMPS, now + lat[at.P_BURST])
    wait = lat[at.P_MIN_COMPS] if state[at.FIRST_COMP] else lat[at.P_BURST]
    push_back(state, at.C_READRES, now + wait)
    for rank in range(at.RANKS):
        push_back(state, at.R_READ + rank, now + lat[at.P_READ_READ])
    push_back(state, at.C_WRITE, now + lat[at.P_READ_WRITE])
    push_back(state, at.C_GWRITE, now + lat[at.P_BURST])
    push_back(state, at.C_PRE, now + lat[at.P_READ_PRE])


@njit(cache=True, nogil=True)
def after_read_result(state: NDArray[np.int64], lat: NDArray[np.int64], now: int) -> None:
    """READRES of the single-buffer device."""
    push_back(state, at.C_COMPS, now + lat[at.P_BURST])
    push_back(state, at.C_READRES, now + lat[at.P_BURST])
    push_back(state, at.C_GWRITE, now + lat[at.P_BURST])
    for rank in range(at.RANKS):
        push_back(state, at.R_READ + rank, now + lat[at.P_READ_READ_OTHER])
    push_back(state, at.C_WRITE, now + lat[at.P_READ_WRITE])
    push_back(state, at.C_GACT, now + lat[at.P_COMPS_GACT])
    push_back(state, at.C_PRE, now + lat[at.P_READ_PRE])
