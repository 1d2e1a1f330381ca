"""Time, energy and traffic of every task of a plan, from the cycle models below."""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsim.config.schemas.system import System
from archsim.execution.attention import AttentionModel, simulated_attention
from archsim.execution.coprocessing import coprocess
from archsim.execution.launch import in_graph, launched, launches_s, step_fixed_s
from archsim.execution.processors import time_on
from archsim.mapping.plan import (
    AllReduce,
    Compute,
    Coprocessed,
    Framework,
    PimAttention,
    Plan,
    PlannedTask,
    Transfer,
    timed_by_kernels,
)
from archsim.mapping.spill import NO_SPILL, Spill
from archsim.network.collectives import Caller, all_reduce_joules, all_reduce_seconds, transfer_joules, transfer_seconds


@dataclass(frozen=True)
class CostedTask:
    """One run of a planned task: seconds on its resource; energy, FLOP and bytes over all devices."""

    planned: PlannedTask
    unit: str
    seconds: float
    energy_j: dict[str, float]
    flop: float
    bytes: float
    bound: str
    pim_share: float = 0.0  # of a co-processed operator's weights
    uncounted_s: float = 0.0  # hides other work but is not counted, see AttentionCost

    @property
    def joules(self) -> float:
        """All components together."""
        return sum(self.energy_j.values())


@dataclass(frozen=True)
class Costing:
    """How tasks are timed on a system.

    attention         model of fused attention in memory; a validation run may put measured times here
    spill             what lies in a memory tier
    coprocess_limit   largest share of the feed-forward weights the memory has room for
    """

    system: System
    attention: AttentionModel
    coprocess_limit: float = 1.0
    spill: Spill = NO_SPILL

    @classmethod
    def of(cls, system: System, coprocess_limit: float = 1.0) -> Costing:
        """The simulator's own models."""
        return cls(system, simulated_attention, coprocess_limit)

    def cost(self, plan: Plan) -> list[CostedTask]:
        """Every task of a plan, in its order."""
        costed = [self.task(task) for task in plan.tasks]
        device_s = sum(t.seconds * t.planned.repeat for t in costed if not isinstance(t.planned.work, Framework))
        return [
            self._framework(one.planned, one.planned.work, device_s) if isinstance(one.planned.work, Framework) else one
            for one in costed
        ]

    def task(self, task: PlannedTask) -> CostedTask:
        """One task of a plan."""
        work = task.work
        if isinstance(work, Compute):
            return self._compute(task, work)
        if isinstance(work, PimAttention):
            return self._attention(task, work)
        if isinstance(work, Coprocessed):
            return self._coprocessed(task, work)
        if isinstance(work, Framework):
            return self._framework(task, work)
        return self._moved(task, work)

    def _compute(self, task: PlannedTask, work: Compute) -> CostedTask:
        unit = self.system.units[work.unit]
        assert unit.type != "pim" and unit.type != "neupims" and unit.type != "memory"  # noqa: PT018  (see the plan)
        if unit.type == "gpu" and timed_by_kernels(self.system, work.unit):
            found = launched(unit.device, unit.launch, work.operation)
        else:
            found = time_on(unit.device, work.operation)
        energy = {f"{work.unit}.{part}": joules * work.devices for part, joules in found.energy_j.items()}
        flop, moved = (work.operation.flop or found.flop) * work.devices, found.bytes * work.devices
        return CostedTask(task, work.unit, found.seconds, energy, flop, moved, found.bound)

    def _framework(self, task: PlannedTask, work: Framework, device_s: float = math.inf) -> CostedTask:
        """Host work around a pass, and the time for which a device that needs `device_s` waits for its launches."""
        unit = self.system.units[work.unit]
        assert unit.type == "gpu"
        waited_s = max(0.0, launches_s(unit.launch, work.prompt_layers, work.tokens) - device_s)
        seconds = step_fixed_s(unit.launch, work.requests) + waited_s
        power = unit.device.power
        energy = {} if power is None else {f"{work.unit}.base": power.base * seconds * unit.count}
        return CostedTask(task, work.unit, seconds, energy, 0.0, 0.0, "launch")

    def _attention(self, task: PlannedTask, work: PimAttention) -> CostedTask:
        unit = self.system.units[work.unit]
        assert unit.type == "pim" or unit.type == "neupims"
        found = self.attention(unit.device, work)
        energy = {f"{work.unit}.{part}": joules * work.devices for part, joules in found.energy_j.items()}
        moved = (
            2.0 * work.heads_per_device * work.context_tokens * work.head_size * work.kv_element_bytes * work.devices
        )
        seconds, uncounted_s = found.seconds, found.uncounted_s
        return CostedTask(task, work.unit, seconds, energy, work.flop, moved, found.bound, uncounted_s=uncounted_s)

    def _coprocessed(self, task: PlannedTask, work: Coprocessed) -> CostedTask:
        alone = self._compute(task, work.compute)
        pim, unit = self.system.units[work.pim_unit], self.system.units[work.compute.unit]
        assert pim.type == "pim"
        assert unit.type != "pim" and unit.type != "neupims" and unit.type != "memory"  # noqa: PT018  (see the plan)
        slips = self.system.mapping.reference_slips
        share, seconds, pim_energy = coprocess(
            unit.device,
            pim.device,
            work,
            alone.seconds,
            alone.bound,
            self.coprocess_limit,
            slips,
        )
        if slips:
            return CostedTask(task, alone.unit, seconds, alone.energy_j, alone.flop, alone.bytes, alone.bound, share)
        energy = {part: joules * (1.0 - share) for part, joules in alone.energy_j.items()}
        energy |= {f"{work.pim_unit}.{part}": joules * work.pim_devices for part, joules in pim_energy.items()}
        name = f"{alone.unit}+{work.pim_unit}" if share > 0 else alone.unit
        return CostedTask(task, name, seconds, energy, alone.flop, alone.bytes * (1.0 - share), alone.bound, share)

    @property
    def _caller(self) -> Caller:
        """Collectives inside a captured graph may use the framework's own kernels."""
        unit = self.system.units[self.system.mapping.main]
        kernels = unit.type == "gpu" and unit.device.timing.model == "kernels"
        return "graph" if unit.type == "gpu" and kernels and in_graph(unit.launch) else "library"

    @property
    def _all_reduce_floor(self) -> float:
        unit = self.system.units[self.system.mapping.main]
        return unit.launch.all_reduce_floor if unit.type == "gpu" else 1.0

    def _moved(self, task: PlannedTask, work: AllReduce | Transfer) -> CostedTask:
        link = self.system.connections[work.connection].link
        if isinstance(work, AllReduce):
            seconds = all_reduce_seconds(link, work.ranks, work.bytes, self._caller, self._all_reduce_floor)
            joules = all_reduce_joules(link, work.ranks, work.bytes) * work.groups
            moved = work.bytes * work.ranks * work.groups
        elif work.memory is not None:
            return self._read(task, work, work.memory)
        else:
            seconds = transfer_seconds(link, work.bytes_per_link)
            joules = transfer_joules(link, work.bytes_per_link) * work.links
            moved = work.bytes_per_link * work.links
        return CostedTask(task, work.connection, seconds, {f"{work.connection}.link": joules}, 0.0, moved, "link")

    def _read(self, task: PlannedTask, work: Transfer, tier: str) -> CostedTask:
        """Data of a memory tier, loaded over the link; its DRAM may be slower than the links together."""
        link, unit = self.system.connections[work.connection].link, self.system.units[tier]
        assert unit.type == "memory"
        moved = work.bytes_per_link * work.links
        loads = 1.0 if link.flit is not None else None  # a link without flits brings them in bulk
        link_s = transfer_seconds(link, work.bytes_per_link, loads)
        memory_s = moved / (unit.device.memory_bandwidth_bytes_per_s * unit.count)
        energy = {f"{work.connection}.link": transfer_joules(link, work.bytes_per_link) * work.links}
        per_bit = unit.device.memory.energy_per_bit
        if per_bit is not None:
            energy[f"{tier}.dram"] = moved * 8.0 * per_bit.read_pj_per_bit * 1e-12
        bound = "memory" if memory_s > link_s else "link"
        return CostedTask(task, work.connection, max(link_s, memory_s), energy, 0.0, moved, bound)
