"""A tiled product on {DMA, array, vector unit}, worked out slowly: every step a task with names of what it waits for.

Written from the documentation of archsim/compute/npu, with no code of it: tiles as sets of index ranges, durations
from first principles, times as longest paths in the graph of tasks.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Case:
    """One product on one machine with `cores` equal cores of one array."""

    m: int
    n: int
    k: int
    products: int = 1
    rows: int = 4
    columns: int = 4
    arrays: int = 1
    dataflow: str = "weight-stationary"
    preload: bool = True
    overlap: bool = True
    cores: int = 1
    multicast: bool = True
    double: bool = True
    a_bytes: float = 2.0
    b_bytes: float = 2.0
    c_bytes: float = 2.0
    sum_bytes: int = 4
    scratchpad: float = 1e9
    accumulator: float = 1e9
    cycle_ps: float = 1000.0
    ps_per_byte: float = 10.0
    latency_ps: int = 700
    result_ps: float = 0.0
    convert_ps: float = 0.0


@dataclass(frozen=True)
class Mapping:
    split: tuple[int, int, int]
    tile: tuple[int, int, int]
    order: str


def sizes(total: int, granule: int) -> list[int]:
    """For each number of tiles the smallest multiple of the granule that needs no more."""
    found = {}
    for size in range(granule, total + granule, granule):
        found.setdefault(math.ceil(total / size), min(size, total))
    return sorted(set(found.values()))


def mappings(case: Case) -> list[Mapping]:
    """Every legal one."""
    found = []
    for split in itertools.product(range(1, case.cores + 1), repeat=3):
        if math.prod(split) != case.cores:
            continue
        run = Run(case, Mapping(split, (1, 1, 1), "mnk"))
        m, n, _, k = run.share
        granule = {"m": case.rows, "n": case.columns, "k": case.rows}
        if case.dataflow == "input-stationary":
            granule = {"m": case.columns, "n": case.rows, "k": case.rows}
        axes = [sizes(size, granule[axis]) for axis, size in (("m", m), ("n", n), ("k", k))]
        for tile in itertools.product(*axes):
            for order in itertools.permutations("mnk"):
                mapping = Mapping(split, tile, "".join(order))
                if Run(case, mapping).fits:
                    found.append(mapping)
    return found


@dataclass(frozen=True)
class Run:
    """A case under a mapping."""

    case: Case
    mapping: Mapping

    @cached_property
    def share(self) -> tuple[int, int, int, int]:
        c, s = self.case, self.mapping.split
        return math.ceil(c.m / s[0]), math.ceil(c.n / s[1]), math.ceil(c.products / s[2]), c.k

    @cached_property
    def walk(self) -> list[tuple[int, int, int, int]]:
        """(product, m, n, k) tile indices in order."""
        m, n, products, k = self.share
        tile = self.mapping.tile
        counts = {"m": math.ceil(m / tile[0]), "n": math.ceil(n / tile[1]), "k": math.ceil(k / tile[2])}
        steps = []
        for p in range(products):
            for indices in itertools.product(*(range(counts[axis]) for axis in self.mapping.order)):
                at = dict(zip(self.mapping.order, indices, strict=True))
                steps.append((p, at["m"], at["n"], at["k"]))
        return steps

    @cached_property
    def fits(self) -> bool:
        c, (tm, tn, tk) = self.case, self.mapping.tile
        a = len({(p, m, k) for p, m, n, k in self.walk})
        b = len({(p, k, n) for p, m, n, k in self.walk})
        o = len({(p, m, n) for p, m, n, k in self.walk})
        copies = [min(2 if c.double else 1, tiles) for tiles in (a, b, o)]
        operands = copies[0] * tm * tk * c.a_bytes + copies[1] * tk * tn * c.b_bytes
        return operands <= c.scratchpad and copies[2] * tm * tn * c.sum_bytes <= c.accumulator

    def size(self, axis: int, index: int) -> int:
        total = self.share[(0, 1, 3)[axis]]
        return min(self.mapping.tile[axis], total - index * self.mapping.tile[axis])

    @cached_property
    def often(self) -> tuple[float, float, float]:
        """Tiles of A, B, C moved for all cores, per tile of one core."""
        c, (m, n, products, _) = self.case, self.share
        cores_m, cores_n, groups = c.m / m, c.n / n, c.products / products
        apart = (1.0, 1.0) if c.multicast else (max(1.0, cores_n), max(1.0, cores_m))
        return cores_m * groups * apart[0], cores_n * groups * apart[1], cores_m * cores_n * groups

    def array_ps(self, m: int, n: int, k: int) -> int:
        c = self.case
        if c.dataflow == "output-stationary":
            folds, stream, load = math.ceil(m / c.rows) * math.ceil(n / c.columns), k, 0
        elif c.dataflow == "weight-stationary":
            folds, stream, load = math.ceil(k / c.rows) * math.ceil(n / c.columns), m, c.rows
        else:
            folds, stream, load = math.ceil(k / c.rows) * math.ceil(m / c.columns), n, c.rows
        if folds < c.arrays and c.dataflow != "output-stationary":
            stream = math.ceil(stream / (c.arrays // folds))
        skew = c.rows + c.columns - 2
        if c.overlap:
            period = max(stream, c.rows) if c.preload else stream + c.rows
        else:
            period = stream + skew + (0 if c.preload else load)
        return math.ceil(math.ceil(folds / c.arrays) * period * c.cycle_ps)

    @cached_property
    def end_ps(self) -> int:
        """The makespan."""
        tasks = self.tasks
        done: dict[str, int] = {}
        for name, (duration, after) in tasks.items():  # waits only for tasks that stand before it, or is deferred
            done[name] = duration + max((self._end(tasks, done, other) for other in after), default=0)
        return max(done.values())

    def _end(self, tasks: dict[str, tuple[int, list[str]]], done: dict[str, int], name: str) -> int:
        if name not in done:
            duration, after = tasks[name]
            done[name] = duration + max((self._end(tasks, done, other) for other in after), default=0)
        return done[name]

    @cached_property
    def tasks(self) -> dict[str, tuple[int, list[str]]]:
        """name -> (duration, names of what must have ended): L load, V convert, G compute, R result, S store."""
        c, steps = self.case, self.walk
        tasks: dict[str, tuple[int, list[str]]] = {}
        dma: list[str] = []
        vector: list[str] = []
        last_k = max(k for *_, k in steps)
        output = [(p, m, n) for p, m, n, _ in steps]
        closes = [i + 1 == len(steps) or output[i + 1] != output[i] for i in range(len(steps))]
        spills = any(closes[i] and steps[i][3] < last_k for i in range(len(steps)))
        stored: list[str] = []
        for s, (p, m, n, k) in enumerate(steps):
            before = steps[s - 1] if s else None
            tm, tn, tk = self.size(0, m), self.size(1, n), self.size(2, k)
            new_a = before is None or (before[0], before[1], before[3]) != (p, m, k)
            new_b = before is None or (before[0], before[3], before[2]) != (p, k, n)
            opens = before is None or output[s] != output[s - 1]
            load = math.ceil(tm * tk * c.a_bytes * c.ps_per_byte * self.often[0]) if new_a else 0
            load += math.ceil(tk * tn * c.b_bytes * c.ps_per_byte * self.often[1]) if new_b else 0
            load += math.ceil(tm * tn * c.sum_bytes * self.often[2] * c.ps_per_byte) if opens and k > 0 else 0
            convert = math.ceil(tk * tn * c.convert_ps) if new_b else 0
            compute = self.array_ps(tm, tn, tk) + self.extra_ps(s, len(steps), (tm, tn, tk))
            ahead = 2 if c.double else 1
            free = [f"G{s - ahead}"] if s >= ahead else []
            tasks[f"L{s}"] = (load + (c.latency_ps if s == 0 else 0), free)
            tasks[f"V{s}"] = (convert, [f"L{s}"])
            tasks[f"G{s}"] = (compute, [f"V{s}"] + ([f"G{s - 1}"] if s else []))
            if opens and len(stored) >= ahead:
                tasks[f"G{s}"][1].append(stored[-ahead])
            if closes[s]:
                final = k == last_k
                tasks[f"R{s}"] = (math.ceil(tm * tn * c.result_ps) if final else 0, [f"G{s}"])
                element = c.c_bytes if final else c.sum_bytes
                store = math.ceil(tm * tn * element * c.ps_per_byte * self.often[2])
                tasks[f"S{s}"] = (store, [f"R{s}"])
                stored.append(f"S{s}")
        # the order in which DMA and vector unit work
        for s in range(len(steps) + 2):
            late = [f"S{s - 2}"] if c.double else [f"S{s - 1}"]
            dma += [*late, f"L{s}"] if spills or not c.double else [f"L{s}", *late]
            vector += [f"V{s}", f"R{s - 1}"] if c.double else [f"R{s - 1}", f"V{s}"]
        for queue in (dma, [v for v in vector if v in tasks and tasks[v][0] > 0]):
            present = [name for name in queue if name in tasks]
            for first, second in itertools.pairwise(present):
                tasks[second][1].append(first)
        return tasks

    def extra_ps(self, s: int, steps: int, tile: tuple[int, int, int]) -> int:
        """Fill before the first tile, skew after the last."""
        c = self.case
        extra = 0
        if s == 0 and c.preload and c.dataflow != "output-stationary":
            extra += math.ceil(c.rows * c.cycle_ps)
        if s == steps - 1 and c.overlap:
            m, n, k = tile
            stream = {"output-stationary": k, "weight-stationary": m, "input-stationary": n}[c.dataflow]
            held = {"output-stationary": 0, "weight-stationary": n, "input-stationary": m}[c.dataflow]
            folds = math.ceil(k / c.rows) * math.ceil(held / c.columns)
            if 0 < folds < c.arrays:
                stream = math.ceil(stream / (c.arrays // folds))
            waited = max(stream, c.rows) - stream if c.preload else 0
            extra += math.ceil((c.rows + c.columns - 2 - waited) * c.cycle_ps)
        return extra

    @cached_property
    def traffic_bytes(self) -> float:
        """Bytes of all loads and stores, by walking; rounded, so that equal traffic compares equal."""
        c, steps, moved = self.case, self.walk, 0.0
        last_k = max(k for *_, k in steps)
        for s, (p, m, n, k) in enumerate(steps):
            before = steps[s - 1] if s else (-1, -1, -1, -1)
            after = steps[s + 1] if s + 1 < len(steps) else (-1, -1, -1, -1)
            tm, tn, tk = self.size(0, m), self.size(1, n), self.size(2, k)
            if (before[0], before[1], before[3]) != (p, m, k):
                moved += tm * tk * c.a_bytes * self.often[0]
            if (before[0], before[2], before[3]) != (p, n, k):
                moved += tk * tn * c.b_bytes * self.often[1]
            if before[:3] != (p, m, n) and k > 0:
                moved += tm * tn * c.sum_bytes * self.often[2]
            if after[:3] != (p, m, n):
                moved += tm * tn * (c.c_bytes if k == last_k else c.sum_bytes) * self.often[2]
        return round(moved, 6)
