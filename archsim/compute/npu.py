"""NPU operator times: systolic arrays or adder trees against double-buffered off-chip memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from archsim.compute.operation import Bound, Operation, OperationCost
from archsim.compute.per_config import PerConfig
from archsim.compute.systolic import array_cycles, cut_into_folds, scratchpad_accesses
from archsim.compute.tiled_roofline_kernels import best_l2_tile, tile_traffic
from archsim.config.schemas.npu import Npu
from archsim.registry import Registry

NpuModel = Callable[[Npu, Operation], OperationCost]
NPU_MODELS: Registry[NpuModel] = Registry("NPU model", "archsim.npu_models")
_CACHED_OPERATIONS = 1 << 16


def time_operation(npu: Npu, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `npu`."""
    return NPU_MODELS.get(npu.timing.model)(npu, op)


@dataclass(frozen=True, eq=False)
class _Machine:
    """A description with its derived rates; compared by identity, so that it is a cheap cache key."""

    npu: Npu
    arrays: int
    array_flops: float
    memory_rate: float


@dataclass(frozen=True)
class _Tiles:
    """Rounds in which every array gets one tile, and the bytes of the first round."""

    rounds: float
    first_bytes: float


def _machine(npu: Npu) -> _Machine:
    arrays = npu.cores * npu.array.per_core
    return _Machine(npu, arrays, npu.array_flops, npu.memory_bandwidth * npu.timing.memory_utilisation)


_machine_of: PerConfig[Npu, _Machine] = PerConfig(_machine)


@NPU_MODELS.register("double-buffered")
def time_double_buffered(npu: Npu, op: Operation) -> OperationCost:
    """Loads of later tiles hide behind compute.

    latency + max(load of the first tiles + all compute, all traffic + compute of the last tiles)
    """
    return _cost(_machine_of(npu), op)


@lru_cache(maxsize=_CACHED_OPERATIONS)
def _cost(machine: _Machine, op: Operation) -> OperationCost:
    if op.kind in ("gemm", "matmul"):
        return _product_cost(machine, op)
    return _elementwise_cost(machine, op)


def _product_cost(machine: _Machine, op: Operation) -> OperationCost:
    npu, array = machine.npu, machine.npu.array
    m, n, k, count = float(op.m), float(op.n), float(op.k), float(op.count)
    flop = 2.0 * m * n * k * count
    cycles = array_cycles(
        array.dataflow, m, n, k, array.rows, array.columns,
        count=count, arrays=machine.arrays, overlapped=array.overlapped_folds,
    )  # fmt: skip
    rate = npu.flops_for(max(op.a_bytes, op.b_bytes))
    compute_s = cycles / npu.clock * (machine.array_flops / rate)
    tiles = _loaded_tiles(machine, op)
    if npu.adder_trees is not None and flop / npu.adder_trees.peak_flops < compute_s:
        compute_s, tiles = flop / npu.adder_trees.peak_flops, _Tiles(math.inf, 0.0)
    bytes_ = _off_chip_bytes(machine, op)
    seconds, bound = _overlap(machine, compute_s, bytes_, tiles, "compute")
    moved = scratchpad_accesses(array.dataflow, m, n, k, array.rows, array.columns)
    partial_sums = (moved.c_writes + moved.c_reads) * npu.accumulator_bytes
    sram = count * (moved.a_reads * op.a_bytes + moved.b_reads * op.b_bytes + partial_sums) + bytes_
    energy = {"dram": bytes_ * npu.energy.dram, "sram": sram * npu.energy.sram, "mac": flop * npu.energy.mac}
    return OperationCost(seconds, flop, bytes_, bound, energy)


def _off_chip_bytes(machine: _Machine, op: Operation) -> float:
    """Traffic of the best output tile that half the scratchpads hold, cores sharing what they load."""
    npu = machine.npu
    shape = (float(op.m), float(op.n), float(op.k))
    depth = min(float(op.k), float(npu.array.rows))
    step_m, step_n = min(float(npu.array.rows), shape[0]), min(float(npu.array.columns), shape[1])
    room = npu.sram_capacity * npu.cores / 2
    tile = best_l2_tile(*shape, op.a_bytes, op.b_bytes, float(npu.accumulator_bytes), step_m, step_n, depth, room)
    return float(tile_traffic(*shape, float(op.count), op.a_bytes, op.b_bytes, op.c_bytes, *tile))


def _loaded_tiles(machine: _Machine, op: Operation) -> _Tiles:
    """The pieces in which operands arrive: a block of one fold, or a panel of as many reduction folds as fit."""
    npu, array = machine.npu, machine.npu.array
    folds = cut_into_folds(array.dataflow, op.m, op.n, op.k, array.rows, array.columns)
    depth, reduction_folds = min(float(array.rows), float(op.k)), float(math.ceil(op.k / array.rows))
    if array.dataflow == "weight-stationary":
        block = depth * min(array.columns, op.n) * op.b_bytes
    elif array.dataflow == "input-stationary":
        block = depth * min(array.columns, op.m) * op.a_bytes
    else:
        block, reduction_folds = min(array.rows, op.m) * op.a_bytes + min(array.columns, op.n) * op.b_bytes, op.k
    together = 1.0
    if npu.timing.tile == "panel":
        room = npu.sram_capacity / 2 / array.per_core
        together = max(1.0, min(float(reduction_folds), room // block))
    tiles = float(folds.count * op.count)
    if array.dataflow != "output-stationary":
        tiles = float(math.ceil(tiles / together))
    return _Tiles(math.ceil(tiles / machine.arrays), min(machine.arrays, tiles) * together * block)


def _elementwise_cost(machine: _Machine, op: Operation) -> OperationCost:
    npu = machine.npu
    bytes_ = float(op.m) * op.n * op.count * (op.inputs * op.a_bytes + op.c_bytes)
    seconds, bound = _overlap(machine, op.flop / npu.vector_flops, bytes_, _Tiles(math.inf, 0.0), "vector")
    energy = {
        "dram": bytes_ * npu.energy.dram,
        "sram": 2.0 * bytes_ * npu.energy.sram,
        "vector": op.flop * npu.energy.vector,
    }
    return OperationCost(seconds, op.flop, bytes_, bound, energy)


def _overlap(machine: _Machine, compute_s: float, bytes_: float, tiles: _Tiles, busy: Bound) -> tuple[float, Bound]:
    """Double buffering: compute waits for the first tile, the last tile's compute waits for the last byte."""
    latency_s = machine.npu.timing.memory_latency
    computed_s = min(tiles.first_bytes, bytes_) / machine.memory_rate + compute_s
    moved_s = bytes_ / machine.memory_rate + compute_s / tiles.rounds
    seconds = latency_s + max(computed_s, moved_s)
    if latency_s > max(computed_s, moved_s):
        return seconds, "fill"
    return seconds, busy if computed_s > moved_s else "memory"
