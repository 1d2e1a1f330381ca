"""One pass through the model, costed and scheduled: what a prefill or a decode step takes and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.model import Model
from archsim.execution.costing import CostedTask, Costing
from archsim.execution.tasks import OUTSIDE_LAYERS, Schedule, TaskTableBuilder
from archsim.mapping.plan import Compute, PimAttention, Plan, PlannedTask, Transfer, make_plan
from archsim.mapping.spill import add_fetch
from archsim.results import OperatorResult
from archsim.workload import build_graph
from archsim.workload.operator import Phase

ROUNDING = 1e-5


@dataclass(frozen=True)
class Step:
    """A scheduled pass.

    tasks      what ran; `planned.repeat` is the number of runs
    exposed_s  (tasks,) seconds of the pass each accounts for, over all its runs
    idle_s     seconds in which nothing ran
    schedule   of one layer, or of the whole pass if layers overlap; None under the closed-form overlap model
    """

    tasks: tuple[CostedTask, ...]
    exposed_s: NDArray[np.float64]
    idle_s: float
    schedule: Schedule | None

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
            runs, seconds = task.planned.repeat, task.seconds * task.planned.repeat
            if abs(seconds - exposed) <= ROUNDING * seconds:
                seconds = float(exposed)  # nothing is hidden: the scheduler's whole picoseconds make the difference
            rows.append(
                OperatorResult(
                    phase=phase, name=task.planned.name, unit=task.unit, count=runs, seconds=seconds,
                    joules=task.joules * runs, flop=task.flop * runs, bytes=task.bytes * runs, bound=task.bound,
                    overlap_s=seconds - float(exposed),
                )
            )  # fmt: skip
        return rows


def simulate_pass(
    costing: Costing, model: Model, phase: Phase, batch: int, new_tokens: int, context_tokens: int, logits: bool = True
) -> Step:
    """One pass of `batch` equal requests through the model.

    Data-parallel groups and sub-batches share the batch out evenly; the largest share is timed. Layers follow one
    another, so a pass through layers with and without an attention window is the weighted mean of two of one kind.
    """

    def run(window: int | None) -> Step:
        plan, parts = _planned(costing, model, phase, batch, new_tokens, context_tokens, logits, window)
        return run_step(plan, costing.cost(plan), parts)

    share = model.windowed_layers / model.layers
    if model.attention_window is None or context_tokens <= model.attention_window:
        return run(None)
    if share == 1.0:
        return run(model.attention_window)
    return mean_step([run(None), run(model.attention_window)], np.array([1.0 - share, share]))


def _planned(
    costing: Costing,
    model: Model,
    phase: Phase,
    batch: int,
    new_tokens: int,
    context_tokens: int,
    logits: bool = True,
    window: int | None = None,
) -> tuple[Plan, int]:
    """The plan of one share of a pass, and how many sub-batches run it."""
    system = costing.system
    slips = system.mapping.reference_slips
    parts = min(system.mapping.sub_batches, batch) if phase == "decode" else 1
    graph = build_graph(
        model, phase, -(-batch // (system.mapping.data_parallel * parts)), new_tokens, context_tokens,
        logits=logits and not slips, embedding=not slips, fuse_gate=not slips, window=window,
    )  # fmt: skip
    plan = make_plan(system, model, graph)
    add_fetch(plan, costing.spill, -(-batch // system.mapping.data_parallel), context_tokens)
    return plan, parts


def simulate_shared_launch(costing: Costing, model: Model, new_tokens: int, decodes: int, context_tokens: int) -> Step:
    """A prefill of one prompt whose attention launches also hold `decodes` requests that attend to `context_tokens`."""
    plan, _ = _planned(costing, model, "prefill", 1, new_tokens, new_tokens, logits=False)
    own = -(-decodes // costing.system.mapping.data_parallel)
    plan.tasks = [_joined(task, own, context_tokens) for task in plan.tasks]
    return run_step(plan, costing.cost(plan))


def _joined(task: PlannedTask, decodes: int, context_tokens: int) -> PlannedTask:
    work = task.work
    if not isinstance(work, Compute) or work.operation.kind != "attention":
        return task
    operation = replace(work.operation, decodes=decodes, decode_tokens=float(context_tokens))
    return replace(task, work=replace(work, operation=operation))


class DecodeSteps:
    """Decode steps of one batch at any KV length, for machines that attend in memory and spill nothing.

    There the length is in the attention program alone, so everything else is planned and costed once.
    """

    def __init__(self, costing: Costing, model: Model, batch: int) -> None:
        self._costing = costing
        self._plan, self._parts = _planned(costing, model, "decode", batch, 1, 1)
        self._tasks = [None if isinstance(task.work, PimAttention) else costing.task(task) for task in self._plan.tasks]

    def at(self, context_tokens: int) -> Step:
        """The step that attends to `context_tokens` tokens; equals `simulate_pass`."""
        tasks = [
            known or self._costing.task(_longer(task, context_tokens))
            for task, known in zip(self._plan.tasks, self._tasks, strict=True)
        ]
        return run_step(self._plan, tasks, self._parts)


def _longer(task: PlannedTask, context_tokens: int) -> PlannedTask:
    """A planned attention over one token, made one over `context_tokens`."""
    work = task.work
    assert isinstance(work, PimAttention)
    return replace(task, work=replace(work, context_tokens=context_tokens, flop=work.flop * context_tokens))


def run_step(plan: Plan, tasks: Sequence[CostedTask], parts: int = 1) -> Step:
    """Schedule the tasks of one pass of `parts` interleaved sub-batches (`tasks` are those of one of them).

    Without sub-batches the layers follow one another, so one is scheduled and counted `layers` times; what stands
    before and after the layers runs once.
    """
    if parts > 1:
        return _interleaved(plan, tasks, parts)
    inside = [index for index, task in enumerate(tasks) if task.planned.in_layer]
    exposed = np.array([task.seconds * task.planned.repeat for task in tasks])
    if plan.system.mapping.overlap_model == "closed-form" and plan.phase == "decode":
        exposed[inside] = _closed_form([tasks[index] for index in inside]) * plan.layers
        return Step(tuple(tasks), exposed, 0.0, None)
    builder = TaskTableBuilder()
    _add_layer(builder, tasks, inside, 0, {})
    schedule = builder.build().schedule()
    shares = schedule.exposed_s(len(tasks))
    exposed[inside] = shares[inside] * plan.layers
    return Step(tuple(tasks), exposed, float(shares[-1]) * plan.layers, schedule)


def _interleaved(plan: Plan, tasks: Sequence[CostedTask], parts: int) -> Step:
    """Sub-batches run the whole model side by side: one computes its layer while another attends."""
    builder = TaskTableBuilder()
    inside = [index for index, task in enumerate(tasks) if task.planned.in_layer]
    before = [index for index in range(len(tasks)) if index < inside[0]]
    after = [index for index in range(len(tasks)) if index > inside[-1]]
    reached: list[dict[str, list[int]]] = [{} for _ in range(parts)]
    for ends in reached:
        _add_layer(builder, tasks, before, OUTSIDE_LAYERS, ends)
    for layer in range(plan.layers):
        for ends in reached:
            _add_layer(builder, tasks, inside, layer, ends)
    for ends in reached:
        _add_layer(builder, tasks, after, OUTSIDE_LAYERS, ends)
    schedule = builder.build().schedule()
    shares = schedule.exposed_s(len(tasks))
    planned = [replace(task.planned, repeat=task.planned.repeat * parts) for task in tasks]
    counted = tuple(replace(task, planned=more) for task, more in zip(tasks, planned, strict=True))
    return Step(counted, shares[:-1], float(shares[-1]), schedule)


def _add_layer(
    builder: TaskTableBuilder,
    tasks: Sequence[CostedTask],
    chosen: Sequence[int],
    layer: int,
    ends: dict[str, list[int]],
) -> None:
    """Add one run of the chosen tasks; `ends` maps planned names to the parts that must have ended, and is updated.

    The first chosen task also waits for what was last added under the same `ends` (the layer before).
    """
    last = ends.get("", [])
    for index in chosen:
        planned = tasks[index].planned
        before = [ends[name] for name in planned.after if name in ends] if index != chosen[0] else [last]
        numbers = []
        for part in range(planned.heads):
            # head-level parts wait for their own head only; whole tasks wait for every part
            after = [n for done in before for n in ([done[part]] if len(done) == planned.heads > 1 else done)]
            seconds = tasks[index].seconds / planned.heads
            numbers.append(builder.add(planned.resource, seconds, index, after, layer))
        ends[planned.name] = ends[""] = numbers


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
    middle = steps[len(steps) // 2].schedule
    return Step(tuple(tasks), exposed, _mean(weights, [step.idle_s for step in steps]), middle)


def _mean(weights: NDArray[np.float64], values: list[float]) -> float:
    return float(np.dot(weights, values))
