"""The bandwidth stack: which share of the peak carried data, and what the rest was lost to."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram import stack_kernels as causes
from archsim.memory.dram.roles import FOLLOW_OF
from archsim.memory.dram.stack_kernels import N_CAUSES, NEVER, attribute

if TYPE_CHECKING:
    from archsim.memory.dram.engine import Setup

Array = NDArray[np.int64]
NAMES = (
    "data", "tCCD", "read/write turnaround", "tFAW", "tRRD", "bank busy (tRC)", "refresh", "command bus", "queue/idle",
)  # fmt: skip
_COLUMNS = (lay.RD, lay.WR, lay.RDA, lay.WRA)


class Stack:
    """Collects the gaps of one channel; `add` takes blocks of its trace rows in order."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        n1, n2, n3, n4 = setup.tables.counts
        banks = n1 * n2 * n3 * n4
        b = np.arange(banks, dtype=np.int64)
        sizes = (1, n1, n1 * n2, n1 * n2 * n3, banks)
        first = np.concatenate(([0], np.cumsum(sizes)))
        below = (banks, n2 * n3 * n4, n3 * n4, n4, 1)
        self._nodes = np.stack([first[k] + b // below[k] for k in range(5)], axis=1).astype(np.int64)
        self._around = np.zeros((int(first[5]), 2), np.int64)
        for level, fan in enumerate((1, n1, n2, n3, n4)):
            index = np.arange(sizes[level])
            self._around[first[level] : first[level + 1], 0] = first[level] + index // fan * fan
            self._around[first[level] : first[level + 1], 1] = first[level] + index // fan * fan + fan
        self._paths = setup.geometry.data_paths
        per = banks // self._paths
        self._of_bank = np.stack((b // per, b // below[1] * below[1], np.full(banks, below[1])), axis=1).astype(
            np.int64
        )
        self._rules, self._first_rule = _rules(setup)
        self._info = _info(setup)
        self._times = np.full((int(first[5]), 8, 3), NEVER, np.int64)
        self._times[..., 2] = causes.IDLE
        self._rings = np.full((max(1, setup.tables.windows), int(first[5]), 16), NEVER, np.int64)
        self._rings[..., 15] = 0
        self._history = np.zeros((banks, 10), np.int64)
        self._history[:, causes.PRE_AT] = NEVER
        self._path_end = np.zeros(self._paths, np.int64)
        self._busy = np.zeros((2, 2), np.int64)
        self._lost = np.zeros(N_CAUSES, np.int64)
        standard = setup.device.standard
        beat_ps = 1e6 / setup.device.data_rate_mtps
        self._burst = max(1, round(standard.burst_beats * beat_ps / setup.device.tick_ps))

    def add(self, commands: Array) -> None:
        """Account for a block of commands."""
        attribute(
            commands, self._nodes, self._around, self._rules, self._first_rule, self._info, self._times, self._rings,
            self._history, self._path_end, self._busy, self._lost, self._burst, self._of_bank,
        )  # fmt: skip

    def lost(self, end: int) -> Array:
        """Burst slots up to `end`, the end of the run, by cause; since the last burst the data pins are idle."""
        total = self._lost.copy()
        total[causes.IDLE] += int(np.maximum(end - self._path_end, 0).sum())
        return total


class Stacks:
    """The stack of every channel. A block is accounted for by the threads of `pool` while the engine goes on."""

    def __init__(self, setup: Setup, channels: int, pool: Executor) -> None:
        self._parts = [Stack(setup) for _ in range(channels)]
        self._pool = pool
        self._running: list[Future[None]] = []

    def add(self, commands: Array) -> None:
        """Account for a block of commands of all channels; blocks come in order."""
        self._wait()
        channel = commands[:, 2] >> 32
        for number, part in enumerate(self._parts):
            own = commands if len(self._parts) == 1 else commands[channel == number]
            if own.size:
                self._running.append(self._pool.submit(part.add, own))

    def _wait(self) -> None:
        for task in self._running:
            task.result()
        self._running = []

    def shares(self, end: int) -> dict[str, float]:
        """Cause -> share of all burst slots up to `end`; they add up to 1."""
        self._wait()
        return shares(self._parts, end)


def shares(parts: Sequence[Stack], end: int) -> dict[str, float]:
    """Cause -> share of the burst slots of all channels up to `end`; they add up to 1."""
    lost = sum((part.lost(end) for part in parts), np.zeros(N_CAUSES, np.int64))
    total = int(lost.sum())
    return {name: float(n) / total if total else 0.0 for name, n in zip(NAMES, lost, strict=True)}


def _cause(role: int, follow: int, level: int, kind: int) -> int:
    """The cause a rule stands for, from the commands on its two sides."""
    columns = (lay.F_RD, lay.F_WR)
    if role in (lay.REFAB, lay.REFPB):
        return causes.REFRESH
    if role in _COLUMNS and follow in columns:
        same = (role in (lay.RD, lay.RDA)) == (follow == lay.F_RD)
        return causes.CCD if same and kind == 0 else causes.TURNAROUND
    if role == lay.ACT and follow == lay.F_ACT:
        if kind > 1:
            return causes.FAW
        return causes.BANK if level == 4 else causes.RRD
    return causes.BANK


def _rules(setup: Setup) -> tuple[Array, Array]:
    rules: list[tuple[int, ...]] = []
    first = [0]
    for role in range(lay.N_COMMANDS):
        for level, follow, ticks in setup.tables.rows[role]:
            rules.append((role, 0, level, follow, ticks, _cause(role, follow, level, 0), 0))
        for kind, level, follow, ticks, number in setup.tables.extra[role]:
            rules.append((role, kind, level, follow, ticks, _cause(role, follow, level, kind), number))
        first.append(len(rules))
    return np.array(rules, np.int64).reshape(-1, 7), np.array(first, np.int64)


def _info(setup: Setup) -> Array:
    compiled, standard = setup.compiled, setup.device.standard
    burst = {"read": compiled.ticks(standard.latency.read), "write": compiled.ticks(standard.latency.write)}
    length = round(standard.burst_beats * 1e6 / setup.device.data_rate_mtps / setup.device.tick_ps)
    info = np.zeros((lay.N_COMMANDS, 5), np.int64)
    for role, name in enumerate(setup.tables.names):
        info[role, 2] = FOLLOW_OF.get(role, -1)
        if not name:
            continue
        number = compiled.command(name)
        info[role, 0], info[role, 1] = compiled.bus[number] % 2, compiled.cycles_ticks[number]
        data = standard.commands[name].data
        info[role, 3] = burst[data] - length if data != "none" else 0
        info[role, 4] = role in (lay.PREA, lay.REFAB)
    return info
