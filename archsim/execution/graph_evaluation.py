"""One pass of an operator graph that is no transformer preset (an ONNX file) on the main unit of a machine.

Every device of the main unit runs its own copy of the graph with its own input: nothing is split over devices, and
memories that compute have no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from archsim import __version__
from archsim.config.schemas.system import System
from archsim.errors import InfeasibleError
from archsim.execution.costing import CostedTask
from archsim.execution.processors import time_on
from archsim.execution.step import Step
from archsim.execution.tasks import TaskTableBuilder
from archsim.execution.timeline import make_timeline
from archsim.mapping.capacity import device_capacity_bytes
from archsim.mapping.plan import Compute, PlannedTask
from archsim.mapping.shard import shard
from archsim.results import Capacity, Cost, Energy, Latency, Report, Request, Throughput, UnitCapacity
from archsim.units import format_bytes
from archsim.workload.onnx_import import OnnxWorkload
from archsim.workload.operator import Operator


@dataclass(frozen=True)
class GraphEvaluation:
    """The parts of one evaluation; the pass is computed once, on first use."""

    system: System
    workload: OnnxWorkload

    @property
    def copies(self) -> int:
        """Devices of the main unit."""
        return self.system.units[self.system.mapping.main].count

    @property
    def tokens(self) -> int:
        """Tokens all copies read in one pass; samples, for inputs without tokens."""
        return self.copies * self.workload.batch * self.workload.tokens

    @cached_property
    def step(self) -> Step:
        """The pass, operators in the order their data allows."""
        builder = TaskTableBuilder()
        tasks: list[CostedTask] = []
        numbers: dict[str, int] = {}
        graph = self.workload.graph
        for index, name in enumerate(graph):
            before = tuple(graph.predecessors(name))
            tasks.append(self._task(graph.nodes[name]["operator"], before))
            after = [numbers[maker] for maker in before]
            numbers[name] = builder.add(tasks[-1].planned.resource, tasks[-1].seconds, index, after, 0)
        schedule = builder.build().schedule()
        shares = schedule.exposed_s(len(tasks))
        return Step(tuple(tasks), np.asarray(shares[:-1]), float(shares[-1]), schedule)

    def _task(self, operator: Operator, before: tuple[str, ...]) -> CostedTask:
        main = self.system.mapping.main
        unit = self.system.units[main]
        work = Compute(main, shard(operator, 1, operator.count), self.copies)
        assert unit.type != "pim"
        assert unit.type != "neupims"  # a memory is never the main unit
        found = time_on(unit.device, work.operation)
        energy = {f"{main}.{part}": joules * self.copies for part, joules in found.energy_j.items()}
        planned = PlannedTask(operator.name, main, work, 1, before)
        flop, moved = work.operation.flop * self.copies, found.bytes * self.copies
        return CostedTask(planned, main, found.seconds, energy, flop, moved, found.bound)

    @cached_property
    def capacity(self) -> Capacity:
        """Memory of the main unit. Raises InfeasibleError if weights and activations do not fit a device."""
        main, workload = self.system.mapping.main, self.workload
        contents = {"weights": workload.weight_bytes, "activations": workload.activation_bytes}
        needed, there = sum(contents.values()), device_capacity_bytes(self.system.units[main])
        if needed > there:
            raise InfeasibleError(
                f"{self.system.name} cannot hold {workload.name}: a device of {main} needs {format_bytes(needed)} "
                f"(weights {format_bytes(contents['weights'])}, activations {format_bytes(contents['activations'])}) "
                f"but has {format_bytes(there)}"
            )
        held = {what: size * self.copies for what, size in contents.items()}
        unit = UnitCapacity(main, needed * self.copies, there * self.copies, held)
        return Capacity(unit.required_bytes, unit.available_bytes, True, self.copies * workload.batch, (unit,))

    def report(self, cost: Cost) -> Report:
        """Everything, as plain data: the pass stands as the prefill of requests that generate nothing."""
        step, workload, capacity = self.step, self.workload, self.capacity
        causes: dict[str, float] = {}
        components: dict[str, float] = {}
        for task, exposed in zip(step.tasks, step.exposed_s, strict=True):
            causes[task.bound] = causes.get(task.bound, 0.0) + float(exposed)
            for part, joules in task.energy_j.items():
                components[part] = components.get(part, 0.0) + joules
        if step.idle_s:
            causes["wait"] = step.idle_s
        seconds = step.seconds
        return Report(
            system=self.system.name,
            model=workload.name,
            request=Request(self.copies * workload.batch, workload.tokens, 1),
            latency=Latency(seconds, seconds, 0.0, seconds, {"prefill": causes}),
            throughput=Throughput(0.0, self.copies * workload.batch / seconds),
            energy=Energy(step.joules, 0.0, step.joules / self.tokens, components),
            capacity=capacity,
            cost=cost,
            operators=tuple(step.operators("prefill")),
            timeline=make_timeline(step, None, 1),
            configuration={"system": self.system.model_dump(mode="json"), "model": {"name": workload.name}},
            archsim_version=__version__,
        )
