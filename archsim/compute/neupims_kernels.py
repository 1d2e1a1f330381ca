"""The NeuPIMs NPU core: tile programs, the weight-streaming systolic pipeline, vector units, stores. Knows no memory.

A tile program is three tables:
  moves (n, 8): STORE?, group or store index, operand, first row, rows, first column, columns, 0; in program order
  steps (n, 5): unit, load group a, load group b, result, clocks; issued in order
  stores(n, 8): result, operand, first row, rows, first column, columns, address, elements; issued in order
`tile` is the tile's vector of counters (T_*). Source of the rules: NeuPIMs simulator, casys-kaist/NeuPIMs f299af3.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

# ---- counters of a tile
(T_ACTIVE, T_LOADS, T_STEPS, T_NEXT_STEP, T_OPEN_STEPS, T_STORES, T_NEXT_STORE, T_ACKS, T_NEED, T_MOVES, T_GROUPS,
 T_RESULTS, T_BIAS, T_ACCUMULATES, T_NEXT_MOVE, T_SIGNAL, T_SIGNALS, T_SIZE) = range(18)  # fmt: skip
# ---- operators
LAYER_NORM, ADD, GELU, GEMM, FUSED, WAIT = 0, 1, 2, 3, 4, 5
# ---- operands
WEIGHT, INPUT, PARAMETER, OUTPUT, SECOND = 0, 1, 2, 3, 4
# ---- units of a step
ARRAY, ARRAY_PRELOAD, VECTOR, ARRAY_GEMV = 0, 1, 2, 3
GEMV_FILL = 8  # cycles to put one vector into the arrays (NeuPIMs, branch npu-only)
SOFTMAX_LAG, CONTEXT_LAG = 16, 24  # heads in flight: they hide the 270 cycles through the array
# ---- the core's vector: systolic pipeline and vector unit queues
SA_HEAD, SA_TAIL, SA_START, SA_GAP, SA_FINISH, ARRAY_BUSY, VECTOR_BUSY, CORE_FAULT = range(8)
VPUS = 8
VPU_HEAD, VPU_TAIL = 8, 16
SA_RING = 1 << 16
VPU_RING = 8192
SA_ENTRIES = 32
VPU_ENTRIES = SA_ENTRIES + 2 * SA_RING
CORE_SIZE = VPU_ENTRIES + 2 * VPU_RING * VPUS
# ---- rules of the core
(K_DIM, K_STREAM, K_DURATION, K_FILL, K_PRELOAD_GAP, K_LANES, K_PHYSICAL_VECTOR, K_VPU_WAITS, K_EARLY_STORE,
 K_SWAPPED_STORE, K_PARTIAL, K_SRAM, K_EXPOSED_PRELOAD, K_LOADS_IN_TURN, K_SIZE) = range(15)  # fmt: skip


@njit(cache=True, nogil=True)
def tree_clocks(size: int, lanes: int) -> int:
    """Clocks of a reduction of `size` elements over `lanes`-wide trees."""
    clocks = 1
    while size > lanes:
        size = -(-size // lanes)
        clocks += size
    return clocks


@njit(cache=True, nogil=True)
def vector_clocks(kind: int, size: int, lanes: int) -> int:
    """Clocks of one row operation: layer norm, element-wise, or softmax (FUSED)."""
    passes = -(-size // lanes)
    if kind == LAYER_NORM:
        return int(2 * tree_clocks(size, lanes) + 3 + 5 * passes)
    if kind == FUSED:
        return int(2 * tree_clocks(size, lanes) + 3 * passes)
    return passes


@njit(cache=True, nogil=True)
def add_move(
    moves: NDArray[np.int64], tile: NDArray[np.int64], store: int, index: int, operand: int, row: int, rows: int,
    column: int, columns: int,
) -> None:  # fmt: skip
    """Append a load (store = 0, index = group) or a store to the program."""
    at = tile[T_MOVES]
    moves[at, 0] = store
    moves[at, 1] = index
    moves[at, 2] = operand
    moves[at, 3] = row
    moves[at, 4] = rows
    moves[at, 5] = column
    moves[at, 6] = columns
    tile[T_MOVES] += 1


@njit(cache=True, nogil=True)
def add_step(
    steps: NDArray[np.int64], tile: NDArray[np.int64], unit: int, a: int, b: int, result: int, clocks: int
) -> None:
    """Append a computation."""
    at = tile[T_STEPS]
    steps[at, 0] = unit
    steps[at, 1] = a
    steps[at, 2] = b
    steps[at, 3] = result
    steps[at, 4] = clocks
    tile[T_STEPS] += 1


@njit(cache=True, nogil=True)
def add_store(
    stores: NDArray[np.int64], moves: NDArray[np.int64], tile: NDArray[np.int64], result: int, operand: int, row: int,
    rows: int, column: int, columns: int,
) -> None:  # fmt: skip
    """Append a store of a result, and its place in the program order."""
    at = tile[T_STORES]
    stores[at, 0] = result
    stores[at, 1] = operand
    stores[at, 2] = row
    stores[at, 3] = rows
    stores[at, 4] = column
    stores[at, 5] = columns
    add_move(moves, tile, 1, at, operand, row, rows, column, columns)
    tile[T_STORES] += 1


@njit(cache=True, nogil=True)
def row_program(
    tile: NDArray[np.int64], moves: NDArray[np.int64], steps: NDArray[np.int64], stores: NDArray[np.int64],
    rules: NDArray[np.int64], kind: int, first: int, rows: int, width: int,
) -> None:  # fmt: skip
    """Layer norm, residual add or GELU of rows first..first+rows: per row load(s), compute, store."""
    size = width if rules[K_PHYSICAL_VECTOR] else 0
    group = 0
    if kind == LAYER_NORM:
        add_move(moves, tile, 0, 0, PARAMETER, 0, 1, 0, width)
        add_move(moves, tile, 0, 1, PARAMETER, 1, 1, 0, width)
        group = 2
    clocks = vector_clocks(kind, size, rules[K_LANES])
    if size == 0:
        clocks = 5 if kind == LAYER_NORM else 0
    for row in range(first, first + rows):
        a = group
        add_move(moves, tile, 0, group, INPUT, row, 1, 0, width)
        group += 1
        b = 1 if kind == LAYER_NORM else -1
        if kind == ADD:
            b = group
            add_move(moves, tile, 0, group, SECOND, row, 1, 0, width)
            group += 1
        add_step(steps, tile, VECTOR, a, b, row - first, clocks)
        add_store(stores, moves, tile, row - first, OUTPUT, row, 1, 0, width)
    tile[T_GROUPS] = group
    tile[T_RESULTS] = rows
    tile[T_NEED] = 1


@njit(cache=True, nogil=True)
def gemm_program(
    tile: NDArray[np.int64], moves: NDArray[np.int64], steps: NDArray[np.int64], stores: NDArray[np.int64],
    rules: NDArray[np.int64], box: NDArray[np.int64], whole: NDArray[np.int64],
) -> None:  # fmt: skip
    """GEMM tile: activations stay in the array, weights stream through; see the module's source.

    box: first and number of tokens, of k, of outputs of this tile; whole: tokens, k, outputs of the operator.
    """
    dim = rules[K_DIM]
    blocks_n, blocks_k, blocks_m = -(-box[1] // dim), -(-box[3] // dim), -(-box[5] // dim)
    group = 0
    bias = box[2] == 0
    last_k = box[2] + box[3] >= whole[1]
    if bias:
        for n in range(blocks_n):
            add_move(moves, tile, 0, group, PARAMETER, 0, 1, 0, min(dim, whole[2]))
            group += 1
    weight_group = group
    input_group = weight_group + blocks_k * blocks_m
    for n in range(blocks_n):
        tokens = min(dim, box[1] - n * dim)
        for k in range(blocks_k):
            depth = min(dim, box[3] - k * dim)
            for m in range(blocks_m):
                outputs = min(dim, box[5] - m * dim)
                w, x = weight_group + k * blocks_m + m, input_group + n * blocks_k + k
                if n == 0:
                    add_move(moves, tile, 0, w, WEIGHT, box[2] + k * dim, depth, box[4] + m * dim, outputs)
                if m == 0:
                    add_move(moves, tile, 0, x, INPUT, box[0] + n * dim, tokens, box[2] + k * dim, depth)
                stream = rules[K_STREAM]
                if rules[K_PARTIAL]:
                    stream = max(-(-outputs * rules[K_STREAM] // dim), 4)
                add_step(steps, tile, ARRAY_PRELOAD if m == 0 else ARRAY, w, x, n * blocks_m + m, stream)
                if k == blocks_k - 1:
                    gemm_store(tile, moves, stores, rules, box, n, m, last_k)
    tile[T_GROUPS] = input_group + blocks_n * blocks_k
    tile[T_RESULTS] = blocks_n * blocks_m
    tile[T_NEED] = 1 if rules[K_EARLY_STORE] else blocks_k
    tile[T_BIAS] = blocks_n if bias and rules[K_EARLY_STORE] else 0
    tile[T_ACCUMULATES] = 0 if bias else 1


@njit(cache=True, nogil=True)
def attention_program(
    tile: NDArray[np.int64], moves: NDArray[np.int64], steps: NDArray[np.int64], stores: NDArray[np.int64],
    rules: NDArray[np.int64], heads: int, head_dim: int, first: int, seq: NDArray[np.int64], offset: int,
) -> None:  # fmt: skip
    """Attention of some requests on the core: K.q, softmax and logits.V of every head, some heads behind one another.

    first   number of the first request, of which `seq` gives the KV lengths
    offset  of its keys and values in the KV cache, elements; a head's keys lie before its values
    """
    units = seq.size * heads
    signal = 3 * units
    for unit in range(units):
        request, head = unit // heads, unit % heads
        cached = seq[request] * head_dim
        add_move(moves, tile, 0, 3 * unit, INPUT, first + request, 1, head * head_dim, head_dim)
        add_move(moves, tile, 0, 3 * unit + 1, WEIGHT, offset, 1, 0, cached)
        add_move(moves, tile, 0, 3 * unit + 2, WEIGHT, offset + cached, 1, 0, cached)
        add_store(stores, moves, tile, 2 * units + unit, OUTPUT, first + request, 1, head * head_dim, head_dim)
        offset += 2 * cached
    context = max(GEMV_FILL, -(-head_dim * rules[K_STREAM] // rules[K_DIM]))
    for beat in range(units + CONTEXT_LAG):
        if beat < units:
            score = -(-seq[beat // heads] * rules[K_STREAM] // rules[K_DIM])
            add_step(steps, tile, ARRAY_GEMV, 3 * beat, 3 * beat + 1, 2 * beat, score)
        unit = beat - SOFTMAX_LAG
        if 0 <= unit < units:
            softmax = vector_clocks(FUSED, seq[unit // heads], rules[K_LANES])
            add_step(steps, tile, VECTOR, signal + 2 * unit, -1, 2 * unit + 1, softmax)
        unit = beat - CONTEXT_LAG
        if unit >= 0:  # one pass of V for every array height of logits
            passes = -(-seq[unit // heads] // rules[K_DIM])
            add_step(steps, tile, ARRAY_GEMV, 3 * unit + 2, signal + 2 * unit + 1, 2 * units + unit, passes * context)
    tile[T_SIGNAL], tile[T_SIGNALS] = signal, 2 * units
    tile[T_GROUPS] = signal + 2 * units
    tile[T_RESULTS] = 3 * units
    tile[T_NEED] = 1


@njit(cache=True, nogil=True)
def gemm_store(
    tile: NDArray[np.int64], moves: NDArray[np.int64], stores: NDArray[np.int64], rules: NDArray[np.int64],
    box: NDArray[np.int64], n: int, m: int, last_k: bool,
) -> None:  # fmt: skip
    """The store of output block (m, n); the peer's swapped indices clip most of them to nothing."""
    dim = rules[K_DIM]
    result = n * (-(-box[5] // dim)) + m
    if rules[K_SWAPPED_STORE]:
        rows = max(0, min(dim, box[1] - m * dim))
        columns = max(0, min(dim, box[5] - n * dim))
        if rows == 0 or columns == 0:
            rows, columns = 0, 0
        add_store(stores, moves, tile, result, OUTPUT, m * dim, rows, n * dim, columns)
        return
    rows, columns = min(dim, box[1] - n * dim), min(dim, box[5] - m * dim)
    if not last_k:
        rows = 0
    add_store(stores, moves, tile, result, OUTPUT, box[0] + n * dim, rows, box[4] + m * dim, columns)


@njit(cache=True, nogil=True)
def start_array(core: NDArray[np.int64], rules: NDArray[np.int64], unit: int, stream: int, tag: int, now: int) -> None:
    """Issue one GEMM or GEMV instruction into the systolic pipeline."""
    empty = core[SA_HEAD] == core[SA_TAIL]
    preload = unit == ARRAY_PRELOAD
    if unit == ARRAY_GEMV:
        start = now + GEMV_FILL
        if not empty:
            start = max(now, core[SA_START] + max(core[SA_GAP], GEMV_FILL))
    elif empty:
        start = now + (rules[K_FILL] if preload else 0)
    elif rules[K_EXPOSED_PRELOAD]:
        start = core[SA_FINISH] if preload else max(now, core[SA_FINISH] - rules[K_DURATION])
    else:
        start = core[SA_START] + (rules[K_PRELOAD_GAP] if preload else core[SA_GAP])
    core[SA_START] = start
    core[SA_GAP] = stream  # the next one may follow when this one's rows have streamed
    slot = SA_ENTRIES + 2 * (core[SA_TAIL] & (SA_RING - 1))
    core[SA_FINISH] = start + rules[K_DURATION] + max(stream, 4)
    core[slot] = core[SA_FINISH]
    core[slot + 1] = tag
    core[SA_TAIL] += 1
    if core[SA_TAIL] - core[SA_HEAD] > SA_RING:
        core[CORE_FAULT] = 5


@njit(cache=True, nogil=True)
def retire_array(core: NDArray[np.int64], now: int) -> int:
    """Retire one finished instruction; returns its tag, or -1."""
    if core[SA_HEAD] == core[SA_TAIL]:
        return -1
    core[ARRAY_BUSY] += 1
    slot = SA_ENTRIES + 2 * (core[SA_HEAD] & (SA_RING - 1))
    if core[slot] > now:
        return -1
    core[SA_HEAD] += 1
    return int(core[slot + 1])


@njit(cache=True, nogil=True)
def start_vector(core: NDArray[np.int64], rules: NDArray[np.int64], clocks: int, tag: int, now: int) -> None:
    """Issue a vector operation to the first empty unit, else to the last one that is done, else to unit 0."""
    unit = 0
    found = False
    for each in range(VPUS):
        if core[VPU_HEAD + each] == core[VPU_TAIL + each]:
            unit, found = each, True
            break
    earliest = 1 << 60
    if not found:
        for each in range(VPUS):
            finish = core[VPU_ENTRIES + 2 * (each * VPU_RING + ((core[VPU_TAIL + each] - 1) & (VPU_RING - 1)))]
            if rules[K_VPU_WAITS]:
                if finish < earliest:
                    earliest, unit = finish, each
            elif finish < now:
                unit = each
    start = now
    if rules[K_VPU_WAITS] and not found:
        start = max(now, earliest)
    slot = VPU_ENTRIES + 2 * (unit * VPU_RING + (core[VPU_TAIL + unit] & (VPU_RING - 1)))
    core[slot] = start + clocks
    core[slot + 1] = tag
    core[VPU_TAIL + unit] += 1
    if core[VPU_TAIL + unit] - core[VPU_HEAD + unit] > VPU_RING:
        core[CORE_FAULT] = 6


@njit(cache=True, nogil=True)
def retire_vector(core: NDArray[np.int64], unit: int, now: int) -> int:
    """Retire the oldest finished entry of one vector unit; returns its tag, or -1."""
    head = core[VPU_HEAD + unit]
    if head == core[VPU_TAIL + unit]:
        return -1
    core[VECTOR_BUSY] += 1
    slot = VPU_ENTRIES + 2 * (unit * VPU_RING + (head & (VPU_RING - 1)))
    if core[slot] > now:
        return -1
    core[VPU_HEAD + unit] += 1
    return int(core[slot + 1])


@njit(cache=True, nogil=True)
def store_ready(
    tile: NDArray[np.int64], stores: NDArray[np.int64], issued: NDArray[np.int64], running: NDArray[np.int64],
    left: NDArray[np.int64], blocks_m: int,
) -> bool:  # fmt: skip
    """Is the result of the next store of a tile valid?"""
    result = stores[tile[T_NEXT_STORE], 0]
    if running[result] > 0:
        return False
    if tile[T_BIAS] > 0 and result % blocks_m == 0:
        return bool(left[result // blocks_m] == 0)
    return bool(issued[result] >= tile[T_NEED])
