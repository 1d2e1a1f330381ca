"""NeuPIMs: attention of one layer on PIM alone, and whole decoder layers with NPU and PIM on the same channels.

One device (a tensor-parallel shard), one decode iteration of a fixed batch. Source: NeuPIMs (ASPLOS 2024) and its
simulator casys-kaist/NeuPIMs f299af3; `peer_defects: true` in the device reproduces that simulator cycle by cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.compute import neupims_kernels as npu
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.errors import InfeasibleError, UsageError
from archsim.execution.neupims import tile_kernels as tk
from archsim.execution.neupims.machine import Machine, Sizes
from archsim.execution.neupims.npu_only import attention_cycles, stream_attention
from archsim.execution.neupims.operators import (
    Assignment,
    LayerOperators,
    LayerShape,
    Requests,
    arrange,
    assign_channels,
    table,
)
from archsim.memory.neupims.device import Mode, energy_j, tally

__all__ = [
    "LayerShape",
    "NeupimsAttentionResult",
    "NeupimsLayerResult",
    "Stage",
    "simulate_neupims_attention",
    "simulate_neupims_layer",
]
MODES = ("dual", "single", "single-issue1", "npu-only")
Rows = list[list[int]]


@dataclass(frozen=True)
class Stage:
    """One stage of the schedule: its cycles, and the cycles until each side's last operator ended (0: idle side).

    npu_operators, pim_operators  name and cycles, in order; names as in the operator graph
    energy_by_component_j         DRAM energy of the stage
    """

    name: str
    cycles: int
    npu_cycles: int
    pim_cycles: int
    npu_operators: tuple[tuple[str, int], ...] = ()
    pim_operators: tuple[tuple[str, int], ...] = ()
    energy_by_component_j: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NeupimsAttentionResult:
    """One layer's attention: cycles of the K operator (with softmax), of the V operator, of both; energy in joules."""

    cycles: int
    key_cycles: int
    value_cycles: int
    seconds: float
    pim_utilisation: float
    counts: dict[str, int]
    energy_by_component_j: dict[str, float]

    @property
    def energy_j(self) -> float:
        """DRAM energy of the attention."""
        return sum(self.energy_by_component_j.values())


@dataclass(frozen=True)
class NeupimsLayerResult:
    """One decoder layer: A, B, E, or A to F with sub-batches.

    npu_utilisation: share of cycles with work in the systolic arrays; pim_utilisation: mean share of cycles with a PIM
    command waiting or running in a channel; dram_bandwidth_share: external bytes over the peak of the whole time.
    """

    cycles: int
    seconds: float
    stages: tuple[Stage, ...]
    npu_utilisation: float
    pim_utilisation: float
    dram_bandwidth_share: float
    counts: dict[str, int]
    energy_by_component_j: dict[str, float]

    @property
    def energy_j(self) -> float:
        """DRAM energy of the simulated stages."""
        return sum(self.energy_by_component_j.values())

    def model_cycles(self, layers: int) -> int:
        """Cycles of `layers` equal layers: A + B + (C + D)(layers - 1) + E + F with sub-batches, else layers x all."""
        if not any(stage.name == "C" for stage in self.stages):
            return layers * self.cycles
        repeated = sum(stage.cycles for stage in self.stages if stage.name in "CD")
        return self.cycles + repeated * (layers - 2)

    def model_seconds(self, layers: int) -> float:
        """Seconds of `layers` equal layers."""
        return self.model_cycles(layers) * self.seconds / self.cycles


def simulate_neupims_attention(
    device: NeupimsDevice,
    shape: LayerShape,
    sequence_lengths: Sequence[int],
    channels: Sequence[int] | None = None,
    assignment: Assignment = "greedy",
    mode: Mode = "dual",
) -> NeupimsAttentionResult:
    """Attention of one layer and one new token per request, on PIM alone.

    sequence_lengths  KV tokens of every request; each lives in one channel
    channels          channel of every request (default: by `assignment`)
    Raises InputError, UsageError or InfeasibleError for what cannot be simulated.
    """
    if mode == "npu-only":
        raise UsageError("attention on PIM alone needs a mode with PIM: dual, single or single-issue1")
    requests = _requests(device, shape, sequence_lengths, channels, assignment, mode, False)
    operators = LayerOperators(device, shape)
    rows = operators.attention(requests.lengths, 0, 0)
    machine = _machine(device, shape, mode, requests, [([], rows)], operators, False)
    cycles = machine.run(table([]), table(rows), requests.lengths, requests.channels) + 1
    done, times = tally(machine.states, machine.clock), machine.pim_times[0]
    keys = [index for index, row in enumerate(rows) if row[tk.O_KIND] == tk.KEY]
    key_end = int(times[keys[-1], 1])
    return NeupimsAttentionResult(
        cycles=cycles,
        key_cycles=key_end - int(times[0, 0]),
        value_cycles=int(times[-1, 1]) - key_end,
        seconds=cycles / device.clock,
        pim_utilisation=done.pim_busy_clocks / (device.organisation.channels * cycles),
        counts=done.counts,
        energy_by_component_j=energy_j(device, done, mode == "dual"),
    )


def simulate_neupims_layer(
    device: NeupimsDevice,
    model_shape: LayerShape,
    sequence_lengths: Sequence[int],
    sub_batch_interleaving: bool = False,
    mode: Mode = "dual",
    channels: Sequence[int] | None = None,
    assignment: Assignment = "greedy",
    only_stages: str = "",
    all_reduce_s: float = 0.0,
) -> NeupimsLayerResult:
    """One decoder layer of one decode iteration.

    sub_batch_interleaving  two halves of the batch, NPU and PIM at work together (stages A to F)
    mode                    dual | single | single-issue1 (Newton, one PIM command per cycle for the device) | npu-only
    only_stages             letters of the stages to simulate, from a cold machine (default: all)
    all_reduce_s            seconds the NPU waits for each of the two sums over the devices (the peer has none)
    Raises InputError, UsageError or InfeasibleError for what cannot be simulated.
    """
    requests = _requests(device, model_shape, sequence_lengths, channels, assignment, mode, sub_batch_interleaving)
    operators = LayerOperators(device, model_shape, round(all_reduce_s * device.clock))
    if mode == "npu-only":
        plan = _npu_only(device, operators, requests)
    elif sub_batch_interleaving:
        plan = _interleaved(operators, requests)
    else:
        plan = _serial(operators, requests)
    if only_stages:
        plan = {name: sides for name, sides in plan.items() if name in only_stages}
        if not plan:
            raise UsageError(f"found stages {only_stages!r}, allowed: letters of ABE or ABCDEF")
    machine = _machine(device, model_shape, mode, requests, list(plan.values()), operators, sub_batch_interleaving)
    stages = [_stage(machine, operators, requests, name, *sides) for name, sides in plan.items()]
    return _layer_result(device, mode, machine, tuple(stages))


def _stage(
    machine: Machine, operators: LayerOperators, requests: Requests, name: str, npu_rows: Rows, pim_rows: Rows
) -> Stage:
    """Run a stage on the machine as the one before left it."""
    device, dual, first = machine.device, machine.mode == "dual", not machine.npu_times
    before = energy_j(device, tally(machine.states, machine.clock), dual) if not first else {}
    cycles = _run_stage(machine, requests, npu_rows, pim_rows)
    npu_times, pim_times = machine.npu_times[-1], machine.pim_times[-1]
    start = machine.clock - cycles
    after = energy_j(device, tally(machine.states, machine.clock), dual)
    pim_names = ["key" if row[tk.O_KIND] == tk.KEY else "value" for row in pim_rows]
    return Stage(
        name,
        cycles + first,  # the first operator of a run issues in cycle 1
        _span(npu_times, start),
        _span(pim_times, start),
        _spans(_npu_names(operators, name, npu_rows), npu_times),
        _spans(pim_names, pim_times),
        {part: joules - before.get(part, 0.0) for part, joules in after.items()},
    )


def _span(times: NDArray[np.int64], start: int) -> int:
    return int(times[-1, 1]) - start if len(times) else 0


def _spans(names: Sequence[str], times: NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
    return tuple((name, int(end - begin)) for name, (begin, end) in zip(names, times.tolist(), strict=False))


def _npu_names(operators: LayerOperators, stage: str, rows: Rows) -> tuple[str, ...]:
    """Operator names of the NPU side of a stage (rows[0] is the layer norm of QKV where that comes first)."""
    if stage == "ALL" or not rows:
        return ()
    if rows[0][tk.O_KIND] == npu.FUSED:
        return ("attention",)
    names = operators.qkv_names if rows[0][tk.O_KIND] == npu.LAYER_NORM else operators.feed_forward_names
    return names if len(names) == len(rows) else (*names, *operators.qkv_names)


def _run_stage(machine: Machine, requests: Requests, npu_rows: Rows, pim_rows: Rows) -> int:
    """Run a stage; the peer's NPU-only attention is a pause of known length between two parts."""
    cuts = [index for index, row in enumerate(npu_rows) if row[tk.O_KIND] == npu.FUSED and row[tk.O_TILES] == 0]
    if not cuts:
        return machine.run(table(npu_rows), table(pim_rows), requests.lengths, requests.channels)
    cut = cuts[0]
    total = machine.run(table(npu_rows[:cut]), table([]), requests.lengths, requests.channels)
    machine.rest(npu_rows[cut][tk.O_N])
    machine.skip_addresses(npu_rows[cut][tk.O_K])
    total += npu_rows[cut][tk.O_N]
    return total + machine.run(table(npu_rows[cut + 1 :]), table([]), requests.lengths, requests.channels)


def _serial(operators: LayerOperators, requests: Requests) -> dict[str, tuple[Rows, Rows]]:
    tokens = len(requests.lengths)
    return {
        "A": (operators.qkv(tokens, 0), []),
        "B": ([], operators.attention(requests.lengths, 0, 0)),
        "E": (operators.feed_forward(tokens, 0), []),
    }


def _interleaved(operators: LayerOperators, requests: Requests) -> dict[str, tuple[Rows, Rows]]:
    n = requests.sub_batches
    qkv = [operators.qkv(n[sub], sub) for sub in range(2)]
    rest = [operators.feed_forward(n[sub], sub) for sub in range(2)]
    first = operators.attention(requests.lengths[: n[0]], 0, 0)
    second = operators.attention(requests.lengths[n[0] :], n[0], 1)
    return {
        "A": (qkv[0], []),
        "B": (qkv[1], first),
        "C": (rest[0] + qkv[0], second),
        "D": (rest[1] + qkv[1], first),
        "E": (rest[0], second),
        "F": (rest[1], []),
    }


def _npu_only(device: NeupimsDevice, operators: LayerOperators, requests: Requests) -> dict[str, tuple[Rows, Rows]]:
    """Attention on the NPU: stages A, B, E, or one stage with the peer's attention as a pause of known length."""
    tokens = len(requests.lengths)
    before, after = operators.qkv(tokens, 0), operators.feed_forward(tokens, 0)
    if not device.defect("fused_attention"):
        return {"A": (before, []), "B": ([stream_attention(operators, requests.lengths)], []), "E": (after, [])}
    heads, head_dim = operators.shape.device_heads, operators.shape.head_dim
    pause = [0] * tk.O_SIZE
    pause[tk.O_KIND] = npu.FUSED
    pause[tk.O_N] = attention_cycles(requests.lengths, heads) + 2 * tokens
    pause[tk.O_K] = heads * head_dim * int((2 + 2 * requests.lengths).sum())
    return {"ALL": ([*before, pause, *after], [])}


def _requests(
    device: NeupimsDevice, shape: LayerShape, lengths: Sequence[int], channels: Sequence[int] | None,
    assignment: Assignment, mode: Mode, interleaved: bool,
) -> Requests:  # fmt: skip
    if mode not in MODES:
        raise UsageError(f"found mode {mode!r}, allowed: {', '.join(MODES)}")
    count = device.organisation.channels
    chosen = assign_channels(shape, lengths, count, assignment) if channels is None else channels
    return arrange(lengths, chosen, count, interleaved and mode != "npu-only")


def _machine(
    device: NeupimsDevice, shape: LayerShape, mode: Mode, requests: Requests, stages: list[tuple[Rows, Rows]],
    operators: LayerOperators, two_queues: bool,
) -> Machine:  # fmt: skip
    """A machine with room for these stages."""
    channels = device.organisation.channels
    sizes = Sizes()
    for npu_rows, pim_rows in stages:
        sizes.for_npu(table([row for row in npu_rows if row[tk.O_TILES]]), channels, requests.lengths)
        for row in pim_rows:
            piece = slice(row[tk.O_N], row[tk.O_N] + row[tk.O_K])
            lengths, where = requests.lengths[piece], requests.channels[piece]
            sizes.for_pim(lengths, where, shape.device_heads, shape.head_dim, mode)
    devices = 1 if mode == "npu-only" else shape.tensor_parallel
    limit = 10 * shape.hidden * shape.hidden // devices // 64 * 64
    used = limit if device.defect("running_pointer") else operators.memory.used
    if used > device.capacity_bytes:
        raise InfeasibleError(f"the layer needs {used} B, the device has {device.capacity_bytes:.0f} B")
    sizes.blocks = used // 64 // channels + 64
    return Machine(device, mode, two_queues, shape.device_heads, shape.head_dim, limit, sizes)


def _layer_result(device: NeupimsDevice, mode: Mode, machine: Machine, stages: tuple[Stage, ...]) -> NeupimsLayerResult:
    cycles = sum(stage.cycles for stage in stages)
    done = tally(machine.states, machine.clock)
    moved = (done.counts["READ"] + done.counts["WRITE"]) * device.organisation.access_bytes
    seconds = cycles / device.clock
    return NeupimsLayerResult(
        cycles=cycles,
        seconds=seconds,
        stages=stages,
        npu_utilisation=int(machine.core[npu.ARRAY_BUSY]) / cycles,
        pim_utilisation=done.pim_busy_clocks / (device.organisation.channels * cycles),
        dram_bandwidth_share=moved / (device.peak_bandwidth * seconds),
        counts=done.counts,
        energy_by_component_j=energy_j(device, done, mode == "dual"),
    )
