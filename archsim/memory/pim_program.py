"""A PIM program: operations for the engine, and the run of one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.memory.pim_device import PimDevice
from archsim.memory.pim_kernels import BARRIER, SKIP, State, run

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

    def add(self, command: int, bank: int = 0, row: int = 0, count: int = 1, ticks: int = 0) -> None:
        """`count` equal requests to every channel."""
        if count > 0:
            self.rows.append((command, bank, row, count, 0, 1, ticks, 0))

    def barrier(self) -> None:
        """Nothing but row commands overtakes a barrier."""
        self.rows.append((BARRIER, 0, 0, 1, 0, 1, 0, 0))

    def build(self) -> Program:
        """The program. Raises InputError if it is empty."""
        if not self.rows:
            raise InputError("the program has no requests")
        return Program(np.array(self.rows, np.int64), np.array([self.channels], np.int64), np.zeros(1, np.int64))


def run_program(device: PimDevice, program: Program, *, log: bool = False) -> ProgramRun:
    """Time `program` on one stack of `device`; `log` keeps every command (of one channel per class)."""
    ops = program.ops
    if ops.shape[0] == 0:
        raise InputError("the program has no requests")
    if int(ops[:, 3].sum()) > _MAX_REQUESTS:
        raise InputError(f"the program has more than 2^40 requests per channel")
    tables = device.tables
    room = 0
    if log:
        tables = tables._replace(flags=tables.flags & ~SKIP)
        room = 4 * int((ops[:, 3] * (ops[:, 5] - ops[:, 4])).sum()) + 64 * (1 + ops.shape[0])
    state = _new_state(device, program, room)
    ticks = int(run(tables, ops, program.walk, state))
    return ProgramRun(ticks, state.counts, state.split, state.log[: int(state.logged[0])], int(state.skipped[0]))


def _new_state(device: PimDevice, program: Program, log_rows: int) -> State:
    t = device.tables
    classes, places = program.width.size, t.depth + 2
    commands, (_, banks) = t.bus.size, t.node.shape
    nodes = int(t.node.max()) + 1
    longest = int(t.windows[:, 3].max()) if t.windows.shape[0] else 1

    def zeros(*shape: int) -> Ints:
        return np.zeros(shape, np.int64)

    return State(
        width=program.width,
        ready=zeros(classes, nodes, commands),
        history=np.full((classes, t.windows.shape[0], nodes if t.windows.shape[0] else 1, longest), -(1 << 40), np.int64),
        history_at=zeros(classes, t.windows.shape[0], nodes if t.windows.shape[0] else 1),
        row=np.full((classes, banks), -1, np.int64),
        open_banks=zeros(classes),
        seg_op=zeros(classes, places),
        seg_n=zeros(classes, places),
        seg_bank=zeros(classes, places),
        segs=zeros(classes),
        waiting=zeros(classes),
        pending=zeros(classes),
        refreshed=zeros(classes),
        next_refresh=np.full(classes, t.interval, np.int64),
        wake=np.full(classes, t.interval, np.int64),
        stream=zeros(classes),
        stream_stop=zeros(classes),
        stream_last=np.full(classes, -1, np.int64),
        since=zeros(classes),
        label=np.full(classes, 5, np.int64),
        mac_until=zeros(classes),
        refresh_until=zeros(classes),
        softmax_until=zeros(classes),
        cmd=zeros(places),
        hit=zeros(banks),
        scan=zeros(1),
        counts=zeros(commands),
        split=zeros(len(TIME_PARTS)),
        changes=zeros(1),
        skipped=zeros(1),
        log=zeros(log_rows, 5),
        logged=zeros(1),
    )
