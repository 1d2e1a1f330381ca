"""PIM programs of attention: GWRITE, P_HEADER and composites of K.q and logits.V, request after request.

K: row of bank b holds `row_elements` consecutive embedding elements of token b (several heads); V: the head size lies
over the banks and the sequence runs along the row. Source: NeuPIMs simulator, casys-kaist/NeuPIMs f299af3.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.neupims import layout_kernels as at

PLAIN = 0xFFFFFE  # group of answers that nothing waits for individually
SLOT = 24  # bits of the group in a tag
# ---- shape of the attention
(A_HEADS, A_HEAD_DIM, A_ROW_ELEMENTS, A_BANKS, A_LANE, A_SINGLE, A_ROW_BASE, A_SIZE) = range(8)


@njit(cache=True, nogil=True)
def floor_power(value: int) -> int:
    """Largest power of two not above `value`."""
    power = 1
    while 2 * power <= value:
        power *= 2
    return power


@njit(cache=True, nogil=True)
def put(
    words: NDArray[np.int64], channels: NDArray[np.int64], n: int, channel: int, kind: int, value: int, tag: int
) -> int:
    """Append one request to the flat program."""
    words[n] = kind | (value << 4) | (tag << 31)
    channels[n] = channel
    return n + 1


@njit(cache=True, nogil=True)
def put_composite(
    words: NDArray[np.int64], channels: NDArray[np.int64], n: int, channel: int, single: int, comps: int, tag: int,
    plain: int,
) -> int:  # fmt: skip
    """A composite of `comps` COMPs and a READRES, or its single commands."""
    if not single:
        return int(put(words, channels, n, channel, at.COMPS, comps, tag))
    for _ in range(comps):
        n = put(words, channels, n, channel, at.COMP, 0, plain)
    return int(put(words, channels, n, channel, at.READRES, 0, tag))


@njit(cache=True, nogil=True)
def key_program(
    words: NDArray[np.int64], channels: NDArray[np.int64], left: NDArray[np.int64], shape: NDArray[np.int64],
    seq: NDArray[np.int64], channel: NDArray[np.int64], rows: NDArray[np.int64], slot: int,
) -> int:  # fmt: skip
    """K.q of all requests: fills the flat program and the answers each (request, head) awaits; returns its length.

    rows  (channels,) scratch
    """
    heads, per_row = shape[A_HEADS], max(1, shape[A_ROW_ELEMENTS] // shape[A_HEAD_DIM])
    comps = -(-shape[A_HEAD_DIM] // shape[A_LANE])
    plain = slot << SLOT | PLAIN
    n = 0
    rows[:] = 0
    for request in range(seq.size):
        where = channel[request]
        tiles = -(-seq[request] // shape[A_BANKS])
        for first in range(0, heads, per_row):
            inside = min(per_row, heads - first)
            n = put(words, channels, n, where, at.GWRITE, 0, plain)
            counts = floor_power(comps * inside) << 16 | floor_power(inside)
            for _ in range(tiles):
                rows[where] += 1
                n = put(words, channels, n, where, at.P_HEADER, shape[A_ROW_BASE] + rows[where], counts)
                for head in range(first, first + inside):
                    group = request * heads + head
                    left[group] += 1
                    tag = slot << SLOT | group
                    n = put_composite(words, channels, n, where, shape[A_SINGLE], comps, tag, plain)
    return n


@njit(cache=True, nogil=True)
def value_program(
    words: NDArray[np.int64], channels: NDArray[np.int64], left: NDArray[np.int64], shape: NDArray[np.int64],
    seq: NDArray[np.int64], channel: NDArray[np.int64], rows: NDArray[np.int64], slot: int,
) -> int:  # fmt: skip
    """logits.V of every request: as key_program, answers per (request, head, tile of the head size)."""
    heads, per_row = shape[A_HEADS], shape[A_ROW_ELEMENTS]
    tiles = -(-shape[A_HEAD_DIM] // shape[A_BANKS])
    plain = slot << SLOT | PLAIN
    n = 0
    rows[:] = 0
    for request in range(seq.size):
        where = channel[request]
        chunks = -(-seq[request] // per_row)
        for head in range(heads):
            for chunk in range(chunks):
                comps = -(-min(per_row, seq[request] - chunk * per_row) // shape[A_LANE])
                power = floor_power(comps)
                counts = (power if power == comps else 2 * power) << 16 | 1
                n = put(words, channels, n, where, at.GWRITE, 8, plain)
                for tile in range(tiles):
                    row = shape[A_ROW_BASE] + (1 << 24) + rows[where] + chunk * tiles + tile
                    n = put(words, channels, n, where, at.P_HEADER, row, counts)
                    group = (request * heads + head) * tiles + tile
                    left[group] += 1
                    tag = slot << SLOT | group
                    n = put_composite(words, channels, n, where, shape[A_SINGLE], comps, tag, plain)
        rows[where] += chunks * tiles
    return n
