"""A product tile by tile on ONNXim's cores: loads, blocks in the array, stores, and one memory for all.

Rules (ONNXim a1e8629). Two tiles are resident on a core; the next one comes when the older has sent its last store. A
tile loads, for each `side` outputs, the weights of its whole reduction and, with the first, its activations. A block
waits for both of its loads, all in order; the first of an idle array also for its weights to move in. Stores wait
until all blocks have been handed to the array, and each for its result. Loads and stores of a core form one queue.

The memory is a rate that the cores with a request share equally, and that rests while it refreshes. ONNXim simulates
every request instead: row misses, and requests held up behind others for a busy channel, are not in this model.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from archsim.compute.onnxim.machine import OnnximMachine
from archsim.compute.onnxim.tiling import Tile, Tiling, list_tiles, tile_gemm

_SHORTEST_BLOCK = 4  # cycles between blocks even of fewer tokens
_LEFT_OVER = 1e-6  # bytes below which a transfer is over


@dataclass(frozen=True)
class GemmRun:
    """Cycles until the last store has left, bytes over the memory ports, blocks and multiply-adds of each core."""

    cycles: int
    tiling: Tiling
    read_bytes: int
    written_bytes: int
    core_blocks: tuple[int, ...]
    core_multiply_adds: tuple[int, ...]


@dataclass
class _Resident:
    """A tile on a core: which loads are there, and how many groups (outputs, tokens) have gone to the array."""

    tile: Tile
    weights: set[int] = field(default_factory=set)
    activations: set[int] = field(default_factory=set)
    handed: int = 0
    finished: list[float] = field(default_factory=list)


@dataclass
class _Core:
    todo: deque[Tile] = field(default_factory=deque)
    resident: list[_Resident] = field(default_factory=list)
    queue: deque[tuple[float, Callable[[float], None] | None]] = field(default_factory=deque)
    left: float = 0.0
    next_start: float = 0.0
    busy_until: float = -math.inf
    blocks: int = 0
    multiply_adds: int = 0

    def transfer(self, bytes_: float, then: Callable[[float], None] | None) -> None:
        """Queue a load, or with nothing to do then a store."""
        if not self.queue:
            self.left = bytes_
        self.queue.append((bytes_, then))


class _Simulation:
    def __init__(self, machine: OnnximMachine, shape: tuple[int, int, int], tiles: list[Tile]) -> None:
        self.machine, self.shape = machine, shape
        self.cores = [_Core() for _ in range(machine.cores)]
        for tile in tiles:
            self.cores[tile.core].todo.append(tile)
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.count = 0
        self.end = 0.0
        self.read_bytes = self.written_bytes = 0

    def run(self) -> float:
        """The cycle in which the last store leaves."""
        for core in self.cores:
            self.admit(core)
            self.admit(core)
        now = 0.0
        while self.events or any(core.queue for core in self.cores):
            now = self.advance(now)
            while self.events and self.events[0][0] <= now:
                heapq.heappop(self.events)[2](now)
        return self.end

    def at(self, cycle: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self.events, (cycle, self.count, act))
        self.count += 1

    def advance(self, now: float) -> float:
        """Move bytes until the next event, the end of a transfer or a change of the memory's rate."""
        machine = self.machine
        phase = now % machine.refresh_interval_cycles
        resting = now >= machine.refresh_interval_cycles and phase < machine.refresh_cycles
        then = now - phase + (machine.refresh_cycles if resting else machine.refresh_interval_cycles)
        if self.events:
            then = min(then, self.events[0][0])
        busy = [core for core in self.cores if core.queue]
        if resting or not busy:
            return then
        share = machine.memory_bytes_per_cycle / len(busy)
        sent = min((then - now) * share, *(core.left for core in busy))
        # Counted in bytes: a cycle's last digits cannot hold a short transfer late in a long run.
        then = min(then, now + sent / share)
        for core in busy:
            core.left -= sent
            if core.left <= _LEFT_OVER:
                act = core.queue.popleft()[1]
                if act is not None:
                    self.at(then + machine.latency_cycles, act)
                core.left = core.queue[0][0] if core.queue else 0.0
        return then

    def admit(self, core: _Core) -> None:
        """Take the next tile and queue its loads."""
        if not core.todo:
            return
        here = _Resident(core.todo.popleft())
        core.resident.append(here)
        tile, depth = here.tile, sum(here.tile.reduction)
        for column, outputs in enumerate(tile.outputs):
            self.load(core, self.block_bytes(outputs, depth, self.shape[1]), here.weights, column)
            if column == 0:
                for row, tokens in enumerate(tile.tokens):
                    self.load(core, self.block_bytes(tokens, depth, self.shape[1]), here.activations, row)

    def load(self, core: _Core, bytes_: int, there: set[int], index: int) -> None:
        self.read_bytes += bytes_

        def arrived(now: float) -> None:
            there.add(index)
            self.hand_over(core, now)

        core.transfer(bytes_, arrived)

    def block_bytes(self, rows: int, columns: int, width: int) -> int:
        """Bytes of the requests for a block of a matrix with rows of `width` elements, weights by output.

        A row asks for one request after the other from the one it begins in, even if it reaches into one more. Rows
        of the whole width lie end to end, so that two may share a request.
        """
        element, request = self.machine.element_bytes, self.machine.request_bytes
        a_row = -(-columns * element // request)
        count = (rows - 1) * width * element // request + a_row if columns == width else rows * a_row
        return count * request

    def hand_over(self, core: _Core, now: float) -> None:
        """Give the array the blocks whose loads have come, in order, and end tiles that have given all."""
        for here in list(core.resident):
            groups = len(here.tile.outputs) * len(here.tile.tokens)
            if here.handed == groups:
                continue
            while here.handed < groups:
                column, row = divmod(here.handed, len(here.tile.tokens))
                if column not in here.weights or row not in here.activations:
                    return
                self.compute(core, here, here.tile.tokens[row], here.tile.outputs[column], now)
            self.finish(core, here, now)

    def compute(self, core: _Core, here: _Resident, tokens: int, outputs: int, now: float) -> None:
        """The blocks of one group: the whole reduction of the tile for some outputs and tokens."""
        side, blocks = self.machine.side, len(here.tile.reduction)
        idle = core.busy_until <= now
        start = now + 2 * side - 1 if idle else max(now, core.next_start)
        step = max(tokens, _SHORTEST_BLOCK, side)
        core.next_start = start + blocks * step
        core.busy_until = core.next_start - step + 2 * side - 2 + max(tokens, _SHORTEST_BLOCK)
        core.blocks += blocks
        core.multiply_adds += tokens * outputs * sum(here.tile.reduction)
        here.handed += 1
        here.finished.append(core.busy_until)

    def finish(self, core: _Core, here: _Resident, now: float) -> None:
        """Stores once the array's queue, `side` deep, has taken the last block; a partial sum stays on the core."""
        tile = here.tile
        step = max(tile.tokens[-1], _SHORTEST_BLOCK, self.machine.side)
        cycle = max(now, core.next_start - step - self.machine.side * step)
        if tile.last:
            for index, result in enumerate(here.finished):
                column, row = divmod(index, len(tile.tokens))
                cycle = max(cycle + 1, result)
                self.store(core, cycle, self.block_bytes(tile.tokens[row], tile.outputs[column], self.shape[2]))
        self.at(cycle, lambda now: self.leave(core, here, now))

    def store(self, core: _Core, cycle: float, bytes_: int) -> None:
        self.written_bytes += bytes_
        self.at(cycle, lambda now: core.transfer(bytes_, None))

    def leave(self, core: _Core, here: _Resident, now: float) -> None:
        core.resident.remove(here)
        self.end = max(self.end, now)
        self.admit(core)


def simulate_gemm(machine: OnnximMachine, tokens: int, reduction: int, outputs: int) -> GemmRun:
    """A (tokens, reduction) x (reduction, outputs) product. Raises UsageError for a dimension below one."""
    tiling = tile_gemm(machine, tokens, reduction, outputs)
    simulation = _Simulation(
        machine, (tokens, reduction, outputs), list_tiles(machine, tiling, tokens, reduction, outputs)
    )
    cycles = math.ceil(simulation.run())
    return GemmRun(
        cycles, tiling, simulation.read_bytes, simulation.written_bytes,
        tuple(core.blocks for core in simulation.cores), tuple(core.multiply_adds for core in simulation.cores),
    )  # fmt: skip
