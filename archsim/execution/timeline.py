"""The timeline of a prefill and of one decode step, every layer laid out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.execution.step import Step
from archsim.execution.tasks import OUTSIDE_LAYERS, PS_PER_S, Schedule
from archsim.mapping.plan import PlannedTask
from archsim.results import Timeline


@dataclass
class _Columns:
    name: list[str] = field(default_factory=list)
    resource: list[str] = field(default_factory=list)
    phase: list[str] = field(default_factory=list)
    layer: list[NDArray[np.int64]] = field(default_factory=list)
    start_s: list[NDArray[np.float64]] = field(default_factory=list)
    end_s: list[NDArray[np.float64]] = field(default_factory=list)

    def add(
        self,
        names: list[str],
        resources: list[str],
        phase: str,
        layer: NDArray[np.int64],
        spans: NDArray[np.float64],
    ) -> None:
        """`layer` (tasks,); `spans` (tasks, 2): start and end in seconds."""
        self.name += names
        self.resource += resources
        self.phase += [phase] * len(names)
        self.layer.append(layer)
        self.start_s.append(spans[:, 0])
        self.end_s.append(spans[:, 1])


Tiles = Callable[[PlannedTask], Timeline | None]


def make_timeline(prefill: Step, decode: Step | None, layers: int, tiles: Tiles | None = None) -> Timeline:
    """Prefill from time 0, then one decode step at the middle of the sampled KV lengths.

    tiles  what happens inside a task, shown for the first layer and outside the layers on tracks of their own
    """
    columns = _Columns()
    end_s = _lay_out(columns, prefill, "prefill", layers, 0.0)
    if decode is not None:
        _lay_out(columns, decode, "decode", layers, end_s)
    if tiles is not None:
        for phase, step in (("prefill", prefill), ("decode", decode)):
            if step is not None:
                _add_tiles(columns, step, phase, tiles)
    return Timeline(
        name=tuple(columns.name),
        resource=tuple(columns.resource),
        phase=tuple(columns.phase),
        layer=np.concatenate(columns.layer),
        start_s=np.concatenate(columns.start_s),
        end_s=np.concatenate(columns.end_s),
    )


def _lay_out(columns: _Columns, step: Step, phase: str, layers: int, start_s: float) -> float:
    """Outside tasks run where the graph has them: before the first in-layer task, or after the last layer."""
    if step.schedule is not None and (step.schedule.table.rows["layer"] != 0).any():
        return _whole(columns, step, step.schedule, phase, start_s)
    inside = [index for index, task in enumerate(step.tasks) if task.planned.in_layer]
    names, resources, spans = _one_layer(step, inside)
    for index in range(min(inside)):
        start_s = _serial(columns, step, index, phase, start_s)
    for layer in range(layers):
        columns.add(names, resources, phase, np.full(len(names), layer), spans + start_s)
        start_s += float(spans[:, 1].max())
    for index in range(max(inside) + 1, len(step.tasks)):
        start_s = _serial(columns, step, index, phase, start_s)
    return start_s


def _whole(columns: _Columns, step: Step, schedule: Schedule, phase: str, start_s: float) -> float:
    names, resources, spans = _scheduled(step, schedule)
    columns.add(names, resources, phase, schedule.table.rows["layer"], spans + start_s)
    return start_s + float(spans[:, 1].max())


def _serial(columns: _Columns, step: Step, index: int, phase: str, start_s: float) -> float:
    task = step.tasks[index]
    end_s = start_s + task.seconds
    outside = np.array([OUTSIDE_LAYERS])
    columns.add([task.planned.name], [task.planned.resource], phase, outside, np.array([[start_s, end_s]]))
    return end_s


def _one_layer(step: Step, inside: list[int]) -> tuple[list[str], list[str], NDArray[np.float64]]:
    if step.schedule is not None:
        return _scheduled(step, step.schedule)
    # closed-form overlap: what is exposed, one after the other
    ends = np.cumsum(step.exposed_s[inside] / step.tasks[inside[0]].planned.repeat)
    spans = np.column_stack([np.concatenate([[0.0], ends[:-1]]), ends])
    planned = [step.tasks[index].planned for index in inside]
    return [task.name for task in planned], [task.resource for task in planned], spans


def _scheduled(step: Step, schedule: Schedule) -> tuple[list[str], list[str], NDArray[np.float64]]:
    rows = schedule.table.rows
    names = [step.tasks[int(i)].planned.name for i in rows["operator"]]
    resources = [schedule.table.resources[int(i)] for i in rows["resource"]]
    return names, resources, np.column_stack([schedule.start_ps, schedule.end_ps]) / PS_PER_S


def _add_tiles(columns: _Columns, step: Step, phase: str, tiles: Tiles) -> None:
    """Tiles of the first run of every task, stretched to its slice where they are complete.

    They fit but for the sampled lengths: a mean decode step keeps the operations of its first sample.
    """
    layer = np.concatenate(columns.layer)
    start_s, end_s = np.concatenate(columns.start_s), np.concatenate(columns.end_s)
    first: dict[str, int] = {}
    for index, name in enumerate(columns.name):
        if columns.phase[index] == phase and layer[index] <= 0:
            first.setdefault(name, index)
    for task in step.tasks:
        at = first.get(task.planned.name)
        inside = tiles(task.planned) if at is not None else None
        if at is None or inside is None:
            continue
        stretch = min(1.0, (end_s[at] - start_s[at]) / inside.end_s.max())
        spans = np.column_stack([inside.start_s, inside.end_s]) * stretch + start_s[at]
        names = [f"{task.planned.name} {name.partition(' ')[2]}" for name in inside.name]
        resources = [f"{columns.resource[at]}.{resource}" for resource in inside.resource]
        columns.add(names, resources, phase, np.full(len(names), layer[at]), spans)
