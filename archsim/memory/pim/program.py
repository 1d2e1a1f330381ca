"""A PIM program: operations for the engine, and the run of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.memory.pim.device import PimDevice
from archsim.memory.pim.engine_kernels import run
from archsim.memory.pim.state_kernels import (
    BARRIER,
    CHANNELS,
    DEPTH,
    FLAGS,
    GROUP,
    INTERVAL,
    LABEL,
    LAST,
    LOGGED,
    NEXT_REFRESH,
    REGISTERS,
    SKIP,
    SKIPPED,
    WAIT,
    WAKE,
    WIDTH,
    State,
    Tables,
)

Ints = NDArray[np.int64]
TIME_PARTS = ("activate", "mac", "data_movement", "softmax", "refresh", "wait")
_MAX_REQUESTS = 2**40


@dataclass(frozen=True)
class Program:
    """Requests of all channels of a stack in push order.

    ops     (N, 8) command (-1: barrier), bank (or place in `walk`), row, count, first class, end class,
            ticks the command's unit is busy, 1 if the bank advances along `walk` from request to request
    width   (K,) channels in each class of equal channels
    walk    banks in the order in which a walking operation visits them
    """

    ops: Ints
    width: Ints
    walk: Ints


@dataclass(frozen=True)
class ProgramRun:
    """What the engine did. ticks; commands and their channel-summed counts; channel-ticks by TIME_PARTS.

    log      (n, 5) tick, class, command, bank, row of every command, if it was asked for
    skipped  ticks that were added as whole periods
    """

    ticks: int
    counts: Ints
    split: Ints
    log: Ints
    skipped: int


@dataclass
class ProgramBuilder:
    """Collects operations of a program in which all channels do the same (or a leading part of them)."""

    channels: int
    rows: list[tuple[int, ...]] = field(default_factory=list)

    def add(
        self, command: int, bank: int = 0, row: int = 0, count: int = 1, *, ticks: int = 0, walk: bool = False
    ) -> None:
        """`count` equal requests to every channel.

        ticks   the unit of the command is busy so long (see `holds` of the device)
        walk    the bank moves on from request to request along the program's walk, `bank` is the place to start
        """
        if count > 0:
            self.rows.append((command, bank, row, count, 0, 1, ticks, int(walk)))

    def barrier(self) -> None:
        """Nothing but row commands overtakes a barrier."""
        self.rows.append((BARRIER, 0, 0, 1, 0, 1, 0, 0))

    def build(self, walk: Sequence[int] = (0,)) -> Program:
        """The program; `walk`: banks in the order of a walking operation. Raises InputError if it is empty."""
        if not self.rows:
            raise InputError("the program has no requests")
        return Program(np.array(self.rows, np.int64), np.array([self.channels], np.int64), np.array(walk, np.int64))


def run_program(device: PimDevice, program: Program, *, log: bool = False) -> ProgramRun:
    """Time `program` on one stack of `device`; `log` keeps every command (of one channel per class)."""
    ops = program.ops
    if ops.shape[0] == 0:
        raise InputError("the program has no requests")
    if int(ops[:, 3].sum()) > _MAX_REQUESTS:
        raise InputError("the program has more than 2^40 requests per channel")
    tables, room = device.tables, 0
    if log:
        par = tables.par.copy()
        par[FLAGS] &= ~SKIP
        tables = tables._replace(par=par)
        room = 4 * int((ops[:, 3] * (ops[:, 5] - ops[:, 4])).sum()) + 64 * (1 + ops.shape[0])
    state = _new_state(tables, program, room)
    # an earlier moment is only ever looked at where operations walk
    old = _new_state(tables, program, 0) if program.walk.size > 1 else state
    ticks = int(run(tables, ops, program.walk, state, old))
    log_rows, skipped = int(state.total[LOGGED]), int(state.total[SKIPPED])
    return ProgramRun(ticks, state.counts, state.split, state.log[:log_rows], skipped)


def _new_state(tables: Tables, program: Program, log_rows: int) -> State:
    classes, places = program.width.size, int(tables.par[DEPTH]) + 2
    commands, banks, windows = tables.cmd.shape[0], tables.node.shape[1], tables.windows.shape[0]
    nodes = int(tables.node.max()) + 1
    longest = int(tables.windows[:, 3].max()) if windows else 1
    history = np.full((classes, windows, nodes if windows else 1, longest + 1), -(1 << 40), np.int64)
    history[..., -1] = 0
    reg = np.zeros((classes, REGISTERS), np.int64)
    reg[:, CHANNELS] = program.width
    if log_rows:  # every class for itself
        reg[:, WIDTH] = program.width
        reg[:, GROUP] = np.arange(1, classes + 1)
    else:  # the first stands for all until their requests differ
        reg[0, WIDTH] = program.width.sum()
        reg[0, GROUP] = classes
    reg[:, NEXT_REFRESH] = reg[:, WAKE] = tables.par[INTERVAL]
    reg[:, LAST] = -1
    reg[:, LABEL] = WAIT
    return State(
        reg=reg,
        ready=np.zeros((classes, nodes, commands), np.int64),
        history=history,
        row=np.full((classes, banks), -1, np.int64),
        queue=np.zeros((classes, places, 3), np.int64),
        need=np.zeros(places, np.int64),
        hit=np.zeros(banks, np.int64),
        counts=np.zeros(commands, np.int64),
        split=np.zeros(len(TIME_PARTS), np.int64),
        total=np.zeros(5, np.int64),
        at=np.zeros(3, np.int64),
        before=np.full(5, -1, np.int64),
        log=np.zeros((log_rows, 5), np.int64),
    )
