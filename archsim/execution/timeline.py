"""The timeline of a prefill and of one decode step, every layer laid out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.execution.step import Step
from archsim.execution.tasks import PS_PER_S
from archsim.results import Timeline


@dataclass
class _Columns:
    name: list[str] = field(default_factory=list)
    resource: list[str] = field(default_factory=list)
    phase: list[str] = field(default_factory=list)
    layer: list[NDArray[np.int64]] = field(default_factory=list)
    start_s: list[NDArray[np.float64]] = field(default_factory=list)
    end_s: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, names: list[str], resources: list[str], phase: str, layer: int, spans: NDArray[np.float64]) -> None:
        """`spans` (tasks, 2): start and end in seconds."""
        self.name += names
        self.resource += resources
        self.phase += [phase] * len(names)
        self.layer.append(np.full(len(names), layer, dtype=np.int64))
        self.start_s.append(spans[:, 0])
        self.end_s.append(spans[:, 1])


def make_timeline(prefill: Step, decode: Step | None, layers: int) -> Timeline:
    """Prefill from time 0, then one decode step at the middle of the sampled KV lengths."""
    columns = _Columns()
    end_s = _lay_out(columns, prefill, "prefill", layers, 0.0)
    if decode is not None:
        _lay_out(columns, decode, "decode", layers, end_s)
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
    inside = [index for index, task in enumerate(step.tasks) if task.planned.repeat == layers]
    names, resources, spans = _one_layer(step, inside)
    for index in range(min(inside)):
        start_s = _serial(columns, step, index, phase, start_s)
    for layer in range(layers):
        columns.add(names, resources, phase, layer, spans + start_s)
        start_s += float(spans[:, 1].max())
    for index in range(max(inside) + 1, len(step.tasks)):
        start_s = _serial(columns, step, index, phase, start_s)
    return start_s


def _serial(columns: _Columns, step: Step, index: int, phase: str, start_s: float) -> float:
    task = step.tasks[index]
    end_s = start_s + task.seconds
    columns.add([task.planned.name], [task.planned.resource], phase, -1, np.array([[start_s, end_s]]))
    return end_s


def _one_layer(step: Step, inside: list[int]) -> tuple[list[str], list[str], NDArray[np.float64]]:
    if step.layer is None:  # closed-form overlap: what is exposed, one after the other
        runs = step.tasks[inside[0]].planned.repeat
        ends = np.cumsum(step.exposed_s[inside] / runs)
        spans = np.column_stack([np.concatenate([[0.0], ends[:-1]]), ends])
        return (
            [step.tasks[i].planned.name for i in inside],
            [step.tasks[i].planned.resource for i in inside],
            spans,
        )
    rows = step.layer.table.rows
    names = [step.tasks[int(i)].planned.name for i in rows["operator"]]
    resources = [step.layer.table.resources[int(i)] for i in rows["resource"]]
    spans = np.column_stack([step.layer.start_ps, step.layer.end_ps]) / PS_PER_S
    return names, resources, spans
