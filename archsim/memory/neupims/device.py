"""A NeuPIMs device's channels as arrays: the latency table, fresh state, command counts and energy.

Latencies follow from the DRAM timings as in DRAMsim3 and its PIM extension NewtonSim (casys-kaist/NeuPIMs f299af3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.pim_neupims import NeupimsDevice, NeupimsTiming
from archsim.memory.neupims import layout_kernels as at
from archsim.memory.neupims.program_kernels import (
    A_BANKS,
    A_HEAD_DIM,
    A_HEADS,
    A_LANE,
    A_ROW_BASE,
    A_ROW_ELEMENTS,
    A_SINGLE,
    A_SIZE,
)

Mode = Literal["dual", "single", "single-issue1", "npu-only"]
SHORT_QUEUE, LONG_QUEUE = 96, 4352  # requests of a channel under way, without and with PIM
PIM_ROW_BASE = 1 << 25  # above every row of ordinary data
COMMANDS = ("READ", "WRITE", "ACT", "PRE", "REF", "GWRITE", "G_ACT", "COMP", "READRES", "PIM_PRECHARGE")


@dataclass(frozen=True)
class ChannelTally:
    """What all channels did: command counts, and rank clocks with an open row (memory and PIM buffers)."""

    counts: dict[str, int]
    rank_clocks: int
    open_clocks: int
    pim_open_clocks: int
    pim_busy_clocks: int


def latency_table(device: NeupimsDevice, mode: Mode, two_queues: bool) -> NDArray[np.int64]:
    """The controller's latencies and switches in clocks, (P_SIZE,)."""
    t = device.timing
    single = mode in ("single", "single-issue1")
    table = np.zeros(at.P_SIZE, np.int64)
    table[at.P_SINGLE] = single
    table[at.P_MIXUP] = device.defect("response_mixup")
    table[at.P_LOOSE] = device.defect("loose_single_buffer")
    table[at.P_TWO_QUEUES] = two_queues
    table[at.P_REFRESH] = t.refi // 2
    table[at.P_UNDERWAY] = SHORT_QUEUE if mode == "npu-only" and device.defect("npu_only_core") else LONG_QUEUE
    for index, clocks in _distances(t, single).items():
        table[index] = clocks
    return table


def _distances(t: NeupimsTiming, single: bool) -> dict[int, int]:
    group = t.write_latency + t.wtr_l + t.burst
    rank = t.write_latency + t.wtr_s + t.burst
    return {
        at.P_RCD: t.rcd,
        at.P_BURST: t.burst,
        at.P_READ_READ: max(t.burst, t.ccd_s, t.ccd_l),
        at.P_READ_READ_OTHER: t.burst + t.rtrs,
        at.P_READ_WRITE: t.read_latency + t.burst - t.write_latency + t.rtrs,
        at.P_READ_PRE: t.rtp,
        at.P_WRITE_WRITE: max(t.burst, t.ccd_s, t.ccd_l),
        at.P_WRITE_READ_GROUP: group,
        at.P_WRITE_READ_RANK: rank,
        at.P_WRITE_PRE: t.write_latency + t.burst + t.wr,
        at.P_RAS: t.ras,
        at.P_RC: t.rc,
        at.P_RRD_L: t.rrd_l,
        at.P_RRD_S: t.rrd_s,
        at.P_FAW: t.faw,
        at.P_RP: t.rp,
        at.P_RFC: t.rfc,
        at.P_GACT_ACT: t.rc if single else t.rrd_l,
        at.P_GACT_RANK: t.faw,
        at.P_GWRITE: t.gwrite,
        at.P_MIN_COMPS: t.min_comps,
        at.P_COMPS_GACT: t.rtp + t.rp,
        at.P_READ_DUE: t.read_latency + t.burst,
        at.P_WRITE_COMPS: group if single else rank,
        at.P_ACT_GACT: t.rc if single else t.rrd_l,
        at.P_RESERVE: t.memory_reserve,
        at.P_PRE_STEP: t.guard_step,
    }


def fresh_channels(channels: int, refresh_clocks: int) -> NDArray[np.int64]:
    """(channels, STATE_SIZE) state at clock 0: everything closed and empty, a refresh due every `refresh_clocks`."""
    states = np.zeros((channels, at.STATE_SIZE), np.int64)
    states[:, at.WINDOW : at.WINDOW + 8] = -at.FAR // 2
    states[:, at.ROW : at.ROW + 2 * at.BANKS] = -1
    states[:, at.GWRITE_DONE] = -1
    states[:, at.FIRST_COMP] = 1
    states[:, at.LAST_BANK] = at.BANKS - 1
    states[:, at.LAST_SLOT] = -1
    states[:, at.NEXT_REFRESH] = refresh_clocks
    return states


def attention_shape(device: NeupimsDevice, mode: Mode, heads: int, head_dim: int) -> NDArray[np.int64]:
    """What the PIM program generator needs to know, (A_SIZE,)."""
    shape = np.zeros(A_SIZE, np.int64)
    org = device.organisation
    shape[A_HEADS], shape[A_HEAD_DIM] = heads, head_dim
    shape[A_ROW_ELEMENTS] = org.row_bytes // org.element_bytes
    shape[A_BANKS], shape[A_LANE] = at.BANKS, org.lanes
    shape[A_SINGLE] = mode in ("single", "single-issue1")
    shape[A_ROW_BASE] = PIM_ROW_BASE
    return shape


def tally(states: NDArray[np.int64], clocks: int) -> ChannelTally:
    """Sum the channels' counters up to `clocks`."""
    counts = states[:, at.COUNTS : at.COUNTS + len(COMMANDS)].sum(axis=0)
    return ChannelTally(
        counts={name: int(count) for name, count in zip(COMMANDS, counts, strict=True)},
        rank_clocks=states.shape[0] * at.RANKS * clocks,
        open_clocks=_open_clocks(states, at.OPEN_BANKS, at.OPEN_SINCE, at.OPEN_TIME, clocks),
        pim_open_clocks=_open_clocks(states, at.PIM_OPEN_BANKS, at.PIM_OPEN_SINCE, at.PIM_OPEN_TIME, clocks),
        pim_busy_clocks=int(states[:, at.PIM_BUSY_TIME].sum()),
    )


def _open_clocks(states: NDArray[np.int64], open_banks: int, since: int, total: int, clocks: int) -> int:
    ranks = slice(0, at.RANKS)
    still = states[:, open_banks : open_banks + at.RANKS][:, ranks] > 0
    running = np.where(still, clocks - states[:, since : since + at.RANKS], 0)
    return int((states[:, total : total + at.RANKS] + running).sum())


def energy_j(device: NeupimsDevice, done: ChannelTally, dual: bool) -> dict[str, float]:
    """DRAM energy by component in joules, from IDD currents (DRAMsim3's formulas; NewtonSim's factors for PIM)."""
    c, t = device.currents, device.timing
    per_ma_clock = c.vdd * 1e-3 / device.clock
    activate = c.idd0 * t.rc - c.idd3n * t.ras - c.idd2n * t.rp
    read = (c.idd4r - c.idd3n) * t.burst
    write = (c.idd4w - c.idd3n) * t.burst
    n = done.counts
    standby = c.idd3n * done.open_clocks + c.idd2n * (done.rank_clocks - done.open_clocks)
    second = c.idd3n * done.pim_open_clocks + c.idd2n * (done.rank_clocks - done.pim_open_clocks)
    results = max(1, 16 * at.BANKS // 512)
    charge = {
        "activate": activate * n["ACT"],
        "read": read * n["READ"],
        "write": write * n["WRITE"],
        "refresh": (c.idd5ab - c.idd3n) * t.rfc * n["REF"],
        "gwrite": c.gwrite_reads * read * n["GWRITE"],
        "pim_activate": 4 * activate * n["G_ACT"],
        "compute": c.comp_reads * read * n["COMP"],
        "readres": results * read * n["READRES"],
        "standby": standby,
        "pim_standby": second if dual else 0.0,
    }
    return {name: value * per_ma_clock for name, value in charge.items()}
