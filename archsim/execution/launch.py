"""Execution modes: kernel by kernel from the host, as a captured graph, with fused groups, or as one kernel.

Operator timings come from graphs of one operator: they contain a launch floor that a step pays once. Sources of the
modes: MonoNN (OSDI 2024) for fused groups and one monolithic kernel; gpu operator tables for the floors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from archsim.compute import time_operation
from archsim.compute.operation import Bound, Operation, OperationCost
from archsim.config.schemas.gpu import Gpu
from archsim.config.schemas.gpu_library import GpuKernels
from archsim.config.schemas.launch import Launch

ELEMENTWISE = ("activation", "add", "norm", "gather")
LAUNCH_SHAPES = tuple((blocks, threads) for blocks in (1, 2, 3) for threads in (128, 256))
WIDE_BYTES = 2.0  # of a weight of the kernels for experts that operator tables time
ILP_CANDIDATES = (1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32)
LOAD_BYTES = 16.0  # of one vector load
REGISTERS_PER_SM, BASE_REGISTERS, REGISTERS_PER_LOAD = 65_536, 32, 4
MAX_REGISTERS_PER_THREAD = 255
PIPELINE_STAGES, STAGE_DEPTH = 2, 32  # of a product in shared memory, the least that overlaps loads


@dataclass(frozen=True)
class LaunchShape:
    """Blocks per multiprocessor and threads per block of one kernel."""

    blocks: int
    threads: int

    @property
    def registers(self) -> int:
        """Registers that a thread may use."""
        return min(MAX_REGISTERS_PER_THREAD, REGISTERS_PER_SM // (self.blocks * self.threads))


def launched(gpu: Gpu, launch: Launch, op: Operation, after: Operation | None = None) -> OperationCost:
    """`op` as a step pays it in `launch.mode` (monolithic: under the launch shape that suits this operation alone).

    after  what ran before it, where that is known: element-wise operations share a kernel with it
    """
    assert isinstance(gpu.timing, GpuKernels)
    narrow = op.kind == "experts" and op.b_bytes < WIDE_BYTES
    found = time_operation(_narrow_experts(gpu, launch.narrow_expert_rate) if narrow else gpu, op)
    if launch.mode == "monolithic":
        return min((in_one_kernel(gpu, launch, op, shape, after) for shape in shapes()), key=lambda cost: cost.seconds)
    if op.kind == "attention" and op.b_bytes < op.a_bytes and gpu.timing.generation in launch.widened_kv:
        wide = time_operation(gpu, replace(op, b_bytes=op.a_bytes))
        found = replace(_shortened(found, wide.seconds, "conversion"), fixed_s=wide.fixed_s)
    device_s = found.seconds - min(found.fixed_s, _floor(gpu, launch, op, found))
    if launch.mode == "fused" and _joins(launch, op, after):
        return _fused(found, op)
    if not in_graph(launch):
        bound: Bound = "launch" if launch.eager_dispatch > device_s else found.bound
        return _shortened(found, max(device_s, launch.eager_dispatch), bound)
    return _shortened(found, device_s, found.bound)


def _joins(launch: Launch, op: Operation, after: Operation | None) -> bool:
    """Whether an operation runs in the kernel of the one before it."""
    if op.kind not in ELEMENTWISE:
        return False
    return launch.epilogues or (after is not None and after.kind in ELEMENTWISE)


def shapes() -> list[LaunchShape]:
    """The launch shapes that MonoNN tries."""
    return [LaunchShape(blocks, threads) for blocks, threads in LAUNCH_SHAPES]


def in_graph(launch: Launch) -> bool:
    """Whether a pass is started as a whole."""
    return launch.mode in ("graph", "monolithic") or (launch.mode == "fused" and launch.captured)


def step_fixed_s(launch: Launch, requests: int) -> float:
    """Host and launch time of a whole pass that no operator accounts for."""
    start = launch.graph_launch if in_graph(launch) else launch.eager_dispatch
    return start + launch.step_overhead + launch.request_overhead * requests


def launches_s(launch: Launch, layers: int, tokens: float) -> float:
    """Host time to launch the kernels of a pass over prompts, `tokens` in all: the least its operators take."""
    return launch.prefill_layer_overhead * layers if tokens > launch.captured_prompt_tokens else 0.0


def _floor(gpu: Gpu, launch: Launch, op: Operation, found: OperationCost) -> float:
    """Fixed time in the timing of one operation alone that a step does not pay for it."""
    floors = launch.graph_floors
    if op.kind == "attention":
        return floors.attention
    if op.kind == "experts":
        return max(found.fixed_s - launch.expert_kernels * _product_fixed_s(gpu, launch), 0.0)
    return floors.product if op.kind in ("gemm", "matmul") else floors.vector


def _product_fixed_s(gpu: Gpu, launch: Launch) -> float:
    """Fixed time that a step pays for the kernel of one product."""
    kernels = gpu.timing
    assert isinstance(kernels, GpuKernels)
    product = kernels.gemm["fp16"]
    clock = gpu.clock or 0.0
    return max(product.launch.at(clock) + product.fill.at(clock) - launch.graph_floors.product, 0.0)


def _shortened(found: OperationCost, seconds: float, bound: Bound) -> OperationCost:
    base_j = found.energy_j.get("base")
    energy = found.energy_j if base_j is None else found.energy_j | {"base": base_j * seconds / found.seconds}
    return replace(found, seconds=seconds, bound=bound, energy_j=energy)


def _fused(found: OperationCost, op: Operation) -> OperationCost:
    """In the kernel before it: no launch, and its first input never leaves the chip."""
    body_s = max(found.seconds - found.fixed_s, 0.0)
    inputs = max(op.inputs - 1, 0) * op.a_bytes + op.c_bytes
    share = inputs / (op.inputs * op.a_bytes + op.c_bytes)
    cost = _shortened(found, body_s * share, found.bound)
    energy = {name: joules * share if name in ("dram", "l2") else joules for name, joules in cost.energy_j.items()}
    return replace(cost, bytes=found.bytes * share, fixed_s=0.0, energy_j=energy)


def in_one_kernel(
    gpu: Gpu, launch: Launch, op: Operation, shape: LaunchShape, after: Operation | None = None
) -> OperationCost:
    """`op` as a part of one kernel with a given launch shape: a grid barrier in place of the launch.

    Products use the largest tile whose sums fit the registers and whose operands fit the shared memory of a block.
    Element-wise parts go on, tile by tile, with what their block has just made; tensors that fit shared memory and the
    L2 never meet the DRAM's rate. Where they don't fit, as many loads are in flight (instruction-level parallelism) as
    registers allow, which gives the bandwidth that Little's law says.
    """
    if op.kind in ("gemm", "matmul"):
        found = time_operation(_with_tiles(gpu, shape), op)
    else:
        found = time_operation(gpu, op)
    body_s = max(found.seconds - found.fixed_s, 0.0)
    barrier_s = 0.0 if op.kind in ("activation", "add", "gather") else launch.grid_barrier  # norms sum over blocks
    if op.kind in (*ELEMENTWISE, "softmax"):
        if _stays_on_chip(gpu, launch, op):
            body_s = min(body_s, _on_chip_s(gpu, op))
            found = replace(found, bytes=0.0, energy_j=found.energy_j | {"dram": 0.0})
        else:
            if _joins(launch, op, after):
                found = _fused(found, op)
                body_s = found.seconds
            body_s /= bandwidth_share(gpu, launch, shape)
    seconds = body_s + barrier_s
    return replace(_shortened(found, seconds, "launch" if barrier_s > body_s else found.bound), fixed_s=barrier_s)


def best_shape(gpu: Gpu, launch: Launch, operations: Sequence[Operation]) -> tuple[LaunchShape, float]:
    """The launch shape with the least sum, and the seconds of all `operations` in one kernel, its launch included.

    Under one shape every operation is tuned alone: they meet only in the shape, so the sum of the single optima is
    the optimum of all combinations.
    """
    before = (None, *operations[:-1])
    totals = [
        (sum(in_one_kernel(gpu, launch, op, shape, after).seconds
             for op, after in zip(operations, before, strict=True)), shape)
        for shape in shapes()
    ]  # fmt: skip
    seconds, shape = min(totals, key=lambda total: total[0])
    return shape, seconds + launch.graph_launch


def bandwidth_share(gpu: Gpu, launch: Launch, shape: LaunchShape) -> float:
    """Share of the DRAM rate that loads in flight sustain: threads x loads x bytes / (rate x latency), at most 1."""
    needed = gpu.memory_bandwidth * launch.memory_latency
    per_load = gpu.cores * shape.blocks * shape.threads * LOAD_BYTES
    loads = [ilp for ilp in ILP_CANDIDATES if BASE_REGISTERS + REGISTERS_PER_LOAD * ilp <= shape.registers]
    return min(1.0, per_load * max(loads) / needed) if needed else 1.0


def _live_bytes(op: Operation) -> float:
    return op.m * op.n * op.count * (op.inputs * op.a_bytes + op.c_bytes)


def _stays_on_chip(gpu: Gpu, launch: Launch, op: Operation) -> bool:
    return _live_bytes(op) <= launch.l2_share * gpu.l2_capacity + gpu.cores * gpu.l1_capacity


def _on_chip_s(gpu: Gpu, op: Operation) -> float:
    """Element-wise work on tensors on chip: lanes, serial rows, or the L2's rate."""
    from archsim.compute.gpu import gpu_operator_time  # kernels that machines of another model do without
    from archsim.compute.gpu.machine import machine_of
    from archsim.compute.gpu.operation_model import operator_of

    kernels = gpu.timing
    assert isinstance(kernels, GpuKernels)
    assert gpu.clock is not None
    limits = gpu_operator_time(gpu, operator_of(machine_of(gpu), op)).limits_s
    l2 = kernels.gemm["fp16"].l2_bytes_per_clock * gpu.cores * gpu.clock
    return max(limits["vector"], limits["row"], _live_bytes(op) / l2)


_variants: dict[tuple[int, object], tuple[Gpu, Gpu]] = {}


def _variant(gpu: Gpu, key: object, changes: Callable[[GpuKernels], dict[str, object]]) -> Gpu:
    """`gpu` with other constants of its kernels; one object for a `key`, as what was timed is kept by it."""
    kept = _variants.get((id(gpu), key))
    if kept is not None and kept[0] is gpu:
        return kept[1]
    kernels = gpu.timing
    assert isinstance(kernels, GpuKernels)
    changed = gpu.model_copy(update={"timing": kernels.model_copy(update=changes(kernels))})
    _variants[id(gpu), key] = (gpu, changed)
    return changed


def _narrow_experts(gpu: Gpu, rate: float) -> Gpu:
    """`gpu` whose tall tiles of grouped products reach `rate` of what they do; low ones lose nothing above it."""

    def slower(kernels: GpuKernels) -> dict[str, object]:
        moe = kernels.moe
        changes = {"tensor_share": moe.tensor_share * rate, "full_rows": moe.full_rows * rate}
        return {"moe": moe.model_copy(update=changes)}

    return _variant(gpu, ("narrow experts", rate), slower)


def _with_tiles(gpu: Gpu, shape: LaunchShape) -> Gpu:
    """`gpu` with the GEMM tiles that a block of `shape` has registers and shared memory for."""
    sums = shape.threads * (shape.registers - BASE_REGISTERS)  # one register a sum
    room = gpu.l1_capacity / shape.blocks

    def fits(tile: tuple[int, int]) -> bool:
        return tile[0] * tile[1] <= sums and (tile[0] + tile[1]) * STAGE_DEPTH * 2 * PIPELINE_STAGES <= room

    def fewer(kernels: GpuKernels) -> dict[str, object]:
        smallest = min(kernels.tiles, key=math.prod)
        return {"tiles": tuple(tile for tile in kernels.tiles if fits(tile)) or (smallest,)}

    return _variant(gpu, shape, fewer)
