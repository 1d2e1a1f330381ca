"""Where the data of an instruction lies, as 64-byte blocks spread over the channels of a NeuPIMs device.

Linear block b: channel = b mod channels; the quotient x has the column in bits 0-3, the bank in bits 4-8 and the row
above. The peer's traffic uses one running byte pointer and leaves an instruction in hash-table order.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.neupims import layout_kernels as at

BLOCK_BYTES = 64


@njit(cache=True, nogil=True)
def push_request(
    states: NDArray[np.int64], queue: NDArray[np.int64], side: int, channel: int, word: int, now: int
) -> None:
    """The core hands one request to a channel's network port (side 0: NPU, 1: PIM)."""
    state = states[channel]
    at_most = queue.shape[1]
    if state[at.HANDED_AT + side] != now:
        state[at.HANDED_AT + side] = now
        state[at.HANDED_BEFORE + side] = state[at.PUSHED + side]
    queue[channel, state[at.PUSHED + side] & (at_most - 1)] = word
    state[at.PUSHED + side] += 1
    if state[at.PUSHED + side] - state[at.TAKEN + side] > at_most:
        state[at.FAULT] = 4
    if state[at.WAKE] > now:
        state[at.WAKE] = now


@njit(cache=True, nogil=True)
def push_blocks(
    states: NDArray[np.int64], queue: NDArray[np.int64], side: int, blocks: NDArray[np.int64], n: int, kind: int,
    tag: int, spread: bool, now: int,
) -> None:  # fmt: skip
    """Hand the first n blocks over, in order.

    spread: rotate the channels from one group of blocks to the next, so that strided data uses all of them.
    """
    channels = states.shape[0]
    for index in range(n):
        group, channel = blocks[index] // channels, blocks[index] % channels
        if spread:
            channel = (channel + group + group // channels) % channels
        push_request(states, queue, side, channel, kind | group << 4 | tag << 31, now)


@njit(cache=True, nogil=True)
def strided_blocks(blocks: NDArray[np.int64], base: int, rows: int, row_bytes: int, stride_bytes: int) -> int:
    """Blocks of `rows` rows of `row_bytes`, `stride_bytes` apart, from byte `base`; ascending. Returns their number."""
    n = 0
    last = -1
    for row in range(rows):
        first = (base + row * stride_bytes) // BLOCK_BYTES
        final = (base + row * stride_bytes + row_bytes - 1) // BLOCK_BYTES
        for block in range(max(first, last + 1), final + 1):
            blocks[n] = block
            n += 1
        last = max(last, final)
    return n


@njit(cache=True, nogil=True)
def advance_pointer(pointer: int, elements: int, limit: int) -> int:
    """The running byte pointer after `elements` two-byte elements, wrapping to 0 at `limit`."""
    if elements <= 0:
        return pointer
    if pointer + 2 * elements < limit:
        return pointer + 2 * elements
    before = (limit - 2 - pointer) // 2
    return 2 * (elements - before) - 2


@njit(cache=True, nogil=True)
def pointer_blocks(blocks: NDArray[np.int64], pointer: int, elements: int, limit: int) -> int:
    """Blocks touched from the pointer on, each once, in that order. Returns their number."""
    n = 0
    if elements <= 0:
        return 0
    inside = elements if pointer + 2 * elements < limit else (limit - 2 - pointer) // 2
    if inside > 0:
        for block in range((pointer + 2) // BLOCK_BYTES, (pointer + 2 * inside) // BLOCK_BYTES + 1):
            blocks[n] = block
            n += 1
    if inside < elements:
        for block in range((2 * (elements - inside) - 2) // BLOCK_BYTES + 1):
            blocks[n] = block
            n += 1
    return n


@njit(cache=True, nogil=True)
def hash_key(block: int) -> np.uint64:
    """64-bit murmur3 finaliser of the block's device address (row, rank, group, bank, channel, column, 6 zero bits)."""
    channel, column, above = block & 31, (block >> 5) & 15, block >> 9
    key = np.uint64((above << 9 | channel << 4 | column) << 6)
    key ^= key >> np.uint64(33)
    key *= np.uint64(0xFF51AFD7ED558CCD)
    key ^= key >> np.uint64(33)
    key *= np.uint64(0xC4CEB9FE1A85EC53)
    key ^= key >> np.uint64(33)
    return key


@njit(cache=True, nogil=True)
def hash_order(blocks: NDArray[np.int64], n: int, heads: NDArray[np.int64], links: NDArray[np.int64]) -> None:
    """Sort the first n blocks into the order of the peer's open-addressing hash table; ties stay as they came.

    heads: scratch, at least the table size; links: scratch (n, 3).
    """
    size = 8
    while (size * 4) // 5 < n:
        size *= 2
    for slot in range(size):
        heads[slot] = -1
    for index in range(n):
        key = hash_key(blocks[index])
        slot = int((key >> np.uint64(5)) & np.uint64(size - 1))
        low = int(key & np.uint64(31))
        links[index, 1] = low
        links[index, 2] = blocks[index]
        before = -1
        here = heads[slot]
        while here >= 0 and links[here, 1] >= low:
            before = here
            here = links[here, 0]
        links[index, 0] = here
        if before < 0:
            heads[slot] = index
        else:
            links[before, 0] = index
    n = 0
    for slot in range(size):
        here = heads[slot]
        while here >= 0:
            blocks[n] = links[here, 2]
            n += 1
            here = links[here, 0]
