"""One transformer layer on one NPU, as a program; and a single product with everything known about it."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from archsim.compute.npu.operators import Solution, energy_j, solve_operation
from archsim.compute.npu.product import ANY, Engine, Freedom, Product
from archsim.compute.operation import Operation
from archsim.config.schemas.model import Model
from archsim.config.schemas.npu import Npu
from archsim.config.schemas.system import Mapping, NpuUnit, System
from archsim.execution.npu.memory import npu_engine
from archsim.execution.npu.program import Program, program_timeline
from archsim.execution.tasks import PS_PER_S, Schedule
from archsim.mapping.plan import Compute, make_plan
from archsim.mapping.shard import shard
from archsim.results import Timeline
from archsim.workload import build_graph, operators
from archsim.workload.onnx_import import OnnxWorkload
from archsim.workload.operator import Phase


@dataclass(frozen=True)
class LayerOperator:
    """An operation of a layer: alone it takes `solution.seconds`; in the program it ends `end_s` after the start."""

    name: str
    solution: Solution
    energy_j: dict[str, float]
    end_s: float


@dataclass(frozen=True)
class LayerResult:
    """A layer run as one program.

    seconds      makespan of the program; `alone_s` is the sum of its operations run one by one
    busy_s       unit -> seconds
    """

    npu: str
    model: str
    phase: str
    batch: int
    new_tokens: int
    context_tokens: int
    seconds: float
    alone_s: float
    busy_s: dict[str, float]
    operators: tuple[LayerOperator, ...]
    timeline: Timeline

    @property
    def energy_j(self) -> dict[str, float]:
        """Component -> J."""
        total: dict[str, float] = {}
        for operator in self.operators:
            for part, joules in operator.energy_j.items():
                total[part] = total.get(part, 0.0) + joules
        return total


def simulate_npu_product(npu: Npu, op: Operation, freedom: Freedom = ANY) -> tuple[Engine, Product]:
    """The best tiling of a matrix product on the device with its memory path.

    Raises InfeasibleError if no tile fits the on-chip memories, UsageError for bad sizes or names.
    """
    engine = npu_engine(npu)
    return engine, engine.product(op, freedom)


def simulate_npu_operation(npu: Npu, op: Operation) -> tuple[Engine, Solution]:
    """Any operation on the device with its memory path."""
    engine = npu_engine(npu)
    return engine, solve_operation(engine, op)


def simulate_npu_layer(
    npu: Npu, model: Model, phase: Phase, batch: int, new_tokens: int, context_tokens: int
) -> LayerResult:
    """One layer of `model` on one `npu` (no tensor parallelism), tile by tile.

    phase           prefill or decode
    context_tokens  keys each request attends to, the new tokens included
    """
    graph = build_graph(model, phase, batch, new_tokens, context_tokens, logits=False, embedding=False)
    return _run(npu, graph, layer_operations(npu, model, graph))


def simulate_npu_graph(npu: Npu, workload: OnnxWorkload) -> LayerResult:
    """One pass of an ONNX model on one `npu`, tile by tile, its operators one after the other as they stand there."""
    every = operators(workload.graph)
    return _run(npu, workload.graph, [(one.name, shard(one, 1, one.count)) for one in every])


def _run(npu: Npu, graph: nx.DiGraph[str], operations: list[tuple[str, Operation]]) -> LayerResult:
    engine, program = npu_engine(npu), Program()
    found = [(name, solve_operation(engine, op)) for name, op in operations]
    for name, solution in found:
        program.add(name, solution, weights_ahead=solution.op.kind == "gemm")
    schedule = program.schedule()
    rows = tuple(
        LayerOperator(name, solution, energy_j(engine, solution), _end_s(schedule, index))
        for index, (name, solution) in enumerate(found)
    )
    about = graph.graph
    return LayerResult(
        npu.name, about["model"], about["phase"], about["batch"], about["new_tokens"], about["context_tokens"],
        schedule.makespan_s, sum(solution.seconds for _, solution in found), busy_s(schedule), rows,
        program_timeline(program, schedule, about["phase"]),
    )  # fmt: skip


def layer_operations(npu: Npu, model: Model, graph: nx.DiGraph[str]) -> list[tuple[str, Operation]]:
    """(name, operation) of one layer on one device, fused as the device's description allows."""
    # a machine of this device alone; nobody asks what it costs
    system = System.model_construct(  # type: ignore[call-arg]
        name=npu.name, units={"npu": NpuUnit(type="npu", count=1, device=npu)}, connections={},
        mapping=Mapping(main="npu"),
    )  # fmt: skip
    plan = make_plan(system, model, graph)
    return [(task.name, task.work.operation) for task in plan.tasks if task.in_layer and isinstance(task.work, Compute)]


def _end_s(schedule: Schedule, operator: int) -> float:
    own = schedule.table.rows["operator"] == operator
    return float(schedule.end_ps[own].max()) / PS_PER_S


def busy_s(schedule: Schedule) -> dict[str, float]:
    """Busy seconds of every unit of a program."""
    rows = schedule.table.rows
    busy = np.bincount(rows["resource"], rows["duration_ps"], minlength=len(schedule.table.resources)) / PS_PER_S
    return dict(zip(schedule.table.resources, busy.tolist(), strict=True))
