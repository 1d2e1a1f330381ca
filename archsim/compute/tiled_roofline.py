"""A roofline with tile-dependent traffic and occupancy, for processors with L1 and L2 (GPU, CPU).

Formulas and constants follow the AttAcc simulator (c600051, src/devices.py), with the element sizes of the two
operands and the result told apart. A product is cut into L1 tiles, one block each; blocks run in waves over the
cores; the L2 tile sets the off-chip traffic. Time is the larger of the compute roof, the off-chip roof and the L2
roof, the first two scaled by occupancy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from archsim.compute.operation import Bound, Operation, OperationCost
from archsim.compute.per_config import PerConfig
from archsim.compute.tiled_roofline_kernels import best_l1_tile, best_l2_tile, occupancy, tile_traffic
from archsim.config.schemas.processor import CachedProcessor, LinearFit, TiledRoofline
from archsim.errors import ConfigError

_CACHED_OPERATIONS = 1 << 16


@dataclass(frozen=True)
class Tiles:
    """Tiles of one matrix product, elements, and the share of cores its blocks keep busy."""

    l1_m: float
    l1_n: float
    l2_m: float
    l2_n: float
    occupancy: float


@dataclass(frozen=True)
class Traffic:
    """Bytes moved through each level by one operation."""

    dram: float
    l2: float
    l1: float
    register: float


@dataclass(frozen=True, eq=False)
class _Machine:
    """A processor description as plain numbers; compared by identity, so that it is a cheap cache key."""

    processor: CachedProcessor
    timing: TiledRoofline
    fits: dict[str, LinearFit]
    sides: NDArray[np.float64]
    cores: float


def _machine(processor: CachedProcessor) -> _Machine:
    timing = getattr(processor, "timing", None)
    if not isinstance(timing, TiledRoofline):
        raise ConfigError(f"{processor.kind} {processor.name} has no tiled-roofline timing", key="timing.model")
    sides = np.array(timing.l1_tile_sides, dtype=np.float64)
    return _Machine(
        processor,
        timing,
        {str(kind): fit for kind, fit in timing.fits.items()},
        sides,
        float(processor.cores),
    )


_machine_of: PerConfig[CachedProcessor, _Machine] = PerConfig(_machine)


def time_operation(processor: CachedProcessor, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `processor`.

    Raises ConfigError if no tile fits the L1 or no listed dtype is wide enough.
    """
    return _cost(_machine_of(processor), op)


def choose_tiles(processor: CachedProcessor, op: Operation) -> Tiles:
    """The tiles of a matrix product (`kind` gemm or matmul)."""
    return _tiles(_machine_of(processor), op)


@lru_cache(maxsize=_CACHED_OPERATIONS)
def _cost(machine: _Machine, op: Operation) -> OperationCost:
    if op.kind in ("gemm", "matmul"):
        return _product_cost(machine, op)
    return _elementwise_cost(machine, op)


def _tiles(machine: _Machine, op: Operation) -> Tiles:
    m, n, k, count = float(op.m), float(op.n), float(op.k), float(op.count)
    a, b, c = op.a_bytes, op.b_bytes, op.c_bytes
    timing, processor = machine.timing, machine.processor
    tiled = op.kind == "gemm" or timing.matmul_blocks == "tiles"
    l1_m, l1_n = best_l1_tile(
        m, n, k, count, a, b, c,
        machine.sides, float(timing.l1_tile_depth), processor.l1_capacity, machine.cores, tiled,
    )  # fmt: skip
    if l1_m == 0.0:
        raise ConfigError(
            f"{processor.kind} {processor.name}: no tile of a {op.m} x {op.n} x {op.k} product fits "
            f"{processor.l1_capacity:g} bytes",
            key="l1_capacity",
        )
    depth = k / timing.l2_tile_depth_divisor
    l2_m, l2_n = best_l2_tile(m, n, k, a, b, c, l1_m, l1_n, depth, processor.l2_capacity)
    blocks = count * np.ceil(m / l1_m) * np.ceil(n / l1_n) if tiled else count
    return Tiles(l1_m, l1_n, l2_m, l2_n, _busy(machine, float(blocks)))


def _busy(machine: _Machine, blocks: float) -> float:
    return float(occupancy(blocks, machine.cores)) if machine.timing.occupancy else 1.0


def _product_cost(machine: _Machine, op: Operation) -> OperationCost:
    tiles = _tiles(machine, op)
    shape = (float(op.m), float(op.n), float(op.k), float(op.count), op.a_bytes, op.b_bytes, op.c_bytes)
    side = float(machine.timing.register_tile_side)
    products = float(op.m) * op.n * op.k
    register = 3.0 * products
    if machine.timing.register_traffic == "bytes":
        register = products * op.count * (op.a_bytes + op.b_bytes + op.c_bytes)
    traffic = Traffic(
        dram=float(tile_traffic(*shape, tiles.l2_m, tiles.l2_n)),
        l2=float(tile_traffic(*shape, tiles.l1_m, tiles.l1_n)),
        l1=float(tile_traffic(*shape, side, side)),
        register=register,
    )
    flop = 2.0 * products * op.count
    rate = machine.processor.flops_for(max(op.a_bytes, op.b_bytes))
    compute_s = flop / (rate * machine.timing.compute_utilisation * tiles.occupancy)
    memory_s = _memory_seconds(machine, traffic, tiles.occupancy)
    bound: Bound = "compute" if compute_s > memory_s else "memory"
    return OperationCost(max(compute_s, memory_s), flop, traffic.dram, bound, _energy(machine, traffic, flop))


def _elementwise_cost(machine: _Machine, op: Operation) -> OperationCost:
    moved = float(op.m) * op.n * op.count * (op.inputs * op.a_bytes + op.c_bytes)
    traffic = Traffic(moved, moved, moved, moved)
    # A row of an addition or a table look-up is a block of its own; the other kinds run one block per matrix.
    busy = _busy(machine, float(op.count * op.m if op.kind in ("add", "gather") else op.count))
    rate = machine.processor.flops_for(op.a_bytes)
    compute_s = op.flop / (rate * machine.timing.compute_utilisation * busy)
    fit = machine.fits.get(op.kind)
    bound: Bound = "memory"
    if fit is None:
        memory_s = _memory_seconds(machine, traffic, busy)
    else:
        memory_s, bound = _fitted(fit, moved, machine.processor.memory_bandwidth)
    bound = "compute" if compute_s > memory_s else bound
    return OperationCost(max(compute_s, memory_s), op.flop, moved, bound, _energy(machine, traffic, op.flop))


def _memory_seconds(machine: _Machine, traffic: Traffic, busy: float) -> float:
    processor = machine.processor
    off_chip_s = traffic.dram / (processor.memory_bandwidth * machine.timing.memory_utilisation * busy)
    l2_s = traffic.l2 / processor.l2_bandwidth if processor.l2_bandwidth is not None else 0.0
    return max(off_chip_s, l2_s)


def _fitted(fit: LinearFit, moved: float, bandwidth: float) -> tuple[float, Bound]:
    stream_s = fit.time_per_byte * (fit.reference_bandwidth / bandwidth) * moved
    return stream_s + fit.overhead, "launch" if fit.overhead > stream_s else "memory"


def _energy(machine: _Machine, traffic: Traffic, flop: float) -> dict[str, float]:
    table = machine.processor.energy
    return {
        "dram": traffic.dram * table.dram,
        "l2": traffic.l2 * table.l2,
        "l1": traffic.l1 * table.l1,
        "register": traffic.register * table.registers,
        "alu": flop * table.alu,
    }
