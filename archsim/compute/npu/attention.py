"""Fused attention: the blocks of queries and keys that take least time, and what they move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.compute.npu import array_kernels as ak
from archsim.compute.npu import attention_kernels as xk
from archsim.compute.npu.product import CODES, NAMES, PS, Engine
from archsim.compute.npu.vector import Recipe, lane_operations, recipe, vector_cycles
from archsim.compute.operation import Bound, Operation
from archsim.config.schemas.npu import DATAFLOWS
from archsim.errors import InfeasibleError

Ints = NDArray[np.int64]
# the old sums are scaled by the change of the maximum, the result by the sum
RESCALE, NORMALISE = Recipe(simple=1), Recipe(simple=1, row_reciprocal=1)


@dataclass(frozen=True, eq=False)
class Attention:
    """Heads of fused attention. Fields as in archsim.compute.npu.product.Product; blocks are (queries, keys).

    visible  blocks of keys that each block of queries works on; with a causal mask those after its last token are
             left out, and what is masked inside a block is computed
    macs     multiply-adds computed
    """

    op: Operation
    dataflow: str
    split: tuple[int, int]
    products: int
    block: tuple[int, int]
    counts: tuple[int, int]
    visible: tuple[int, ...]
    macs: float
    ps: int
    array_ps: int
    memory_ps: int
    vector_ps: int
    traffic: dict[str, float]
    onchip: dict[str, float]
    tables: Ints
    latency_ps: int
    fill_ps: int

    @property
    def seconds(self) -> float:
        """Time of all heads."""
        return self.ps / PS

    @property
    def bytes(self) -> float:
        """Off-chip traffic."""
        return sum(self.traffic.values())

    @property
    def steps(self) -> int:
        """Blocks a core works on."""
        return sum(self.visible) * self.products

    @property
    def bound(self) -> Bound:
        """What is busy longest."""
        busy: dict[Bound, int] = {"compute": self.array_ps, "memory": self.memory_ps, "vector": self.vector_ps}
        longest = max(busy, key=lambda name: busy[name])
        return "fill" if self.ps > 2 * busy[longest] else longest


def solve_attention(engine: Engine, op: Operation) -> Attention:
    """The best blocks for `op` (kind attention: m queries, n keys, heads of k, `count` of them).

    Raises InfeasibleError if no block fits the on-chip memories.
    """
    npu = engine.npu
    best: Attention | None = None
    m, n, count = math.ceil(op.m), math.ceil(op.n), math.ceil(op.count)
    codes = [CODES[name] for name in DATAFLOWS if npu.array.dataflow in (name, "free")]
    codes += [ak.TREES] if npu.adder_trees is not None else []
    for along_m in (d for d in range(1, npu.cores + 1) if npu.cores % d == 0):
        rows, products = math.ceil(m / along_m), math.ceil(count / (npu.cores // along_m))
        for block in _blocks(engine, op, rows, n):
            for code in codes:
                found = _timed(engine, op, code, (along_m, npu.cores // along_m), (rows, products), block)
                if best is None or (found.ps, found.bytes) < (best.ps, best.bytes):
                    best = found
    if best is None:
        raise InfeasibleError(
            f"{npu.name}: no block of fused attention with heads of {op.k:g} fits a scratchpad of "
            f"{npu.scratchpad.capacity:g} and an accumulator of {npu.accumulator.capacity:g} bytes a core"
        )
    return best


def _blocks(engine: Engine, op: Operation, rows: int, keys: int) -> list[tuple[int, int]]:
    """Blocks of whole arrays, doubled until all is one block, that fit: queries twice, keys and values three times."""
    npu = engine.npu
    side = max(npu.array.rows, npu.array.columns)
    depth, sums = math.ceil(op.k), npu.accumulator_bytes
    fitting = []
    for queries in _doubled(side, rows):
        for block in _doubled(side, keys):
            operands = 2 * queries * depth * op.a_bytes + 6 * block * depth * op.b_bytes
            operands += 2 * queries * block * op.a_bytes  # softmax results on their way back to the array
            partial = 2 * queries * block * sums + 2 * queries * depth * sums
            if operands <= npu.scratchpad.capacity and partial <= npu.accumulator.capacity:
                fitting.append((queries, block))
    return fitting


def _doubled(first: int, last: int) -> list[int]:
    sizes = []
    while first < last:
        sizes.append(first)
        first *= 2
    return [*sizes, last]


def _timed(
    engine: Engine, op: Operation, dataflow: int, split: tuple[int, int], share: tuple[int, int],
    block: tuple[int, int],
) -> Attention:  # fmt: skip
    npu, (rows, products) = engine.npu, share
    n = math.ceil(op.n)
    counts = (math.ceil(rows / block[0]), math.ceil(n / block[1]))
    visible = _visible(op, rows, block, counts)
    tables = np.zeros((xk.X_SIZE, 4), np.int64)
    core = engine.core(max(op.a_bytes, op.b_bytes))
    copies = op.m / rows * op.count / products  # equal shares, over all cores
    apart = op.count / products * (1.0 if npu.multicast else op.m / rows)
    for code in range(4):
        queries = rows - (counts[0] - 1) * block[0] if code & 2 else block[0]
        keys = n - (counts[1] - 1) * block[1] if code & 1 else block[1]
        tables[:, code] = _durations(engine, op, dataflow, core, queries, keys, (copies, apart))
    latency = math.ceil(engine.path.latency_s * PS)
    fill = math.ceil(int(ak.fill_cycles(dataflow, core)) * PS / npu.clock)
    ps = int(xk.attention_ps(products, visible, counts[1], tables, latency, fill))
    array_ps, memory_ps, vector_ps = _busy(tables, counts, visible, products)
    heights = np.minimum(block[0], rows - np.arange(counts[0]) * block[0])
    widths = np.minimum(visible * block[1], n)
    work = _Work(rows, products, float(widths.sum()) if counts[1] > 1 else n, float(heights @ widths) / (rows * n))
    return Attention(
        op, NAMES[dataflow], split, products, block, counts, tuple(visible.tolist()),
        2.0 * op.m * op.n * op.k * op.count * work.share, ps, array_ps + fill, memory_ps + latency, vector_ps,
        _traffic(op, work, (copies, apart)), _onchip(engine, op, core, counts, work), tables, latency, fill,
    )  # fmt: skip


@dataclass(frozen=True)
class _Work:
    """Rows and products of a core, keys a product loads, and the share of the scores that is computed."""

    rows: int
    products: int
    keys: float
    share: float


def _visible(op: Operation, rows: int, block: tuple[int, int], counts: tuple[int, int]) -> Ints:
    """(query blocks,) blocks of keys; of the core whose rows come last, which sees most.

    Rows are tokens in order, with the queries that share a key/value head side by side.
    """
    if not op.causal or op.new_tokens <= 1:
        return np.full(counts[0], counts[1])
    last = op.m - rows + np.minimum((np.arange(counts[0]) + 1) * block[0], rows)
    keys = op.n - op.new_tokens + np.ceil(last * op.new_tokens / op.m)
    return np.clip(np.ceil(keys / block[1]), 1, counts[1]).astype(np.int64)


def _durations(
    engine: Engine, op: Operation, dataflow: int, core: Ints, queries: int, keys: int, often: tuple[float, float]
) -> list[int]:
    npu, unit, depth = engine.npu, engine.npu.vector, math.ceil(op.k)
    read, write = (engine.path.seconds_per_byte(0.0, way)[-1] * PS for way in (False, True))
    cycle = PS / npu.clock
    in_place = npu.converts_in_place(op.a_bytes, op.b_bytes)
    by_lanes = op.b_bytes < op.a_bytes and in_place is None
    convert = vector_cycles(unit, recipe("dequantise"), 2 * keys, depth) if by_lanes else 0.0
    pace = 0.0 if in_place is None else 1.0 / (in_place.elements_per_cycle * npu.array.per_core)

    def product(n: int, k: int) -> float:
        cycles = int(ak.tile_cycles(dataflow, queries, n, k, core))
        return max(cycles, int(ak.entering(dataflow, queries, n, k, core)) * pace)

    softmax = vector_cycles(unit, recipe("online-softmax"), queries, keys)
    softmax += vector_cycles(unit, RESCALE, queries, depth)
    return [
        math.ceil(queries * depth * op.a_bytes * often[0] * read),
        math.ceil(2 * keys * depth * op.b_bytes * often[1] * read),
        math.ceil(product(keys, depth) * cycle),
        math.ceil(softmax * cycle),
        math.ceil(product(depth, keys) * cycle),
        math.ceil(vector_cycles(unit, NORMALISE, queries, depth) * cycle),
        math.ceil(queries * depth * op.c_bytes * often[0] * write),
        math.ceil(convert * cycle),
    ]


def _busy(tables: Ints, counts: tuple[int, int], visible: Ints, products: int) -> tuple[int, int, int]:
    """Busy time of array, DMA and vector unit."""
    array = memory = vector = 0
    for i, blocks in enumerate(visible.tolist()):
        row = 2 if i == counts[0] - 1 else 0
        edge = 1 if blocks == counts[1] else 0  # the last block of keys may be smaller
        for code, keys in ((row, blocks - edge), (row + 1, edge)):
            t = tables[:, code].tolist()
            streamed = keys if counts[1] > 1 or i == 0 else 0  # where one block of keys is all, it is loaded once
            array += keys * (t[xk.X_SCORE] + t[xk.X_CONTEXT])
            vector += keys * t[xk.X_SOFTMAX] + streamed * t[xk.X_CONVERT]
            memory += streamed * t[xk.X_LOAD_KV]
        memory += int(tables[xk.X_LOAD_Q, row] + tables[xk.X_STORE, row])
        vector += int(tables[xk.X_NORMALISE, row])
    return array * products, memory * products, vector * products


def _traffic(op: Operation, work: _Work, often: tuple[float, float]) -> dict[str, float]:
    outer = work.rows * work.products * often[0]
    return {
        "a": outer * op.k * op.a_bytes,
        "b": 2.0 * work.keys * op.k * op.b_bytes * work.products * often[1],
        "c": outer * op.k * op.c_bytes,
    }


def _onchip(engine: Engine, op: Operation, core: Ints, counts: tuple[int, int], work: _Work) -> dict[str, float]:
    npu, unit = engine.npu, engine.npu.vector
    m, n, depth, count = float(op.m), float(op.n), float(op.k), float(op.count)
    columns, rows = npu.array.columns, npu.array.rows
    passes, n = work.keys / n, n * work.share
    loaded = m * depth * op.a_bytes + 2 * work.keys * depth * op.b_bytes
    reads = m * depth * op.a_bytes * math.ceil(n / columns) + m * n * op.a_bytes * (1 + math.ceil(depth / columns))
    reads += 2 * n * depth * op.b_bytes * counts[0]
    deep = math.ceil(depth / (rows * int(core[ak.C_PACK])))
    partial = m * n * 2 * deep + m * depth * 2 * math.ceil(n / (rows * int(core[ak.C_PACK])))
    lanes = lane_operations(unit, recipe("online-softmax"), math.ceil(m), math.ceil(n))
    lanes += lane_operations(unit, RESCALE, math.ceil(m), math.ceil(depth)) * counts[1]
    lanes += lane_operations(unit, NORMALISE, math.ceil(m), math.ceil(depth))
    in_place = npu.converts_in_place(op.a_bytes, op.b_bytes) is not None
    if op.b_bytes < op.a_bytes and not in_place:
        lanes += lane_operations(unit, recipe("dequantise"), math.ceil(2 * n), math.ceil(depth)) * passes
    return {
        "scratchpad": (loaded + reads) * count,
        "accumulator": partial * npu.accumulator_bytes * count,
        "noc": (loaded + m * depth * op.c_bytes) * count,
        "lanes": lanes * count,
        "converted": 2 * n * depth * counts[0] * count * in_place,
    }
