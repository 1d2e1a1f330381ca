"""Element-wise and row-wise operations: rows stream through the vector unit between two DMA transfers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.compute.npu import pipeline_kernels as pk
from archsim.compute.npu.product import PS, Engine
from archsim.compute.npu.vector import Recipe, lane_operations, latency_cycles, recipe, vector_cycles
from archsim.compute.operation import Bound, Operation

Ints = NDArray[np.int64]
ROW_WISE = ("softmax", "norm")  # kinds that reduce over a row, which stays on one core
MOST_CHUNKS = 256
DEFAULTS = {"softmax": "softmax", "norm": "layernorm", "activation": "gelu", "add": "copy", "gather": "copy"}


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Chunks of rows on {DMA, vector unit}; fields as in archsim.compute.npu.product.Product."""

    op: Operation
    rows: int
    chunks: int
    ps: int
    memory_ps: int
    vector_ps: int
    traffic: dict[str, float]
    onchip: dict[str, float]
    tables: Ints
    walk: Ints

    @property
    def seconds(self) -> float:
        """Time of the whole operation."""
        return self.ps / PS

    @property
    def bytes(self) -> float:
        """Off-chip traffic."""
        return sum(self.traffic.values())

    @property
    def steps(self) -> int:
        """Chunks a core works on."""
        return self.chunks

    @property
    def bound(self) -> Bound:
        """What is busy longest."""
        longest: Bound = "vector" if self.vector_ps > self.memory_ps else "memory"
        return "fill" if self.ps > 2 * max(self.vector_ps, self.memory_ps) else longest


def recipe_of(op: Operation) -> Recipe:
    """Instructions of an element-wise operation; further inputs are added (a gate is multiplied) in."""
    return recipe(op.function or DEFAULTS[op.kind], op.inputs - 1)


def solve_elementwise(engine: Engine, op: Operation) -> Elementwise:
    """The number of chunks that takes least time; a row that does not fit the scratchpad twice is cut into pieces."""
    npu = engine.npu
    rows, width = math.ceil(op.m) * math.ceil(op.count), math.ceil(op.n)
    if op.kind not in ROW_WISE and rows < npu.cores:
        parts = min(width, math.ceil(npu.cores / rows))
        rows, width = rows * parts, math.ceil(width / parts)
    share = math.ceil(rows / npu.cores)
    row_bytes = width * (op.inputs * op.a_bytes + op.c_bytes)
    room = npu.scratchpad.capacity / (2 if npu.double_buffered else 1)
    fewest = math.ceil(share / max(1, math.floor(room / row_bytes)))
    best: Elementwise | None = None
    for chunks in _candidates(fewest, share):
        found = _timed(engine, op, (rows, width, share), chunks)
        if best is None or found.ps < best.ps:
            best = found
    assert best is not None
    return best


def _candidates(fewest: int, rows: int) -> list[int]:
    """Numbers of chunks: the fewest that fit, doubled; each as the number that whole rows make of it."""
    found: list[int] = []
    chunks = fewest
    while not found or (chunks <= rows and chunks <= max(MOST_CHUNKS, fewest)):
        deep = math.ceil(rows / min(chunks, rows))
        found.append(math.ceil(rows / deep))
        chunks *= 2
    return sorted(set(found))


def _timed(engine: Engine, op: Operation, size: tuple[int, int, int], chunks: int) -> Elementwise:
    npu, unit, work = engine.npu, engine.npu.vector, recipe_of(op)
    rows, width, share = size
    deep = math.ceil(share / chunks)
    read, write = (engine.path.seconds_per_byte(0.0, way)[-1] * PS for way in (False, True))
    alike = rows / share  # equal shares over all cores
    cycle = PS / npu.clock
    tables, walk = np.zeros((pk.T_SIZE, 8), np.int64), np.zeros(pk.W_SIZE, np.int64)
    for code in (0, 4):
        here = share - (chunks - 1) * deep if code else deep
        elements = here * width * alike
        tables[pk.T_COMPUTE, code] = math.ceil(vector_cycles(unit, work, here, width) * cycle)
        tables[pk.T_LOAD_A, code] = math.ceil(elements * op.inputs * op.a_bytes * read)
        tables[pk.T_STORE, code] = math.ceil(elements * op.c_bytes * write)
    walk[pk.W_PRODUCTS], walk[pk.W_DOUBLE] = 1, npu.double_buffered
    walk[pk.W_LATENCY] = math.ceil(engine.path.latency_s * PS)
    walk[pk.W_FILL] = math.ceil(latency_cycles(unit, work) * cycle)
    counts = np.array([chunks, 1, 1])
    ps = int(pk.pipeline_ps(np.array([0, 1, 2]), counts, tables, walk, np.zeros((4, pk.S_SIZE), np.int64)))
    last = 4 if chunks > 1 else 0
    totals = tables[:, 0] * (chunks - 1) + tables[:, last]
    elements = float(rows) * width
    traffic = {"a": elements * op.inputs * op.a_bytes, "c": elements * op.c_bytes}
    onchip = {
        "scratchpad": 2.0 * sum(traffic.values()), "accumulator": 0.0, "noc": sum(traffic.values()),
        "lanes": lane_operations(unit, work, rows, width),
    }  # fmt: skip
    return Elementwise(
        op, rows, chunks, ps, int(totals[pk.T_LOAD_A] + totals[pk.T_STORE] + walk[pk.W_LATENCY]),
        int(totals[pk.T_COMPUTE] + walk[pk.W_FILL]), traffic, onchip, tables, walk,
    )  # fmt: skip
