"""The task table: rows of (duration, resource, urgency) with a precedence graph, and its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ArchsimError

PS_PER_S = 1e12
TASK_DTYPE = np.dtype(
    [("duration_ps", "<i8"), ("resource", "<i8"), ("priority", "<i8"), ("operator", "<i8"), ("layer", "<i8")]
)
OUTSIDE_LAYERS = -1


@dataclass
class TaskTableBuilder:
    """Collects tasks; `build` freezes them into arrays.

    >>> table = TaskTableBuilder()
    >>> first = table.add("gpu", 1e-6, operator=0)
    >>> second = table.add("link", 2e-6, operator=1, after=[first])
    """

    resources: list[str] = field(default_factory=list)
    _rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    _edges: list[tuple[int, int]] = field(default_factory=list)

    def add(self, resource: str, seconds: float, operator: int, after: Sequence[int] = (), layer: int = 0) -> int:
        """Add a task and return its number; `operator` says which operator it is a part of.

        Tasks added earlier are the more urgent ones.
        """
        if resource not in self.resources:
            self.resources.append(resource)
        task = len(self._rows)
        self._rows.append((round(seconds * PS_PER_S), self.resources.index(resource), task, operator, layer))
        self._edges.extend((before, task) for before in after)
        return task

    def build(self) -> TaskTable:
        """The finished table."""
        rows = np.array(self._rows, dtype=TASK_DTYPE)
        edges = np.array(self._edges, dtype=np.int64).reshape(-1, 2)
        edges = edges[np.argsort(edges[:, 0], kind="stable")]
        starts = np.searchsorted(edges[:, 0], np.arange(len(rows) + 1))
        return TaskTable(rows, starts.astype(np.int64), np.ascontiguousarray(edges[:, 1]), tuple(self.resources))


@dataclass(frozen=True)
class TaskTable:
    """rows (tasks,) TASK_DTYPE; successors of task i: successor[successor_start[i]:successor_start[i + 1]]."""

    rows: NDArray[np.void]
    successor_start: NDArray[np.int64]
    successor: NDArray[np.int64]
    resources: tuple[str, ...]

    def schedule(self) -> Schedule:
        """List-schedule the table. Raises ArchsimError if the precedence graph has a cycle."""
        from archsim.execution.schedule_kernels import schedule

        start_ps, end_ps = schedule(
            np.ascontiguousarray(self.rows["duration_ps"]),
            np.ascontiguousarray(self.rows["resource"]),
            np.ascontiguousarray(self.rows["priority"]),
            self.successor_start,
            self.successor,
            len(self.resources),
        )
        if start_ps.size and start_ps.min() < 0:
            raise ArchsimError("the task graph has a cycle")
        return Schedule(self, start_ps, end_ps)


@dataclass(frozen=True)
class Schedule:
    """When every task of a table runs, in picoseconds."""

    table: TaskTable
    start_ps: NDArray[np.int64]
    end_ps: NDArray[np.int64]

    @property
    def makespan_s(self) -> float:
        """End of the last task."""
        return float(self.end_ps.max()) / PS_PER_S if self.end_ps.size else 0.0

    def exposed_s(self, operators: int) -> NDArray[np.float64]:
        """The makespan shared out over the operators: (operators + 1,) seconds, the last entry is idle time.

        Where several tasks run at once the instant goes to the one on the busiest resource (the bottleneck), so that
        an operator there shows its whole time and the others only what they add. Adds up to the makespan.
        """
        rows = self.table.rows
        busy_ps = np.bincount(rows["resource"], rows["duration_ps"], minlength=len(self.table.resources))
        times = np.unique(np.concatenate([[0], self.start_ps, self.end_ps]))
        owner = np.full(times.size - 1, operators)
        first, last = np.searchsorted(times, self.start_ps), np.searchsorted(times, self.end_ps)
        # the busiest resource is painted last, over the others
        for task in np.argsort(busy_ps[rows["resource"]], kind="stable").tolist():
            owner[first[task] : last[task]] = rows["operator"][task]
        return np.bincount(owner, np.diff(times), minlength=operators + 1) / PS_PER_S
