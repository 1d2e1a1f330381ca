"""The same choice as a mixed-integer linear program: slower, and written from the definition alone, to check by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.mapping.search.problem import Edge, Problem, Solution, assess


def solve_milp(problem: Problem, limit_bytes: int | None = None, time_limit_s: float = 60.0) -> Solution | None:
    """The fastest plan within the limit by SciPy's HiGHS; None if none exists.

    One binary per choice and one per pair of choices on an edge; the pairs of an edge sum up to the choices at both
    ends. Raises RuntimeError if HiGHS gives up within `time_limit_s`.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    model = _Model(problem, limit_bytes)
    rows, lower, upper = model.constraints()
    found = milp(
        model.cost, integrality=model.integrality, bounds=Bounds(model.low, model.high),
        constraints=LinearConstraint(csr_array(rows), lower, upper),
        options={"mip_rel_gap": 0.0, "time_limit": time_limit_s},
    )  # fmt: skip
    if found.status == 2:
        return None
    if found.x is None or found.status != 0:
        raise RuntimeError(f"HiGHS: {found.message}")
    picks = [
        int(np.argmax(found.x[start : start + len(c)])) for start, c in zip(model.starts, problem.choices, strict=True)
    ]
    return assess(problem, picks)


class _Model:
    """Columns: choices of each operator, pairs of each edge, and the largest transient memory."""

    def __init__(self, problem: Problem, limit_bytes: int | None) -> None:
        self._problem, self._limit = problem, limit_bytes
        sizes = [len(choices) for choices in problem.choices]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
        self._pairs = np.concatenate([[0], np.cumsum([sizes[e.source] * sizes[e.target] for e in problem.edges])])
        self._pairs = self._pairs.astype(int) + sum(sizes)
        count = int(self._pairs[-1]) + 1
        self.cost, self.low, self.high = np.zeros(count), np.zeros(count), np.ones(count)
        self.integrality = np.ones(count, dtype=np.int64)
        self.high[-1], self.integrality[-1] = np.inf, 0
        for start, choices in zip(self.starts, problem.choices, strict=True):
            self.cost[start : start + len(choices)] = [choice.time_ps for choice in choices]
        for start, edge in zip(self._pairs[:-1], problem.edges, strict=True):
            self._price(start, edge)

    def _price(self, start: int, edge: Edge) -> None:
        column = start
        for source in self._problem.choices[edge.source]:
            for target in self._problem.choices[edge.target]:
                cost = edge.convert_ps.get((source.gives, target.needs))
                if cost is None:
                    self.high[column] = 0.0
                else:
                    self.cost[column] = cost
                column += 1

    def constraints(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(rows, columns) matrix with lower and upper bounds of each row."""
        rows: list[NDArray[np.float64]] = []
        bounds: list[tuple[float, float]] = []

        def add(columns: dict[int, float], lower: float, upper: float) -> None:
            row = np.zeros(self.cost.size)
            for column, value in columns.items():
                row[column] = value
            rows.append(row)
            bounds.append((lower, upper))

        for start, choices in zip(self.starts, self._problem.choices, strict=True):
            add({start + i: 1.0 for i in range(len(choices))}, 1.0, 1.0)
        for first, edge in zip(self._pairs[:-1], self._problem.edges, strict=True):
            n, m = len(self._problem.choices[edge.source]), len(self._problem.choices[edge.target])
            for i in range(n):
                columns = {first + i * m + j: 1.0 for j in range(m)}
                add(columns | {int(self.starts[edge.source]) + i: -1.0}, 0.0, 0.0)
            for j in range(m):
                columns = {first + i * m + j: 1.0 for i in range(n)}
                add(columns | {int(self.starts[edge.target]) + j: -1.0}, 0.0, 0.0)
        if self._limit is not None:
            self._limit_memory(add)
        low, high = zip(*bounds, strict=True)
        return np.array(rows), np.array(low), np.array(high)

    def _limit_memory(self, add: object) -> None:
        assert callable(add) and self._limit is not None  # noqa: PT018
        unit = max(self._limit, 1)  # bytes in units of the limit keep the matrix well scaled
        peak = self.cost.size - 1
        total: dict[int, float] = {peak: 1.0}
        for start, choices in zip(self.starts, self._problem.choices, strict=True):
            columns: dict[int, float] = {peak: -1.0}
            for i, choice in enumerate(choices):
                total[start + i] = choice.resident_bytes / unit
                columns[start + i] = choice.transient_bytes / unit
            add(columns, -np.inf, 0.0)
        add(total, -np.inf, self._limit / unit)
