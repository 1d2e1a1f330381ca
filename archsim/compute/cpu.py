"""CPU operator times: the tiled roofline, usually without the occupancy factor."""

from __future__ import annotations

from archsim.compute import tiled_roofline
from archsim.compute.operation import Operation, OperationCost
from archsim.config.schemas.cpu import Cpu


def time_operation(cpu: Cpu, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one socket."""
    return tiled_roofline.time_operation(cpu, op)
