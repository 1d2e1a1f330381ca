"""One pass through the model, costed and scheduled: what a prefill or a decode step takes and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.model import Model
from archsim.execution.costing import CostedTask, Costing
from archsim.execution.tasks import Schedule, TaskTableBuilder
from archsim.mapping.plan import PimAttention, Plan, Transfer, make_plan
from archsim.results import OperatorResult
from archsim.workload import build_graph
from archsim.workload.operator import Phase


@dataclass(frozen=True)
class Step:
    """A scheduled pass.

    tasks      what ran, one entry a layer's task (`planned.repeat` runs) or an outside task (1 run)
    exposed_s  (tasks,) seconds of the pass each accounts for, over all its runs
    idle_s     seconds in which nothing ran
    layer      schedule of one layer, for the timeline (task numbers are positions in `tasks`)
    """

    tasks: tuple[CostedTask, ...]
    exposed_s: NDArray[np.float64]
    idle_s: float
    layer: Schedule | None

    @property
    def seconds(self) -> float:
        """The whole pass."""
        return float(self.exposed_s.sum()) + self.idle_s

    @property
    def joules(self) -> float:
        """Energy of the whole pass."""
        return sum(task.joules * task.planned.repeat for task in self.tasks)

    def operators(self, phase: str) -> list[OperatorResult]:
        """One row a task, totals over its runs; seconds - overlap_s adds up to the pass."""
        rows = []
        for task, exposed in zip(self.tasks, self.exposed_s, strict=True):
            runs = task.planned.repeat
            rows.append(
                OperatorResult(
                    phase=phase, name=task.planned.name, unit=task.unit, count=runs, seconds=task.seconds * runs,
                    joules=task.joules * runs, flop=task.flop * runs, bytes=task.bytes * runs, bound=task.bound,
                    overlap_s=task.seconds * runs - float(exposed),
                )
            )  # fmt: skip
        return rows


def simulate_pass(
    costing: Costing, model: Model, phase: Phase, batch: int, new_tokens: int, context_tokens: int, logits: bool = True
) -> Step:
    """One pass of `batch` equal requests through the model; data-parallel groups share the batch out evenly."""
    system = costing.system
    slips = system.mapping.reference_slips
    graph = build_graph(
        model, phase, -(-batch // system.mapping.data_parallel), new_tokens, context_tokens,
        logits=logits and not slips, embedding=not slips, fuse_gate=not slips,
    )  # fmt: skip
    plan = make_plan(system, model, graph)
    return run_step(plan, costing.cost(plan))


def run_step(plan: Plan, tasks: Sequence[CostedTask]) -> Step:
    """Schedule the tasks of one pass.

    The layers follow one another, so one is scheduled and counted `layers` times; what stands before and after the
    layers runs once.
    """
    inside = [index for index, task in enumerate(tasks) if task.planned.repeat == plan.layers]
    exposed = np.array([task.seconds * task.planned.repeat for task in tasks])
    if plan.system.mapping.overlap_model == "closed-form" and plan.phase == "decode":
        exposed[inside] = _closed_form([tasks[index] for index in inside]) * plan.layers
        return Step(tuple(tasks), exposed, 0.0, None)
    schedule = _schedule_layer(tasks, inside)
    shares = schedule.exposed_s(len(tasks))
    exposed[inside] = shares[inside] * plan.layers
    return Step(tuple(tasks), exposed, float(shares[-1]) * plan.layers, schedule)


def _schedule_layer(tasks: Sequence[CostedTask], inside: Sequence[int]) -> Schedule:
    builder = TaskTableBuilder()
    parts: dict[str, list[int]] = {}
    for index in inside:
        planned = tasks[index].planned
        before = [parts[name] for name in planned.after if name in parts]
        numbers = []
        for part in range(planned.heads):
            # head-level parts wait for their own head only; whole tasks wait for every part
            after = [n for ends in before for n in ([ends[part]] if len(ends) == planned.heads > 1 else ends)]
            seconds = tasks[index].seconds / planned.heads
            numbers.append(builder.add(planned.resource, seconds, index, after))
        parts[planned.name] = numbers
    return builder.build().schedule()


def _closed_form(tasks: Sequence[CostedTask]) -> NDArray[np.float64]:
    """AttAcc's head-level pipelining: the longest stage in full, of every other stage one head.

    Stages are attention, the transfers to and from it, and (full pipelining) qkv with the output projection.
    """
    seconds = np.array([task.seconds for task in tasks])
    stages: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        if task.planned.heads > 1:
            stages.setdefault(_stage(task), []).append(index)
    if not stages:
        return seconds
    share = 1.0 / max(task.planned.heads for task in tasks)
    uncounted = np.array([task.uncounted_s for task in tasks])
    longest = max(stages, key=lambda stage: float((seconds + uncounted)[stages[stage]].sum()))
    if longest != "attention":
        members = stages[longest]
        seconds[members] *= 1.0 - uncounted.sum() * (1.0 - share) / seconds[members].sum()
    for stage, members in stages.items():
        if stage != longest:
            seconds[members] *= share
    return seconds


def _stage(task: CostedTask) -> str:
    if isinstance(task.planned.work, PimAttention):
        return "attention"
    return "transfer" if isinstance(task.planned.work, Transfer) else "gemm"


def mean_step(steps: Sequence[Step], weights: NDArray[np.float64]) -> Step:
    """The weighted mean of passes that run the same tasks (weights add up to one)."""
    tasks = []
    for position, first in enumerate(steps[0].tasks):
        column = [step.tasks[position] for step in steps]
        energy = {
            part: float(sum(w * task.energy_j.get(part, 0.0) for w, task in zip(weights, column, strict=True)))
            for part in first.energy_j
        }
        bounds: dict[str, float] = {}
        for weight, task in zip(weights, column, strict=True):
            bounds[task.bound] = bounds.get(task.bound, 0.0) + weight * task.seconds
        tasks.append(
            CostedTask(
                first.planned, first.unit, _mean(weights, [task.seconds for task in column]), energy,
                _mean(weights, [task.flop for task in column]), _mean(weights, [task.bytes for task in column]),
                max(bounds, key=lambda bound: bounds[bound]), _mean(weights, [task.pim_share for task in column]),
            )
        )  # fmt: skip
    exposed = np.array([step.exposed_s for step in steps]).T @ weights
    middle = steps[len(steps) // 2].layer
    return Step(tuple(tasks), exposed, _mean(weights, [step.idle_s for step in steps]), middle)


def _mean(weights: NDArray[np.float64], values: list[float]) -> float:
    return float(np.dot(weights, values))
