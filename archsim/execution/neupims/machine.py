"""The arrays of one NeuPIMs co-simulation and a thin `run_stage` over them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.compute import neupims_kernels as npu
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.errors import InfeasibleError
from archsim.execution.neupims import stage_kernels as kernels
from archsim.execution.neupims import tile_kernels as tk
from archsim.memory.neupims import layout_kernels as at
from archsim.memory.neupims.device import Mode, attention_shape, fresh_channels, latency_table

WHEEL = 8192
SCRATCH = 1 << 17
MAX_CYCLES = 1 << 40


def core_rules(device: NeupimsDevice, mode: Mode) -> NDArray[np.int64]:
    """The core's rules in cycles, (K_SIZE,)."""
    dim = device.core.array_dim
    stream = dim // device.core.arrays
    slow = mode == "npu-only" and device.defect("npu_only_core")
    rules = np.zeros(npu.K_SIZE, np.int64)
    rules[npu.K_DIM], rules[npu.K_STREAM] = dim, stream
    rules[npu.K_DURATION] = 2 * dim - 1 if slow else 2 * dim - 2
    rules[npu.K_FILL] = dim if slow else 2 * dim - 1
    rules[npu.K_PRELOAD_GAP] = dim
    rules[npu.K_LANES] = device.core.vector_lanes
    rules[npu.K_EXPOSED_PRELOAD] = slow
    rules[npu.K_LOADS_IN_TURN] = slow
    rules[npu.K_PHYSICAL_VECTOR] = not device.defect("vector_sizes")
    rules[npu.K_VPU_WAITS] = not device.defect("instant_vector_queue")
    rules[npu.K_EARLY_STORE] = device.defect("early_stores")
    rules[npu.K_SWAPPED_STORE] = device.defect("clipped_outputs")
    rules[npu.K_PARTIAL] = not device.defect("whole_blocks")
    rules[npu.K_SRAM] = int(device.core.sram)
    return rules


@dataclass
class Sizes:
    """Capacities: load groups, steps, stores, results, moves of a tile; commands of a PIM operator; queue lengths."""

    groups: int = 1
    steps: int = 1
    stores: int = 1
    results: int = 1
    moves: int = 1
    commands: int = 1
    npu_queue: int = 4096
    pim_queue: int = 4096
    blocks: int = 4096

    def for_npu(self, rows: NDArray[np.int64], channels: int, lengths: NDArray[np.int64]) -> None:
        """Grow to hold these NPU operators; `lengths` of the requests, for attention on the NPU."""
        for op in rows.tolist():
            tn, tk_, tm = op[tk.O_TN], op[tk.O_TK], op[tk.O_TM]
            if op[tk.O_KIND] == npu.GEMM:
                n, k, m = (-(-dim // 128) for dim in (tn, tk_, tm))
                groups, steps, stores = n + k * m + n * k, n * k * m, n * m
                moved = 2 * 128 * 128 * (n * k + k * m + n * m)
            elif op[tk.O_KIND] == npu.FUSED:
                units = tn * tm
                groups, steps, stores = 5 * units, 3 * units, 3 * units
                moved = 4 * units * tk_ * (int(lengths.max()) + 1)
            else:
                groups, steps, stores = 2 * tn + 2, tn, tn
                moved = 2 * tk_ * (3 * tn + 2)
            self.groups, self.steps = max(self.groups, groups), max(self.steps, steps)
            self.stores, self.results = max(self.stores, stores), max(self.results, stores)
            self.moves = max(self.moves, groups + stores)
            self.npu_queue = max(self.npu_queue, _power(4 * moved // 64 // channels + 2 * (groups + stores)))

    def for_pim(
        self, lengths: NDArray[np.int64], where: NDArray[np.int64], heads: int, head_dim: int, mode: Mode
    ) -> None:
        """Grow to hold one K and one V operator over these requests."""
        parts, inside = -(-head_dim // 32), max(1, 512 // head_dim)
        comps = -(-head_dim // 16) + 1 if mode in ("single", "single-issue1") else 1
        units = len(lengths) * heads * parts
        self.groups, self.steps = max(self.groups, units), max(self.steps, units)
        self.stores, self.results = max(self.stores, units), max(self.results, units)
        tiles, chunks = -(-lengths // 32), -(-lengths // 512)
        keys = -(-heads // inside) * (1 + tiles) + heads * tiles * comps
        long = 33 if comps > 1 else 1
        values = heads * chunks * (1 + parts * (1 + long))
        self.commands = max(self.commands, int(keys.sum()), int(values.sum()))
        load = np.bincount(where, weights=keys + values + heads * (lengths // 16 + 8 * parts))
        self.pim_queue = max(self.pim_queue, _power(int(load.max()) + 2 * int(load.mean())))


def _power(value: int) -> int:
    return 1 << max(0, value - 1).bit_length()


@dataclass
class Machine:
    """State that lives across the stages of a run; `clock` is the next cycle."""

    device: NeupimsDevice
    mode: Mode
    two_queues: bool
    heads: int
    head_dim: int
    limit_bytes: int
    sizes: Sizes
    clock: int = 1
    npu_times: list[NDArray[np.int64]] = field(default_factory=list)
    pim_times: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        channels, s = self.device.organisation.channels, self.sizes
        self.lat = latency_table(self.device, self.mode, self.two_queues)
        self.rules = core_rules(self.device, self.mode)
        self.shape = attention_shape(self.device, self.mode, self.heads, self.head_dim)
        self.states = fresh_channels(channels, int(self.lat[at.P_REFRESH]))
        self.marks = np.zeros((channels, s.blocks), np.uint8)
        self.npu_queue = np.empty((channels, s.npu_queue), np.int64)
        self.pim_queue = np.empty((channels, s.pim_queue), np.int64)
        self.order = np.empty((channels, _power(s.npu_queue + s.pim_queue)), np.uint8)
        self.wheel = np.empty((WHEEL, 2 * channels + 2), np.int64)
        self.wheel_n = np.zeros(WHEEL, np.int64)
        self.core = np.zeros(npu.CORE_SIZE, np.int64)
        self.tiles = np.zeros((3, npu.T_SIZE), np.int64)
        self.left = np.zeros((3, s.groups), np.int64)
        self.moves = np.zeros((2, s.moves, 8), np.int64)
        self.steps = np.zeros((3, s.steps, 5), np.int64)
        self.stores = np.zeros((3, s.stores, 8), np.int64)
        self.issued = np.zeros((3, s.results), np.int64)
        self.running = np.zeros((3, s.results), np.int64)
        self.words = np.empty(s.commands, np.int64)
        self.channels = np.empty(s.commands, np.int64)
        self.blocks = np.empty(SCRATCH, np.int64)
        self.links = np.empty((4, SCRATCH), np.int64)
        self.env = self._env()

    def _env(self) -> NDArray[np.int64]:
        env = np.zeros(tk.E_SIZE, np.int64)
        env[tk.E_LIMIT] = self.limit_bytes
        env[tk.E_SYNTHETIC] = self.device.defect("running_pointer")
        env[tk.E_HASHED] = self.device.defect("hashed_order")
        env[tk.E_ISSUE_ONE] = self.mode == "single-issue1"
        env[tk.E_LANES] = self.device.core.vector_lanes
        env[tk.E_PHYSICAL_VECTOR] = not self.device.defect("vector_sizes")
        return env

    def run(
        self,
        npu_ops: NDArray[np.int64],
        pim_ops: NDArray[np.int64],
        seq: NDArray[np.int64],
        channel: NDArray[np.int64],
    ) -> int:
        """Run one stage and return its cycles. Operator rows are (n, O_SIZE); requests in channel-major order."""
        npu_ops, pim_ops = npu_ops.copy(), pim_ops.copy()
        npu_times = np.zeros((len(npu_ops), 2), np.int64)
        pim_times = np.zeros((len(pim_ops), 2), np.int64)
        start = self.clock
        self.clock = kernels.run_stage(
            self.states, self.marks, self.order, self.lat, self.npu_queue, self.pim_queue, self.wheel, self.wheel_n,
            self.core, self.rules, self.env, self.shape, npu_ops, pim_ops, seq, channel, self.tiles, self.left,
            self.moves, self.steps, self.stores, self.issued, self.running, self.words, self.channels, self.blocks,
            self.links, npu_times, pim_times, np.zeros(kernels.S_SIZE, np.int64), start, start + MAX_CYCLES,
        )  # fmt: skip
        self.npu_times.append(npu_times)
        self.pim_times.append(pim_times)
        fault = max(int(self.states[:, at.FAULT].max()), int(self.core[npu.CORE_FAULT]))
        if fault or self.clock < 0:
            raise InfeasibleError(f"the NeuPIMs model ran out of room (fault {fault}): smaller batch or shape needed")
        return self.clock - start

    def rest(self, cycles: int) -> None:
        """Let `cycles` pass in which the core asks the memory for nothing."""
        kernels.idle(
            self.states, self.marks, self.order, self.lat, self.npu_queue, self.pim_queue, self.wheel, self.wheel_n,
            self.clock, self.clock + cycles,
        )  # fmt: skip
        self.clock += cycles

    def skip_addresses(self, elements: int) -> None:
        """Move the running address pointer past traffic that is not simulated."""
        pointer = self.env[tk.E_POINTER] + 2 * elements
        self.env[tk.E_POINTER] = pointer % self.limit_bytes
