"""Every command of a PIM run, as columns: what is exported and plotted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.memory.pim.device import PimDevice
from archsim.memory.pim.program import Program, run_program
from archsim.memory.pim.state_kernels import BUSY

Ints = NDArray[np.int64]
_MOST_COMMANDS = 20_000_000
_BUSES = ("row bus", "column bus", "bus")


@dataclass(frozen=True)
class ClassCommands:
    """Commands of one class of channels that do the same, in the order of issue. Columns have equal length.

    channels   numbers of the first channel and of the one after the last
    tick       clock of issue; time_s, duration_s: the same in seconds, and the time until the next equal command
    command    name; bank: flat number in the channel; row: the one the request wants (-1: none)
    """

    channels: tuple[int, int]
    tick: Ints
    time_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    command: tuple[str, ...]
    bus: tuple[str, ...]
    bank: Ints
    row: Ints


def command_log(device: PimDevice, program: Program) -> tuple[ClassCommands, ...]:
    """Run `program` on one stack without skipping anything and keep every command of one channel per class."""
    requests = int((program.ops[:, 3] * (program.ops[:, 5] - program.ops[:, 4])).sum())
    if requests > _MOST_COMMANDS:
        raise InputError(f"a log of {requests} requests is too long (at most {_MOST_COMMANDS})")
    run = run_program(device, program, log=True)
    names = np.array(device.compiled.commands)
    bus = np.array(_BUSES)[device.tables.cmd[:, 0]]
    busy_s = np.maximum(device.tables.cmd[:, BUSY], 1) * device.tick_s
    ends = np.cumsum(program.width)
    out = []
    for k, end in enumerate(ends):
        rows = run.log[run.log[:, 1] == k]
        c = rows[:, 2]
        out.append(
            ClassCommands(
                channels=(int(end - program.width[k]), int(end)),
                tick=rows[:, 0],
                time_s=rows[:, 0] * device.tick_s,
                duration_s=busy_s[c],
                command=tuple(names[c].tolist()),
                bus=tuple(bus[c].tolist()),
                bank=rows[:, 3],
                row=rows[:, 4],
            )
        )
    return tuple(out)
