"""Tiles inside the operators of an evaluation's timeline: what NPU units load, compute and store when."""

from __future__ import annotations

from collections.abc import Callable

from archsim.config.schemas.system import System
from archsim.mapping.plan import Compute, PlannedTask
from archsim.results import Timeline

MOST_TILES = 1000  # of an operator that are shown, from its start


def tiles_of(system: System) -> Callable[[PlannedTask], Timeline | None]:
    """A function that lists the tiles of a planned task from time 0; None where it does not run on an NPU."""

    def tiles(task: PlannedTask) -> Timeline | None:
        work = task.work
        if not isinstance(work, Compute):
            return None
        unit = system.units[work.unit]
        if unit.type != "npu":
            return None
        from archsim.compute.npu.operators import solve_operation  # compiled kernels: only NPUs load them
        from archsim.execution.npu.memory import npu_engine
        from archsim.execution.npu.program import product_timeline

        return product_timeline(solve_operation(npu_engine(unit.device), work.operation), MOST_TILES)

    return tiles
