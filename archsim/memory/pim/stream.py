"""A plain stream of MACs over all columns of all banks: what one command family can sustain, refresh included."""

from __future__ import annotations

import numpy as np

from archsim.errors import InputError, UsageError, unknown_name
from archsim.memory.pim.device import PimDevice
from archsim.memory.pim.program import Program, ProgramBuilder, run_program
from archsim.memory.pim.result import PimResult, make_result
from archsim.memory.pim.state_kernels import BUSY, GAP


def stream_time(device: PimDevice, mac: str, columns: int, element_bytes: int = 2) -> PimResult:
    """Time `columns` commands `mac` per channel on one stack, columns in the order of their addresses.

    Raises UsageError for a command that is no MAC of the device, InputError if the banks have fewer columns.
    """
    macs = [name for name, request in device.config.requests.items() if request.role == "mac"]
    if mac not in macs:
        raise UsageError(unknown_name("MAC command", mac, macs))
    run = run_program(device, stream_program(device, mac, columns))
    lanes = device.geometry.access_bytes / element_bytes
    done = float(columns) * device.geometry.channels * device.config.requests[mac].banks * lanes
    return make_result(device, run, mac, done, done, lanes)


def stream_program(device: PimDevice, mac: str, columns: int) -> Program:
    """`columns` MACs for every channel: bank by bank, or round all banks where one bank alone is slower."""
    banks, command = _first_banks(device, mac), device.command(mac)
    g = device.geometry
    room = len(banks) * g.rows * g.row_columns
    if not 1 <= columns <= room:
        raise InputError(f"columns: found {columns}, allowed: 1 to {room}")
    builder = ProgramBuilder(g.channels)
    walking = int(device.tables.cmd[command, GAP]) > int(device.tables.cmd[command, BUSY])
    step = g.row_columns * (len(banks) if walking else 1)
    for number, start in enumerate(range(0, columns, step)):
        count = min(step, columns - start)
        if walking:
            builder.add(command, 0, number, count, walk=True)
        else:
            builder.add(command, banks[number % len(banks)], number // len(banks), count)
    return builder.build(banks)


def _first_banks(device: PimDevice, mac: str) -> list[int]:
    """First bank of each set of banks that `mac` opens together; neighbours differ in the highest level first."""
    opener = device.config.requests[mac].activate
    c = device.command(opener if opener is not None else mac)
    firsts = {int(device.tables.lists[at]) for at, _ in device.tables.reach[c]}
    fanout = tuple(device.geometry.fanout.values())
    place = np.array(np.unravel_index(sorted(firsts), fanout))
    # bank changes slowest, then the levels from the outermost inwards
    order = np.lexsort((*place[-2::-1], place[-1]))
    return [sorted(firsts)[i] for i in order]
