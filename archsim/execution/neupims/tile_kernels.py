"""NeuPIMs tiles on their way through the device: issue to the memory, answers, stores; where core and channels meet.

Three tile slots: 0 and 1 for the NPU (double buffering), 2 for the PIM operator. `env` holds addresses, counters (E_*).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute import neupims_kernels as npu
from archsim.memory.neupims import layout_kernels as at
from archsim.memory.neupims.address_kernels import (
    advance_pointer,
    hash_order,
    pointer_blocks,
    push_blocks,
    strided_blocks,
)
from archsim.memory.neupims.program_kernels import PLAIN, SLOT, key_program, value_program

ACK = 0xFFFFFF  # group of write acknowledgements
PIM_SLOT = 2
# ---- env
(E_POINTER, E_LIMIT, E_SYNTHETIC, E_HASHED, E_STAGE, E_NPU_BYTES, E_PIM_STORE_BASE, E_ISSUE_ONE, E_SENT, E_TO_SEND,
 E_LANES, E_PHYSICAL_VECTOR, E_SIZE) = range(13)  # fmt: skip
# ---- operator row: kind, dimensions, tile sizes, bases in bytes
(O_KIND, O_N, O_K, O_M, O_TN, O_TK, O_TM, O_TILES, O_WEIGHT, O_INPUT, O_PARAMETER, O_OUTPUT, O_SECOND,
 O_SIZE) = range(14)  # fmt: skip
KEY, VALUE = 10, 11  # kinds of PIM operators: O_N first request, O_K number of requests


@njit(cache=True, nogil=True)
def make_blocks(
    blocks: NDArray[np.int64], links: NDArray[np.int64], env: NDArray[np.int64], op: NDArray[np.int64],
    move: NDArray[np.int64],
) -> int:  # fmt: skip
    """Blocks of one load or store (operand, first row, rows, first column, columns of `move`), in their order.

    The peer takes its addresses from one running pointer at this moment.
    """
    operand, row, rows, column, columns = move[0], move[1], move[2], move[3], move[4]
    if rows * columns == 0:
        return 0
    if env[E_SYNTHETIC]:
        n = pointer_blocks(blocks, env[E_POINTER], rows * columns, env[E_LIMIT])
        env[E_POINTER] = advance_pointer(env[E_POINTER], rows * columns, env[E_LIMIT])
        if env[E_HASHED]:
            hash_order(blocks, n, links[0].reshape(-1), links[1:].reshape(-1, 3))
        return int(n)
    base = op[O_WEIGHT + operand]
    if op[O_KIND] == npu.FUSED:
        width = 0 if operand == npu.WEIGHT else op[O_K] * op[O_M]
        start = row if operand == npu.WEIGHT else row * width + column
        return int(strided_blocks(blocks, base + 2 * start, 1, columns * 2, 0))
    if operand == npu.WEIGHT:
        index = (row // 128) * (-(-op[O_M] // 128)) + column // 128
        return int(strided_blocks(blocks, base + index * 32768, 1, rows * columns * 2, 0))
    gemm = op[O_KIND] == npu.GEMM
    width = op[O_M] if gemm and operand == npu.OUTPUT else op[O_K]
    return int(strided_blocks(blocks, base + (row * width + column) * 2, rows, columns * 2, width * 2))


@njit(cache=True, nogil=True)
def tile_box(op: NDArray[np.int64], index: int, box: NDArray[np.int64]) -> None:
    """Put first and number of tokens, k and outputs of tile `index` (outputs outer, tokens, k inner) into `box`."""
    tiles_n, tiles_k = -(-op[O_N] // op[O_TN]), -(-op[O_K] // op[O_TK])
    k, n, m = index % tiles_k, index // tiles_k % tiles_n, index // (tiles_k * tiles_n)
    box[0], box[2], box[4] = n * op[O_TN], k * op[O_TK], m * op[O_TM]
    box[1] = min(op[O_TN], op[O_N] - box[0])
    box[3] = min(op[O_TK], op[O_K] - box[2])
    box[5] = min(op[O_TM], op[O_M] - box[4])


@njit(cache=True, nogil=True)
def clear_tile(tile: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64]) -> None:
    """Reset a slot before a new tile moves in."""
    tile[:] = 0
    issued[:] = 0
    running[:] = 0


@njit(cache=True, nogil=True)
def build_npu_tile(
    op: NDArray[np.int64], index: int, tile: NDArray[np.int64], moves: NDArray[np.int64], steps: NDArray[np.int64],
    stores: NDArray[np.int64], rules: NDArray[np.int64], seq: NDArray[np.int64], box: NDArray[np.int64],
) -> None:  # fmt: skip
    """The program of one NPU tile; `box` is scratch."""
    if op[O_KIND] == npu.GEMM:
        whole = op[O_N : O_M + 1]
        tile_box(op, index, box)
        npu.gemm_program(tile, moves, steps, stores, rules, box, whole)
    elif op[O_KIND] == npu.FUSED:
        first = index * op[O_TN]
        last = min(first + op[O_TN], op[O_N])
        offset = 2 * op[O_M] * op[O_K] * seq[:first].sum()
        npu.attention_program(tile, moves, steps, stores, rules, op[O_M], op[O_K], first, seq[first:last], offset)
    elif op[O_KIND] == npu.WAIT:
        npu.add_step(steps, tile, npu.VECTOR, 0, -1, 0, op[O_N])
        tile[npu.T_RESULTS] = 1
    else:
        first = index * op[O_TN]
        rows = min(op[O_TN], op[O_N] - first)
        npu.row_program(tile, moves, steps, stores, rules, op[O_KIND], first, rows, op[O_K])


@njit(cache=True, nogil=True)
def issue_npu_tile(
    states: NDArray[np.int64], queue: NDArray[np.int64], env: NDArray[np.int64], op: NDArray[np.int64], index: int,
    slot: int, tiles: NDArray[np.int64], left: NDArray[np.int64], moves: NDArray[np.int64], steps: NDArray[np.int64],
    stores: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64], rules: NDArray[np.int64],
    seq: NDArray[np.int64], blocks: NDArray[np.int64], links: NDArray[np.int64], now: int,
) -> None:  # fmt: skip
    """Build a tile and, unless loads leave in turn, hand all of them to the memory in this cycle."""
    tile = tiles[slot]
    clear_tile(tile, issued[slot], running[slot])
    build_npu_tile(op, index, tile, moves[slot], steps[slot], stores[slot], rules, seq, links[0])
    left[slot, : tile[npu.T_GROUPS]] = 1  # until its load leaves
    for at_move in range(tile[npu.T_MOVES]):
        if not moves[slot, at_move, 0]:
            tile[npu.T_LOADS] += 1
    tile[npu.T_OPEN_STEPS] = tile[npu.T_STEPS]
    tile[npu.T_ACTIVE] = 1
    if not rules[npu.K_LOADS_IN_TURN]:
        while issue_load(states, queue, env, op, slot, tiles, left, moves, blocks, links, now):
            pass


@njit(cache=True, nogil=True)
def issue_load(
    states: NDArray[np.int64], queue: NDArray[np.int64], env: NDArray[np.int64], op: NDArray[np.int64], slot: int,
    tiles: NDArray[np.int64], left: NDArray[np.int64], moves: NDArray[np.int64], blocks: NDArray[np.int64],
    links: NDArray[np.int64], now: int,
) -> bool:  # fmt: skip
    """Hand the tile's next load to the memory; false if none is left."""
    tile = tiles[slot]
    while tile[npu.T_NEXT_MOVE] < tile[npu.T_MOVES]:
        move = moves[slot, tile[npu.T_NEXT_MOVE]]
        tile[npu.T_NEXT_MOVE] += 1
        if move[0]:
            continue
        n = make_blocks(blocks, links, env, op, move[2:7])
        left[slot, move[1]] += n - 1
        tile[npu.T_LOADS] += n - 1
        push_blocks(states, queue, 0, blocks, n, at.READ, slot << SLOT | move[1], env[E_SYNTHETIC] == 0, now)
        return True
    return False


@njit(cache=True, nogil=True)
def pim_steps(
    env: NDArray[np.int64], op: NDArray[np.int64], shape: NDArray[np.int64], seq: NDArray[np.int64],
    tile: NDArray[np.int64], steps: NDArray[np.int64], stores: NDArray[np.int64],
) -> None:  # fmt: skip
    """Softmaxes (K) or sums of partial results (V) and the stores behind them."""
    physical = env[E_PHYSICAL_VECTOR] != 0
    heads, head_dim, per_row, banks = shape[0], shape[1], shape[2], shape[3]
    parts = -(-head_dim // banks)
    offset = 0
    for request in range(seq.size):
        length = seq[request]
        chunks = -(-length // per_row)
        if op[O_KIND] == VALUE and chunks == 1 and not physical:
            continue
        for unit in range(heads if op[O_KIND] == KEY else heads * parts):
            if op[O_KIND] == KEY:
                group = request * heads + unit
                clocks = npu.vector_clocks(npu.FUSED, length if physical else 2 * length, env[E_LANES])
                elements = length
            else:
                group = request * heads * parts + unit
                elements = -(-head_dim // parts) if physical else head_dim
                clocks = npu.vector_clocks(npu.ADD, 2 * head_dim, env[E_LANES])
                if physical:
                    clocks = max(1, chunks - 1) * npu.vector_clocks(npu.ADD, elements, env[E_LANES])
            at_store = tile[npu.T_STORES]
            npu.add_step(steps, tile, npu.VECTOR, group, -1, at_store, clocks)
            stores[at_store, 0] = at_store
            stores[at_store, 1] = npu.OUTPUT
            stores[at_store, 2], stores[at_store, 3] = 0, 1
            stores[at_store, 4], stores[at_store, 5] = offset, elements
            offset += -(-elements // 32) * 32
            tile[npu.T_STORES] += 1
    tile[npu.T_NEED] = 1
    tile[npu.T_OPEN_STEPS] = tile[npu.T_STEPS]


@njit(cache=True, nogil=True)
def issue_pim_tile(
    env: NDArray[np.int64], op: NDArray[np.int64], shape: NDArray[np.int64], all_seq: NDArray[np.int64],
    all_channel: NDArray[np.int64], tiles: NDArray[np.int64], left: NDArray[np.int64], steps: NDArray[np.int64],
    stores: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64], words: NDArray[np.int64],
    channels: NDArray[np.int64], links: NDArray[np.int64],
) -> None:  # fmt: skip
    """Build the PIM operator's commands, its vector work and stores; `send_commands` hands the commands over."""
    slot = PIM_SLOT
    clear_tile(tiles[slot], issued[slot], running[slot])
    left[slot] = 0
    seq = all_seq[op[O_N] : op[O_N] + op[O_K]]
    channel = all_channel[op[O_N] : op[O_N] + op[O_K]]
    if op[O_KIND] == KEY:
        n = key_program(words, channels, left[slot], shape, seq, channel, links[0], slot)
    else:
        n = value_program(words, channels, left[slot], shape, seq, channel, links[0], slot)
    env[E_SENT] = 0
    env[E_TO_SEND] = n
    loads = 0
    for index in range(n):
        if words[index] & 15 != at.P_HEADER:
            loads += 1
    pim_steps(env, op, shape, seq, tiles[slot], steps[slot], stores[slot])
    tiles[slot, npu.T_LOADS] = loads
    tiles[slot, npu.T_ACTIVE] = 1


@njit(cache=True, nogil=True)
def take_answers(
    tiles: NDArray[np.int64], left: NDArray[np.int64], wheel: NDArray[np.int64], wheel_n: NDArray[np.int64], now: int
) -> None:
    """Book the answers that reach the core in this cycle."""
    place = now & (wheel_n.size - 1)
    for index in range(wheel_n[place]):
        tag = wheel[place, index]
        slot, group = tag >> SLOT, tag & ACK
        if group == ACK:
            tiles[slot, npu.T_ACKS] -= 1
        else:
            tiles[slot, npu.T_LOADS] -= 1
            if group != PLAIN:
                left[slot, group] -= 1
    wheel_n[place] = 0


@njit(cache=True, nogil=True)
def tile_done(tile: NDArray[np.int64]) -> bool:
    """Have all loads, computations, stores and acknowledgements of the tile come in?"""
    return bool(
        tile[npu.T_LOADS] == 0
        and tile[npu.T_OPEN_STEPS] == 0
        and tile[npu.T_NEXT_STORE] == tile[npu.T_STORES]
        and tile[npu.T_ACKS] == 0
    )
