"""Co-simulation of one NeuPIMs stage: the NPU core's operators and the PIM operators, on the same channels.

Every cycle: finished operators leave and their successors issue, results retire, stores and instructions issue, then
each channel that has work runs one clock. Arrays are those of archsim.execution.neupims.machine.Machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute import neupims_kernels as npu
from archsim.execution.neupims.tile_kernels import (
    ACK,
    E_ISSUE_ONE,
    E_SENT,
    E_SYNTHETIC,
    E_TO_SEND,
    O_TILES,
    O_TM,
    PIM_SLOT,
    issue_load,
    issue_npu_tile,
    issue_pim_tile,
    make_blocks,
    take_answers,
    tile_done,
)
from archsim.memory.neupims import layout_kernels as at
from archsim.memory.neupims.address_kernels import push_blocks, push_request
from archsim.memory.neupims.channel_kernels import run_channels
from archsim.memory.neupims.program_kernels import SLOT

# ---- progress of a stage
(S_NPU_OP, S_PIM_OP, S_NPU_DONE, S_PIM_DONE, S_NEXT_TILE, S_STEP_TILE, S_STORE_TILE, S_NPU_FRESH, S_PIM_FRESH,
 S_SIZE) = range(10)  # fmt: skip


@njit(cache=True, nogil=True)
def book(tiles: NDArray[np.int64], running: NDArray[np.int64], left: NDArray[np.int64], tag: int) -> None:
    """A step of result `tag` has finished; a step that waits for it sees one answer less to come."""
    slot, result = tag >> SLOT, tag & ACK
    running[slot, result] -= 1
    tiles[slot, npu.T_OPEN_STEPS] -= 1
    if result < tiles[slot, npu.T_SIGNALS]:
        left[slot, tiles[slot, npu.T_SIGNAL] + result] -= 1


@njit(cache=True, nogil=True)
def retire(
    core: NDArray[np.int64], tiles: NDArray[np.int64], running: NDArray[np.int64], left: NDArray[np.int64], now: int
) -> None:
    """Retire one systolic instruction and one entry per vector unit."""
    tag = npu.retire_array(core, now)
    if tag >= 0:
        book(tiles, running, left, tag)
    for unit in range(npu.VPUS):
        if core[npu.VPU_HEAD + unit] < core[npu.VPU_TAIL + unit]:
            tag = npu.retire_vector(core, unit, now)
            if tag >= 0:
                book(tiles, running, left, tag)


@njit(cache=True, nogil=True)
def fire_store(
    states: NDArray[np.int64], queue: NDArray[np.int64], env: NDArray[np.int64], op: NDArray[np.int64], slot: int,
    tiles: NDArray[np.int64], left: NDArray[np.int64], stores: NDArray[np.int64], issued: NDArray[np.int64],
    running: NDArray[np.int64], blocks: NDArray[np.int64], links: NDArray[np.int64], now: int,
) -> None:  # fmt: skip
    """Issue the next store of a tile if its result is valid."""
    tile = tiles[slot]
    if tile[npu.T_NEXT_STORE] >= tile[npu.T_STORES]:
        return
    blocks_m = max(1, -(-op[O_TM] // 128))
    if tile[npu.T_BIAS] > 0:
        blocks_m = tile[npu.T_RESULTS] // tile[npu.T_BIAS]
    if not npu.store_ready(tile, stores[slot], issued[slot], running[slot], left[slot], blocks_m):
        return
    store = stores[slot, tile[npu.T_NEXT_STORE]]
    n = make_blocks(blocks, links, env, op, store[1:6])
    tile[npu.T_ACKS] += n
    tile[npu.T_NEXT_STORE] += 1
    spread = env[E_SYNTHETIC] == 0
    push_blocks(states, queue, 1 if slot == PIM_SLOT else 0, blocks, n, at.WRITE, slot << SLOT | ACK, spread, now)


@njit(cache=True, nogil=True)
def issue_step(
    core: NDArray[np.int64], rules: NDArray[np.int64], slot: int, tiles: NDArray[np.int64], left: NDArray[np.int64],
    steps: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64], now: int,
) -> None:  # fmt: skip
    """Issue the next instruction of a tile if its operands are in."""
    tile = tiles[slot]
    if tile[npu.T_NEXT_STEP] >= tile[npu.T_STEPS]:
        return
    step = steps[slot, tile[npu.T_NEXT_STEP]]
    if left[slot, step[1]] > 0 or (step[2] >= 0 and left[slot, step[2]] > 0):
        return
    tile[npu.T_NEXT_STEP] += 1
    issued[slot, step[3]] += 1
    running[slot, step[3]] += 1
    tag = slot << SLOT | step[3]
    if step[0] == npu.VECTOR:
        npu.start_vector(core, rules, step[4], tag, now)
    else:
        npu.start_array(core, rules, step[0], step[4], tag, now)


@njit(cache=True, nogil=True)
def send_commands(
    states: NDArray[np.int64], queue: NDArray[np.int64], env: NDArray[np.int64], words: NDArray[np.int64],
    channels: NDArray[np.int64], now: int,
) -> None:  # fmt: skip
    """Hand PIM commands to the channels: all at once, or one per cycle for the whole device."""
    last = env[E_TO_SEND]
    if env[E_ISSUE_ONE]:
        last = min(last, env[E_SENT] + 1)
    for index in range(env[E_SENT], last):
        push_request(states, queue, 1, channels[index], words[index], now)
    env[E_SENT] = last


@njit(cache=True, nogil=True)
def slot_free(tile: NDArray[np.int64]) -> bool:
    """May the next tile move into this slot: no loads, computations, stores or acknowledgements left?"""
    return bool(tile_done(tile))


@njit(cache=True, nogil=True)
def leave(progress: NDArray[np.int64], npu_times: NDArray[np.int64], pim_times: NDArray[np.int64], now: int) -> None:
    """One finished operator leaves and its successor becomes current."""
    if progress[S_NPU_DONE]:
        npu_times[progress[S_NPU_OP], 1] = now
        progress[S_NPU_OP] += 1
        progress[S_NPU_DONE] = 0
        progress[S_NPU_FRESH] = 1
    elif progress[S_PIM_DONE]:
        pim_times[progress[S_PIM_OP], 1] = now
        progress[S_PIM_OP] += 1
        progress[S_PIM_DONE] = 0
        progress[S_PIM_FRESH] = 1


@njit(cache=True, nogil=True)
def core_cycle(
    states: NDArray[np.int64], npu_queue: NDArray[np.int64], pim_queue: NDArray[np.int64], wheel: NDArray[np.int64],
    wheel_n: NDArray[np.int64], core: NDArray[np.int64], rules: NDArray[np.int64], env: NDArray[np.int64],
    shape: NDArray[np.int64], npu_ops: NDArray[np.int64], pim_ops: NDArray[np.int64], seq: NDArray[np.int64],
    channel: NDArray[np.int64], tiles: NDArray[np.int64], left: NDArray[np.int64], moves: NDArray[np.int64],
    steps: NDArray[np.int64], stores: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64],
    words: NDArray[np.int64], channels: NDArray[np.int64], blocks: NDArray[np.int64], links: NDArray[np.int64],
    npu_times: NDArray[np.int64], pim_times: NDArray[np.int64], progress: NDArray[np.int64], now: int,
) -> bool:  # fmt: skip
    """One cycle of the core; false if both sides have nothing left to do."""
    take_answers(tiles, left, wheel, wheel_n, now)
    leave(progress, npu_times, pim_times, now)
    at_npu, at_pim = progress[S_NPU_OP], progress[S_PIM_OP]
    npu_busy, pim_busy = at_npu < npu_ops.shape[0], at_pim < pim_ops.shape[0]
    if pim_busy and progress[S_PIM_FRESH]:
        progress[S_PIM_FRESH] = 0
        pim_times[at_pim, 0] = now
        issue_pim_tile(
            env, pim_ops[at_pim], shape, seq, channel, tiles, left, steps, stores, issued, running, words, channels,
            links,
        )  # fmt: skip
    if npu_busy and progress[S_NPU_FRESH]:
        progress[S_NPU_FRESH] = 0
        npu_times[at_npu, 0] = now
        progress[S_NEXT_TILE] = 0
        progress[S_STEP_TILE] = 0
        progress[S_STORE_TILE] = 0
        tiles[0, :] = 0
        tiles[1, :] = 0
    if npu_busy:
        next_tile(
            states, npu_queue, env, npu_ops[at_npu], progress, tiles, left, moves, steps, stores, issued, running,
            rules, seq, blocks, links, now,
        )  # fmt: skip
    retire(core, tiles, running, left, now)
    if npu_busy:
        fire_store(
            states, npu_queue, env, npu_ops[at_npu], progress[S_STORE_TILE] & 1, tiles, left, stores, issued, running,
            blocks, links, now,
        )  # fmt: skip
    if pim_busy:
        fire_store(
            states, pim_queue, env, pim_ops[at_pim], PIM_SLOT, tiles, left, stores, issued, running, blocks, links, now
        )
    if npu_busy:
        advance_npu(npu_ops[at_npu], progress, tiles, left, steps, issued, running, rules, core, now)
    if pim_busy:
        send_commands(states, pim_queue, env, words, channels, now)
        issue_step(core, rules, PIM_SLOT, tiles, left, steps, issued, running, now)
        progress[S_PIM_DONE] = 1 if tile_done(tiles[PIM_SLOT]) and env[E_SENT] == env[E_TO_SEND] else 0
    return bool(npu_busy or pim_busy)


# Without reference counts (the machine keeps the arrays alive): counting views of them takes a third of the time.
@njit(cache=True, nogil=True, _nrt=False)
def run_stage(
    states: NDArray[np.int64], marks: NDArray[np.uint8], order: NDArray[np.uint8], lat: NDArray[np.int64],
    npu_queue: NDArray[np.int64], pim_queue: NDArray[np.int64], wheel: NDArray[np.int64], wheel_n: NDArray[np.int64],
    core: NDArray[np.int64], rules: NDArray[np.int64], env: NDArray[np.int64], shape: NDArray[np.int64],
    npu_ops: NDArray[np.int64], pim_ops: NDArray[np.int64], seq: NDArray[np.int64], channel: NDArray[np.int64],
    tiles: NDArray[np.int64], left: NDArray[np.int64], moves: NDArray[np.int64], steps: NDArray[np.int64],
    stores: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64], words: NDArray[np.int64],
    channels: NDArray[np.int64], blocks: NDArray[np.int64], links: NDArray[np.int64], npu_times: NDArray[np.int64],
    pim_times: NDArray[np.int64], progress: NDArray[np.int64], start: int, limit: int,
) -> int:  # fmt: skip
    """Run one stage from cycle `start`. Returns the cycle in which the next stage may start, or -1 past `limit`.

    Two cycles of the core, then two clocks of every channel: an answer takes two cycles to the core.
    """
    progress[:] = 0
    progress[S_NPU_FRESH] = 1
    progress[S_PIM_FRESH] = 1
    now = start
    while now < limit:
        cycles = 0
        busy = True
        while busy and cycles < 2:
            busy = core_cycle(
                states, npu_queue, pim_queue, wheel, wheel_n, core, rules, env, shape, npu_ops, pim_ops, seq, channel,
                tiles, left, moves, steps, stores, issued, running, words, channels, blocks, links, npu_times,
                pim_times, progress, now + cycles,
            )  # fmt: skip
            cycles += 1
        run_channels(states, lat, marks, npu_queue, pim_queue, order, wheel, wheel_n, now, now + cycles)
        now += cycles
        if not busy:
            return now
    return -1


@njit(cache=True, nogil=True)
def next_tile(
    states: NDArray[np.int64], queue: NDArray[np.int64], env: NDArray[np.int64], op: NDArray[np.int64],
    progress: NDArray[np.int64], tiles: NDArray[np.int64], left: NDArray[np.int64], moves: NDArray[np.int64],
    steps: NDArray[np.int64], stores: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64],
    rules: NDArray[np.int64], seq: NDArray[np.int64], blocks: NDArray[np.int64], links: NDArray[np.int64], now: int,
) -> None:  # fmt: skip
    """Issue the next tile of the current NPU operator if its slot is free; loads that leave in turn: the next one."""
    following = progress[S_NEXT_TILE]
    if following < op[O_TILES] and slot_free(tiles[following & 1]):
        issue_npu_tile(
            states, queue, env, op, following, following & 1, tiles, left, moves, steps, stores, issued, running, rules,
            seq, blocks, links, now,
        )  # fmt: skip
        progress[S_NEXT_TILE] += 1
    if rules[npu.K_LOADS_IN_TURN]:
        for tile in range(max(0, progress[S_NEXT_TILE] - 2), progress[S_NEXT_TILE]):
            if issue_load(states, queue, env, op, tile & 1, tiles, left, moves, blocks, links, now):
                return


@njit(cache=True, nogil=True)
def advance_npu(
    op: NDArray[np.int64], progress: NDArray[np.int64], tiles: NDArray[np.int64], left: NDArray[np.int64],
    steps: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64], rules: NDArray[np.int64],
    core: NDArray[np.int64], now: int,
) -> None:  # fmt: skip
    """Issue the next instruction of the current NPU operator, and see whether it is done."""
    current = progress[S_STEP_TILE]
    tile = tiles[current & 1]
    if current < progress[S_NEXT_TILE]:
        issue_step(core, rules, current & 1, tiles, left, steps, issued, running, now)
        if tile[npu.T_NEXT_STEP] == tile[npu.T_STEPS] and current + 1 < op[O_TILES]:
            progress[S_STEP_TILE] += 1
    storing = progress[S_STORE_TILE]
    if storing + 1 < progress[S_NEXT_TILE] and tiles[storing & 1, npu.T_NEXT_STORE] == tiles[storing & 1, npu.T_STORES]:
        progress[S_STORE_TILE] += 1
    if progress[S_NEXT_TILE] == op[O_TILES]:
        progress[S_NPU_DONE] = 1 if tile_done(tiles[0]) and tile_done(tiles[1]) else 0


@njit(cache=True, nogil=True, _nrt=False)
def idle(
    states: NDArray[np.int64], marks: NDArray[np.uint8], order: NDArray[np.uint8], lat: NDArray[np.int64],
    npu_queue: NDArray[np.int64], pim_queue: NDArray[np.int64], wheel: NDArray[np.int64], wheel_n: NDArray[np.int64],
    start: int, end: int,
) -> None:  # fmt: skip
    """Let the channels finish and refresh from cycle `start` to `end` with a core that asks for nothing."""
    for now in range(start, end):
        wheel_n[now & (wheel_n.size - 1)] = 0
        run_channels(states, lat, marks, npu_queue, pim_queue, order, wheel, wheel_n, now, now + 1)
