"""NPU programs: operations as tiles on {DMA, array, vector unit} in the task table.

The units work through their tasks in program order, so consecutive tasks of a unit are linked. One operation alone
takes exactly the time that the kernels of archsim.compute.npu give it (they skip steady states, the program does not).
In a sequence of operations, an operation waits for the stores of the one before, whose results it reads; weights wait
for nothing but a free buffer: the first are loaded before the last stores of the operation ahead.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.compute.npu import attention_kernels as xk
from archsim.compute.npu import pipeline_kernels as pk
from archsim.compute.npu.attention import Attention
from archsim.compute.npu.elementwise import Elementwise
from archsim.compute.npu.operators import Solution
from archsim.compute.npu.product import Product
from archsim.errors import UsageError
from archsim.execution.tasks import PS_PER_S, Schedule, TaskTableBuilder
from archsim.results import Timeline

DMA, ARRAY, VECTOR = "dma", "array", "vector"
MOST_STEPS = 200_000  # of a program


@dataclass(frozen=True)
class Step:
    """One tile. ps of the load of A (with partial sums), of B, of conversion, compute, result and store; None: none."""

    load_a: int
    load_b: int
    convert: int
    compute: int
    opens: bool
    result: int = 0
    store: int | None = None


@dataclass
class Program:
    """Collects the tasks of operations that run one after the other.

    weights_ahead  whether B operands (weights) may be loaded before the operation ahead has stored its results
    """

    builder: TaskTableBuilder = field(default_factory=TaskTableBuilder)
    names: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    _last: dict[str, int] = field(default_factory=dict)  # unit -> its last task
    _deferred: list[tuple[int, list[int], int]] = field(default_factory=list)  # a store held back: ps, after, operation
    _computed: list[int] = field(default_factory=list)
    _steps: int = 0

    def add(self, name: str, found: Solution, weights_ahead: bool = False, most: int | None = None) -> None:
        """Append one operation, or its first `most` tiles. Raises UsageError where the program becomes too long."""
        self._steps += min(found.steps, most or found.steps)
        if self._steps > MOST_STEPS:
            raise UsageError(f"found a program of more than {MOST_STEPS:,} tiles; choose a smaller shape")
        self.operations.append(name)
        if isinstance(found, Attention):
            self._attention(found, most)
        else:
            self._pipeline(found, weights_ahead and isinstance(found, Product), most)

    def schedule(self) -> Schedule:
        """Run the program."""
        self._flush()
        return self.builder.build().schedule()

    def _task(self, unit: str, name: str, ps: int, after: Sequence[int], operation: int | None = None) -> int:
        before = [*after, *([self._last[unit]] if unit in self._last else [])]
        owner = len(self.operations) - 1 if operation is None else operation
        number = self.builder.add(unit, ps / PS_PER_S, owner, list(dict.fromkeys(before)))
        self.names.append(name)
        self._last[unit] = number
        return number

    def _flush(self) -> list[int]:
        """Issue the store held back, if there is one."""
        stores = [self._task(DMA, "MOVOUT", ps, after, operation) for ps, after, operation in self._deferred]
        self._deferred = []
        return stores

    def _pipeline(self, found: Product | Elementwise, weights_ahead: bool, most: int | None) -> None:
        steps, walk = list(itertools.islice(steps_of(found), most)), found.walk
        spills, lag = bool(walk[pk.W_SPILLS]) or not walk[pk.W_DOUBLE], 2 if walk[pk.W_DOUBLE] else 1
        unit, word = (ARRAY, "GEMM") if isinstance(found, Product) else (VECTOR, "VECTOR")
        latency = int(walk[pk.W_LATENCY])
        computed: list[int] = []
        results: dict[int, int] = {}
        stored: list[int] = []
        early = []
        if weights_ahead and self._deferred and steps[0].load_b:
            early = [self._task(DMA, "MOVIN weights", latency + steps[0].load_b, self._computed[-2:-1])]
        ahead = self._flush()

        def result(s: int) -> None:
            if s >= 0 and steps[s].result:
                results[s] = self._task(VECTOR, "VECTOR", steps[s].result, [computed[s]])

        def store(s: int) -> None:
            ps = steps[s].store if s >= 0 else None
            if ps is not None:
                stored.append(self._task(DMA, "MOVOUT", ps, [results.get(s, computed[s])]))

        for s, step in enumerate(steps):
            if lag == 1:
                result(s - 1)
            if spills:
                store(s - lag)
            ps = step.load_a + (0 if s == 0 and early else step.load_b) + (latency if s == 0 and not early else 0)
            loaded = [computed[s - lag]] if s >= lag else ahead
            if ps:
                loaded = [self._task(DMA, "MOVIN", ps, loaded)]
            if s == 0:
                loaded = loaded + early
            if not spills:
                store(s - lag)
            if step.convert:
                loaded = [self._task(VECTOR, "DEQUANTISE", step.convert, loaded)]
            if lag == 2:
                result(s - 1)
            computed.append(self._task(unit, word, step.compute, [*loaded, *(stored[-1:] if step.opens else [])]))
        end = len(steps) - 1
        result(end)
        if lag == 2:
            store(end - 1)
        # the last store is held back until the next operation's weights have been asked for
        self._deferred = [(steps[end].store or 0, [results.get(end, computed[end])], len(self.operations) - 1)]
        self._computed = computed

    def _attention(self, found: Attention, most: int | None) -> None:
        ahead = self._flush()
        summed: list[int] = []
        pending: tuple[int, NDArray[np.int64], bool] | None = None

        def take() -> None:
            if pending is None:
                return
            soft, t, last = pending
            summed.append(self._task(ARRAY, "GEMM context", int(t[xk.X_CONTEXT]), [soft]))
            if last:
                done = self._task(VECTOR, "NORMALISE", int(t[xk.X_NORMALISE]), [summed[-1]])
                self._deferred = [(int(t[xk.X_STORE]), [done], len(self.operations) - 1)]

        first = True
        blocks = ((i, j) for _ in range(found.products) for i, seen in enumerate(found.visible) for j in range(seen))
        for i, j in itertools.islice(blocks, most):
            last = j == found.visible[i] - 1
            t = found.tables[:, (2 if i == found.counts[0] - 1 else 0) + (1 if j == found.counts[1] - 1 else 0)]
            loads = found.counts[1] > 1 or i == 0
            ps = (int(t[xk.X_LOAD_Q]) if j == 0 else 0) + (int(t[xk.X_LOAD_KV]) if loads else 0)
            ps += found.latency_ps if first else 0
            here = [self._task(DMA, "MOVIN", ps, summed[-2:-1] if not first else ahead)]
            if loads and t[xk.X_CONVERT]:
                here = [self._task(VECTOR, "DEQUANTISE", int(t[xk.X_CONVERT]), here)]
            scored = self._task(ARRAY, "GEMM scores", int(t[xk.X_SCORE]) + (found.fill_ps if first else 0), here)
            take()
            self._flush()
            soft = self._task(VECTOR, "SOFTMAX", int(t[xk.X_SOFTMAX]), [scored])
            pending, first = (soft, t, last), False
        take()
        self._computed = summed


def steps_of(found: Product | Elementwise) -> Iterator[Step]:
    """The tiles of a pipeline in order, with what each has to load, compute and store."""
    if isinstance(found, Product):
        order, counts, products = found.order, dict(zip("mnk", found.counts, strict=True)), found.share[2]
    else:
        order, counts, products = "mnk", {"m": found.chunks, "n": 1, "k": 1}, 1
    tables, walk = found.tables.tolist(), found.walk
    ranges = [range(counts[axis]) for axis in order]
    place = [order.index(axis) for axis in "mnk"]
    total = math.prod(counts.values()) * products
    walked = ((p, *(at[i] for i in place)) for p in range(products) for at in itertools.product(*ranges))
    before: tuple[int, ...] = (-1, -1, -1, -1)
    now = next(walked)
    for number in range(total):
        after = next(walked, (-1, -1, -1, -1))
        p, m, n, k = now
        code = sum(
            weight
            for weight, axis, index in ((4, "m", m), (2, "n", n), (1, "k", k))
            if counts[axis] > 1 and index == counts[axis] - 1
        )
        new_a, new_b = (before[0], before[1], before[3]) != (p, m, k), (before[0], before[2], before[3]) != (p, n, k)
        opens, closes = before[:3] != (p, m, n), after[:3] != (p, m, n)
        final = k == counts["k"] - 1
        compute = tables[pk.T_COMPUTE][code] + (int(walk[pk.W_FILL]) if number == 0 else 0)
        compute += int(walk[pk.W_DRAIN]) if number == total - 1 else 0
        yield Step(
            load_a=(tables[pk.T_LOAD_A][code] if new_a else 0) + (tables[pk.T_LOAD_C][code] if opens and k > 0 else 0),
            load_b=tables[pk.T_LOAD_B][code] if new_b else 0,
            convert=tables[pk.T_CONVERT][code] if new_b else 0,
            compute=compute,
            opens=opens,
            result=tables[pk.T_RESULT][code] if closes and final else 0,
            store=(tables[pk.T_STORE][code] if final else tables[pk.T_SPILL][code]) if closes else None,
        )
        before, now = now, after


def product_timeline(found: Solution, most: int | None = None) -> Timeline:
    """The tiles of one operation, or the first `most`. Raises UsageError if they are too many to list."""
    program = Program()
    program.add(found.op.kind, found, most=most)
    return program_timeline(program, program.schedule(), "operation")


def program_timeline(program: Program, schedule: Schedule, phase: str) -> Timeline:
    """Every tile of a program as a slice named after its operation."""
    rows = schedule.table.rows
    names = [
        f"{program.operations[operator]} {name}"
        for operator, name in zip(rows["operator"].tolist(), program.names, strict=True)
    ]
    return Timeline(
        name=tuple(names),
        resource=tuple(schedule.table.resources[i] for i in rows["resource"].tolist()),
        phase=(phase,) * len(names),
        layer=np.zeros(len(names), np.int64),
        start_s=schedule.start_ps / PS_PER_S,
        end_s=schedule.end_ps / PS_PER_S,
    )
