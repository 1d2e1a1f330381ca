"""Matrix times vector on devices whose banks all multiply at once (SK hynix GDDR6-AiM, Samsung HBM-PIM).

Every unit holds one matrix row at a time: the rows go over stacks, channels and units, a *pass* is one row per unit.
The vector comes in pieces that fit the operand buffer. The matrix lies in the order in which it is used, so that every
DRAM row is opened once. Also an example of how short a PIM program is: README.md in this folder.
"""

from __future__ import annotations

from archsim.config.schemas.pim import GemvProgram
from archsim.errors import ConfigError, InfeasibleError, InputError
from archsim.memory.pim.device import PimDevice
from archsim.memory.pim.program import Program, ProgramBuilder, run_program
from archsim.memory.pim.result import PimResult, make_result

_MOST = 2**24


def simulate_gemv(device: PimDevice, rows: int, columns: int, element_bytes: int = 2) -> PimResult:
    """`rows` x `columns` matrix in the memory of the device times a vector from outside.

    Counts and energy are those of all stacks, each as full as the fullest.
    Raises InputError for a size out of range, InfeasibleError if the matrix does not fit.
    """
    if element_bytes not in device.config.element_bytes:
        allowed = ", ".join(map(str, device.config.element_bytes))
        raise InputError(f"element size: found {element_bytes} bytes, allowed: {allowed}")
    run = run_program(device, gemv_program(device, rows, columns, element_bytes))
    stacks, lanes = device.config.stacks, device.geometry.access_bytes / element_bytes
    macs = float(rows) * columns
    result = make_result(device, run, device.config.program.mac, macs / stacks, macs / stacks, lanes, float(stacks))
    return result


def gemv_program(device: PimDevice, rows: int, columns: int, element_bytes: int) -> Program:
    """What one stack does; all channels the same, as full as the fullest."""
    program = device.config.program
    if not isinstance(program, GemvProgram):
        raise ConfigError(
            f"the program of {device.config.name!r} is {program.type!r}, a GEMV needs 'gemv'", key="program.type"
        )
    for name, value in (("rows", rows), ("columns", columns)):
        if not 1 <= value <= _MOST:
            raise InputError(f"{name}: found {value}, allowed: 1 to {_MOST}")
    units = device.config.requests[program.mac].banks
    passes = _ceil(rows, device.config.stacks * device.geometry.channels * units)
    bursts = _ceil(columns, device.geometry.access_bytes // element_bytes)
    room = device.geometry.rows * device.geometry.row_columns
    if passes * bursts > room:
        raise InfeasibleError(f"the matrix needs {passes * bursts} columns of every unit's bank, there are {room}")
    writer = _Writer(device, program)
    pieces = [min(program.operand_columns, bursts - start) for start in range(0, bursts, program.operand_columns)]
    if program.stationary == "operand":
        for piece in pieces:
            writer.load(piece)
            for _ in range(passes):
                writer.multiply(piece)
                writer.drain(1)
    else:
        for first in range(0, passes, program.accumulators):
            sums = min(program.accumulators, passes - first)
            for piece in pieces:
                writer.load(piece)
                writer.multiply(piece * sums)
            writer.drain(sums)
    return writer.builder.build()


class _Writer:
    """Puts the three steps into a program; the matrix is read column by column in the order of use."""

    def __init__(self, device: PimDevice, program: GemvProgram) -> None:
        self.builder = ProgramBuilder(device.geometry.channels)
        self.row_columns = device.geometry.row_columns
        self.mac, self.operands, self.result = map(device.command, (program.mac, program.operands, program.result))
        self.results_per_pass = program.results_per_pass
        self.column = 0

    def load(self, bursts: int) -> None:
        """A piece of the vector into the operand buffers."""
        self.builder.add(self.operands, count=bursts)
        self.builder.barrier()

    def multiply(self, columns: int) -> None:
        """So many columns of the matrix, cut where a DRAM row ends."""
        end = self.column + columns
        while self.column < end:
            count = min(self.row_columns - self.column % self.row_columns, end - self.column)
            self.builder.add(self.mac, row=self.column // self.row_columns, count=count)
            self.column += count
        self.builder.barrier()

    def drain(self, sums: int) -> None:
        """`sums` sums of every unit to the outside."""
        self.builder.add(self.result, count=sums * self.results_per_pass)
        self.builder.barrier()


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
