"""A matrix product on an NPU: the tiling the search found, its time, and what it moved."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.compute.npu import array_kernels as ak
from archsim.compute.npu import pipeline_kernels as pk
from archsim.compute.npu import search_kernels as sk
from archsim.compute.npu import tiling_kernels as tk
from archsim.compute.npu.journal import Journal
from archsim.compute.npu.memory_path import FlatMemory, MemoryPath
from archsim.compute.npu.vector import recipe
from archsim.compute.operation import Bound, Operation
from archsim.config.schemas.npu import DATAFLOWS, Npu
from archsim.errors import InfeasibleError, UsageError, unknown_name

PS = 1e12
CODES = dict(zip(DATAFLOWS, (ak.OUTPUT_STATIONARY, ak.WEIGHT_STATIONARY, ak.INPUT_STATIONARY), strict=True))
NAMES = {code: name for name, code in CODES.items()} | {ak.TREES: "adder-trees"}
OBJECTIVES = {"balanced": sk.BALANCED, "latency": sk.LATENCY, "traffic": sk.TRAFFIC}
ORDERS = tuple("".join(order) for order in itertools.permutations("mnk"))
MOST = 1 << 40  # of a dimension; sums of traffic and ps stay far below 2**63
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Freedom:
    """What the search may choose; a set value is kept.

    dataflow    None: what the array's description says (which may be `free`)
    tile        (m, n, k) elements of a core's tile, 0 where free
    loop_order  such as `mnk`, outermost first; None: free
    objective   balanced: least traffic within 0.5 % of the shortest time; latency; traffic
    """

    dataflow: str | None = None
    tile: tuple[int, int, int] = (0, 0, 0)
    loop_order: str | None = None
    objective: str = "balanced"

    def check(self) -> None:
        """Raises UsageError for names and sizes that make no sense."""
        if self.dataflow is not None and self.dataflow not in (*DATAFLOWS, "free"):
            raise UsageError(unknown_name("dataflow", self.dataflow, (*DATAFLOWS, "free")))
        if self.loop_order is not None and self.loop_order not in ORDERS:
            raise UsageError(unknown_name("loop order", self.loop_order, ORDERS))
        if self.objective not in OBJECTIVES:
            raise UsageError(unknown_name("objective", self.objective, OBJECTIVES))
        if len(self.tile) != 3 or any(size < 0 for size in self.tile):
            raise UsageError(f"tile: found {self.tile}, expected three sizes, 0 where free")


ANY = Freedom()


@dataclass(eq=False)
class Engine:
    """An NPU with its memory path; compared by identity. Remembers every search, on disk too."""

    npu: Npu
    path: MemoryPath
    others: dict[Any, Any] = field(default_factory=dict)  # solutions of operations that are no products
    _solved: dict[tuple[Operation, Freedom], Product] = field(default_factory=dict)

    @classmethod
    def flat(cls, npu: Npu) -> Engine:
        """Any access pattern at the peak bandwidth."""
        return cls(npu, FlatMemory(npu.memory_bandwidth, npu.memory_latency))

    @cached_property
    def journal(self) -> Journal:
        """Mappings found earlier for the same machine."""
        return Journal("npu-mappings", f"{self.npu.model_dump_json()} {self.path.key}")

    @cached_property
    def splits(self) -> Ints:
        """(n, 3) ways to share products out over the cores: along m, n and the products themselves."""
        cores = self.npu.cores
        divisors = [d for d in range(1, cores + 1) if cores % d == 0]
        ways = [(a, b, cores // a // b) for a in divisors for b in divisors if cores % (a * b) == 0]
        return np.array(ways, np.int64)

    def core(self, element_bytes: float) -> Ints:
        """The core's vector (archsim.compute.npu.array_kernels) for operands of `element_bytes`.

        Raises ConfigError if the arrays have no dtype wide enough.
        """
        npu, array = self.npu, self.npu.array
        rate = npu.flops_for(element_bytes) / npu.array_flops
        found = np.zeros(ak.C_SIZE, np.int64)
        found[ak.C_ROWS], found[ak.C_COLUMNS], found[ak.C_ARRAYS] = array.rows, array.columns, array.per_core
        found[ak.C_PRELOAD], found[ak.C_OVERLAP] = array.preload, array.overlapped_folds
        found[ak.C_PACK], found[ak.C_PASSES] = max(1, round(rate)), max(1, round(1.0 / rate))
        if npu.adder_trees is not None:
            found[ak.C_TREES] = round(npu.adder_trees.peak_flops / (2.0 * npu.cores * npu.clock))
        return found

    def product(self, op: Operation, freedom: Freedom = ANY) -> Product:
        """The best tiling of `op` (kind gemm or matmul).

        Raises InfeasibleError if no tile fits the on-chip memories, UsageError for sizes or names out of range.
        """
        key = (op, freedom)
        if key not in self._solved:
            self._solved[key] = solve(self, op, freedom)
        return self._solved[key]


@dataclass(frozen=True, eq=False)
class Product:
    """A tiled product. Counts and bytes are of the whole device.

    split    cores along m, n and the products
    tile, counts  elements of a core's tile and tiles of its share, along m, n, k
    tables, walk  durations of its steps (archsim.compute.npu.pipeline_kernels)
    array_ps, memory_ps, vector_ps  busy time of the arrays (of one core), the DMA and a vector unit
    traffic  a, b, c, sums -> off-chip bytes
    """

    op: Operation
    dataflow: str
    split: tuple[int, int, int]
    share: tuple[int, int, int, int]
    tile: tuple[int, int, int]
    counts: tuple[int, int, int]
    order: str
    ps: int
    array_ps: int
    memory_ps: int
    vector_ps: int
    macs: float
    utilisation: float
    traffic: dict[str, float]
    onchip: dict[str, float]
    tables: Ints
    walk: Ints
    timed: int
    bounded: int

    @property
    def seconds(self) -> float:
        """Time of the whole product."""
        return self.ps / PS

    @property
    def stall_ps(self) -> int:
        """Time in which the arrays wait: for tiles, for the first ones, for the last store."""
        return self.ps - self.array_ps

    @property
    def bytes(self) -> float:
        """Off-chip traffic."""
        return sum(self.traffic.values())

    @property
    def steps(self) -> int:
        """Tiles a core computes."""
        return math.prod(self.counts) * self.share[2]

    @property
    def bound(self) -> Bound:
        """What is busy longest."""
        busy: dict[Bound, int] = {"compute": self.array_ps, "memory": self.memory_ps, "vector": self.vector_ps}
        longest = max(busy, key=lambda name: busy[name])
        return "fill" if self.ps > 2 * busy[longest] else longest


@dataclass(frozen=True)
class Problem:
    """The vectors of archsim.compute.npu.tiling_kernels."""

    shape: Ints
    numbers: NDArray[np.float64]
    rates: NDArray[np.float64]
    core: Ints
    dataflows: Ints
    orders: Ints
    fixed: Ints


def problem(engine: Engine, op: Operation, freedom: Freedom) -> Problem:
    """An operation as the search's vectors."""
    npu = engine.npu
    tiled = npu.memory is not None and npu.memory.tiled
    m, n, k, count = (math.ceil(size) for size in (op.m, op.n, op.k, op.count))
    if min(m, n, k, count) < 1 or max(m, n, k, count) > MOST:
        raise UsageError(f"found a product of {m} x {n} x {k}, {count} times; sizes must be 1 to 2**40")
    shape = np.array([m, n, k, count, npu.double_buffered, npu.multicast, tiled, tiled, tiled], np.int64)
    numbers = np.zeros(tk.F_SIZE)
    numbers[tk.F_A], numbers[tk.F_B], numbers[tk.F_C] = op.a_bytes, op.b_bytes, op.c_bytes
    numbers[tk.F_SUM] = npu.accumulator_bytes
    numbers[tk.F_SCRATCHPAD], numbers[tk.F_ACCUMULATOR] = npu.scratchpad.capacity, npu.accumulator.capacity
    numbers[tk.F_CYCLE], numbers[tk.F_LATENCY] = PS / npu.clock, engine.path.latency_s * PS
    numbers[tk.F_SHARE_A] = numbers[tk.F_SHARE_C] = 1.0
    lane_ps = numbers[tk.F_CYCLE] / npu.vector.lanes
    in_place = npu.converts_in_place(op.a_bytes, op.b_bytes)
    if in_place is not None:
        numbers[tk.F_ENTER] = numbers[tk.F_CYCLE] / (in_place.elements_per_cycle * npu.array.per_core)
    elif op.b_bytes < op.a_bytes:
        numbers[tk.F_CONVERT] = recipe("dequantise").simple * lane_ps
    if op.then is not None:
        results = float(op.then.m) * op.then.n * op.then.count / (float(m) * n * count)
        numbers[tk.F_RESULT] = _per_element(npu, op.then) * results * lane_ps
        numbers[tk.F_SHARE_C] = results
    codes = [CODES[name] for name in DATAFLOWS if (freedom.dataflow or npu.array.dataflow) in (name, "free")]
    codes += [ak.TREES] if npu.adder_trees is not None and freedom.dataflow is None else []
    orders = [freedom.loop_order] if freedom.loop_order else ORDERS
    return Problem(
        shape, numbers, _rates(engine, op, k, n), engine.core(max(op.a_bytes, op.b_bytes)), np.array(codes, np.int64),
        np.array([["mnk".index(axis) for axis in order] for order in orders], np.int64),
        np.array(freedom.tile, np.int64),
    )  # fmt: skip


def _per_element(npu: Npu, op: Operation) -> float:
    """Lane cycles of a result element of an element-wise operation."""
    work, unit = recipe(op.function, op.inputs - 1), npu.vector
    return work.simple + work.exp * unit.exp + work.reciprocal * unit.reciprocal


def _rates(engine: Engine, op: Operation, k: int, n: int) -> NDArray[np.float64]:
    tiled = engine.npu.memory is not None and engine.npu.memory.tiled
    pitches = [0.0 if tiled else pitch for pitch in (k * op.a_bytes, n * op.b_bytes, n * op.c_bytes)]
    patterns = [(pitches[0], False), (pitches[1], False), (pitches[2], True), (0.0, False), (0.0, True)]
    return np.array([engine.path.seconds_per_byte(pitch, write) for pitch, write in patterns]) * PS


def solve(engine: Engine, op: Operation, freedom: Freedom = ANY) -> Product:
    """Search, or look the search's answer up, and describe it."""
    freedom.check()
    given = problem(engine, op, freedom)
    key = f"{given.shape.tolist()} {given.numbers.tolist()} {given.dataflows.tolist()} {freedom}"
    known = engine.journal.get(key)
    if known is not None and len(known) == sk.A_SIZE:
        return describe(engine, op, given, np.array(known, np.int64))
    answer = sk.search(
        given.shape, given.numbers, given.rates, given.core, engine.splits, given.dataflows, given.orders,
        given.fixed, OBJECTIVES[freedom.objective],
    )  # fmt: skip
    if answer[sk.A_FOUND] == 0:
        raise InfeasibleError(_too_small(engine.npu, op, freedom))
    engine.journal.put(key, answer.tolist())
    return describe(engine, op, given, answer)


def _too_small(npu: Npu, op: Operation, freedom: Freedom) -> str:
    what = "no tile" if not any(freedom.tile) else f"the tile {'x'.join(map(str, freedom.tile))}"
    return (
        f"{npu.name}: {what} of a {op.m:g} x {op.n:g} x {op.k:g} product fits a scratchpad of "
        f"{npu.scratchpad.capacity:g} bytes and an accumulator of {npu.accumulator.capacity:g} bytes a core"
        f"{' (two of each tile, for double buffers)' if npu.double_buffered else ''}"
    )


def describe(engine: Engine, op: Operation, given: Problem, answer: Ints) -> Product:
    """Everything about the mapping a search answered."""
    split, dataflow = engine.splits[answer[sk.A_SPLIT]], int(answer[sk.A_DATAFLOW])
    tile, order = answer[sk.A_M : sk.A_K + 1].copy(), given.orders[answer[sk.A_ORDER]]
    share, often = np.empty(4, np.int64), np.empty(3)
    tk.core_share(split, given.shape, share)
    tk.multiplicity(share, given.shape, often)
    dims = share[[0, 1, 3]]
    counts = -(-dims // tile)
    tables, walk = np.empty((pk.T_SIZE, 8), np.int64), np.empty(pk.W_SIZE, np.int64)
    fetched, sums, parts = np.empty(3, np.int64), np.empty(7, np.int64), np.empty(4)
    tk.make_tables(dataflow, tile, counts, dims, often, given.shape, given.numbers, given.rates, given.core, tables)
    tk.make_walk(dataflow, order, counts, tile, share, given.shape, given.numbers, given.core, fetched, walk)
    tk.sums_of(counts, tables, sums)
    tk.traffic_bytes(often, fetched, share, given.numbers, parts)
    products = int(share[2])
    loads = sums[1] * fetched[0] + sums[2] * fetched[1]
    macs = float(np.prod(given.shape[:4].astype(float)))
    npu = engine.npu
    peak = npu.array_flops / 2.0 * given.core[ak.C_PACK] / given.core[ak.C_PASSES]
    if dataflow == ak.TREES:
        peak = given.core[ak.C_TREES] * npu.cores * npu.clock * given.core[ak.C_PACK] / given.core[ak.C_PASSES]
    ps = int(answer[sk.A_PS])
    return Product(
        op=op, dataflow=NAMES[dataflow], split=_triple(split), share=(*_triple(share[:3]), int(share[3])),
        tile=_triple(tile), counts=_triple(counts), order="".join("mnk"[axis] for axis in order), ps=ps,
        array_ps=int(sums[0]) * products + int(walk[pk.W_FILL] + walk[pk.W_DRAIN]),
        memory_ps=int(loads + sums[3] + sums[4] * (fetched[2] - 1)) * products + int(walk[pk.W_LATENCY]),
        vector_ps=int(sums[5] * fetched[1] + sums[6]) * products, macs=macs,
        utilisation=macs / (peak * ps / PS), traffic=dict(zip(("a", "b", "c", "sums"), parts.tolist(), strict=True)),
        onchip=_onchip(npu, op, dataflow, share, counts, often, fetched, given),
        tables=tables, walk=walk, timed=int(answer[sk.A_TIMED]), bounded=int(answer[sk.A_BOUNDED]),
    )  # fmt: skip


def _triple(values: Ints) -> tuple[int, int, int]:
    a, b, c = values.tolist()
    return a, b, c


def _onchip(
    npu: Npu, op: Operation, dataflow: int, share: Ints, counts: Ints, often: NDArray[np.float64], fetched: Ints,
    given: Problem,
) -> dict[str, float]:  # fmt: skip
    """Bytes through scratchpad, accumulator and network, and lane operations, over all cores."""
    m, n, products, k = (float(size) for size in share)
    rows, columns = float(npu.array.rows), float(npu.array.columns)
    deep = math.ceil(k / (rows * given.core[ak.C_PACK]))
    if dataflow == ak.WEIGHT_STATIONARY:
        a, b, sums = m * k * math.ceil(n / columns), k * n * counts[0], deep
    elif dataflow == ak.INPUT_STATIONARY:
        a, b, sums = m * k * counts[1], k * n * math.ceil(m / columns), deep
    else:
        a, b, sums = m * k * math.ceil(n / columns), k * n * math.ceil(m / rows), counts[2]
    cores = float(often[2]) * products  # as many shares as the whole product has, edges counted as they are
    loaded = m * k * op.a_bytes * fetched[0] + k * n * op.b_bytes * fetched[1]
    moved = m * n * (2 * sums - 1) * npu.accumulator_bytes
    stored = m * n * npu.accumulator_bytes * (2 * fetched[2] - 1)
    in_place = npu.converts_in_place(op.a_bytes, op.b_bytes) is not None
    by_lanes = op.b_bytes < op.a_bytes and not in_place
    lanes = k * n * fetched[1] * recipe("dequantise").simple * cores * by_lanes
    if op.then is not None:
        lanes += _per_element(npu, op.then) * float(op.then.m) * op.then.n * op.then.count
    return {
        "scratchpad": (loaded + a * op.a_bytes + b * op.b_bytes) * cores,
        "accumulator": (moved + stored) * cores,
        "noc": (loaded + m * n * op.c_bytes) * cores,
        "lanes": lanes,
        "converted": b * cores * in_place,
    }
