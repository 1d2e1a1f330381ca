"""A product tile by tile on ONNXim's cores: loads, blocks in the array, stores, and one memory for all.

Rules (ONNXim a1e8629). Two tiles are resident on a core; the next one comes when the older has sent its last store. A
tile loads, for each `side` outputs, the weights of its whole reduction and, with the first, its activations. A block
waits for both of its loads, all in order; the first of an idle array also for its weights to move in. Stores wait
until all blocks have been handed to the array, and each for its result. Loads and stores of a core form one queue.

The memory is a rate that the cores with a request share equally; it depends on how many different streams they read.
ONNXim simulates every request instead: which rows and banks two streams happen to share is not in this model.
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
_LEFT_OVER = 1e-6  # bytes or cycles that are only rounding


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


@dataclass(frozen=True)
class _Transfer:
    """A load or a store: `what` is moved (equal for the same addresses), and what to do once a load is there."""

    bytes: float
    what: tuple[object, ...]
    then: Callable[[float], None] | None = None


@dataclass
class _Core:
    todo: deque[Tile] = field(default_factory=deque)
    resident: list[_Resident] = field(default_factory=list)
    queue: deque[_Transfer] = field(default_factory=deque)
    left: float = 0.0
    next_start: float = 0.0
    busy_until: float = -math.inf
    blocks: int = 0
    multiply_adds: int = 0

    def transfer(self, wanted: _Transfer) -> None:
        """Queue a load or a store."""
        if not self.queue:
            self.left = wanted.bytes
        self.queue.append(wanted)


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
        """Move bytes until the next event or the end of a transfer."""
        busy = [core for core in self.cores if core.queue]
        then = self.events[0][0] if self.events else math.inf
        if not busy:
            return then
        streams = {(core.queue[0].what, core.left) for core in busy}
        share = self.machine.memory_bytes_per_cycle[len(busy) - 1][len(streams) - 1] / len(busy)
        sent = min((then - now) * share, *(core.left for core in busy))
        # Counted in bytes: a cycle's last digits cannot hold a short transfer late in a long run.
        then = min(then, now + sent / share)
        for core in busy:
            core.left -= sent
            if core.left <= _LEFT_OVER:
                act = core.queue.popleft().then
                if act is not None:
                    self.at(then + self.machine.latency_cycles, act)
                core.left = core.queue[0].bytes if core.queue else 0.0
        return then

    def admit(self, core: _Core) -> None:
        """Take the next tile and queue its loads."""
        if not core.todo:
            return
        here = _Resident(core.todo.popleft())
        core.resident.append(here)
        tile, depth = here.tile, sum(here.tile.reduction)
        for column, outputs in enumerate(tile.outputs):
            self.load(core, here, outputs, depth, here.weights, column)
            if column == 0:
                for row, tokens in enumerate(tile.tokens):
                    self.load(core, here, tokens, depth, here.activations, row)

    def load(self, core: _Core, here: _Resident, rows: int, depth: int, there: set[int], index: int) -> None:
        """Queue the load of one block of outputs (`there` are the tile's weights) or of tokens."""
        bytes_ = self.block_bytes(rows, depth, self.shape[1])
        self.read_bytes += bytes_
        tile = here.tile
        what = ("weights", tile.column) if there is here.weights else ("activations", tile.row)

        def arrived(now: float) -> None:
            there.add(index)
            self.hand_over(core, now)

        core.transfer(_Transfer(bytes_, (*what, tile.depth, index), arrived))

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
                what = ("results", tile.row, tile.column, index)
                self.store(core, cycle, what, self.block_bytes(tile.tokens[row], tile.outputs[column], self.shape[2]))
        self.at(cycle, lambda now: self.leave(core, here, now))

    def store(self, core: _Core, cycle: float, what: tuple[object, ...], bytes_: int) -> None:
        self.written_bytes += bytes_
        self.at(cycle, lambda now: core.transfer(_Transfer(bytes_, what)))

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
    cycles = math.ceil(simulation.run() - _LEFT_OVER)
    return GemmRun(
        cycles, tiling, simulation.read_bytes, simulation.written_bytes,
        tuple(core.blocks for core in simulation.cores), tuple(core.multiply_adds for core in simulation.cores),
    )  # fmt: skip
