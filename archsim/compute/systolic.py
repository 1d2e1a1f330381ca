"""Cycles and scratchpad accesses of a matrix product on systolic arrays, in closed form.

A product larger than the array is cut into folds. Cycles per fold and accesses follow SCALE-Sim v2 (22f88b1):
its array pays load, skew and drain in every fold. An array whose cells hold two stationary values loads the next
fold while this one streams; then a fold costs the longer of the two, and skew and drain are paid once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsim.config.schemas.npu import Dataflow


@dataclass(frozen=True)
class Folds:
    """How one (m, k) x (k, n) product is cut up.

    count        folds
    stream       elements that pass through each row or column in a fold, cycles
    load         cycles to put the stationary operand in place before a fold
    splittable   several arrays can share a fold by each taking a part of the stream
    """

    count: float
    stream: float
    load: float
    splittable: bool


@dataclass(frozen=True)
class Accesses:
    """Elements the arrays exchange with the scratchpad. Partial sums come back for every further reduction fold."""

    a_reads: float
    b_reads: float
    c_writes: float
    c_reads: float


def cut_into_folds(dataflow: Dataflow, m: float, n: float, k: float, rows: int, columns: int) -> Folds:
    """Folds of an (m, k) x (k, n) product on one rows x columns array."""
    if dataflow == "output-stationary":
        return Folds(math.ceil(m / rows) * math.ceil(n / columns), k, 0.0, False)
    held, stream = (n, m) if dataflow == "weight-stationary" else (m, n)
    return Folds(math.ceil(k / rows) * math.ceil(held / columns), stream, float(rows), True)


def array_cycles(
    dataflow: Dataflow, m: float, n: float, k: float, rows: int, columns: int,
    *, count: float = 1.0, arrays: int = 1, overlapped: bool = False,
) -> float:  # fmt: skip
    """Cycles of `count` equal products whose folds are dealt out over `arrays` arrays.

    With one array and no overlap this is SCALE-Sim's number of cycles (its report shows the index of the last).
    """
    folds = cut_into_folds(dataflow, m, n, k, rows, columns)
    jobs = folds.count * count
    stream = folds.stream
    if folds.splittable and jobs < arrays:
        stream = math.ceil(stream / (arrays // int(jobs)))
    per_array = math.ceil(jobs / arrays)
    skew = rows + columns - 2
    if not overlapped:
        return per_array * (folds.load + stream + skew)
    # The stationary values, or with outputs stationary the finished sums, move through `rows` cells.
    return folds.load + (per_array - 1) * max(stream, rows) + stream + skew


def scratchpad_accesses(dataflow: Dataflow, m: float, n: float, k: float, rows: int, columns: int) -> Accesses:
    """Elements moved between scratchpad and array by one product."""
    if dataflow == "output-stationary":
        return Accesses(m * k * math.ceil(n / columns), k * n * math.ceil(m / rows), m * n, 0.0)
    passes = math.ceil(k / rows)
    if dataflow == "weight-stationary":
        a_reads, b_reads = m * k * math.ceil(n / columns), k * n
    else:
        a_reads, b_reads = m * k, k * n * math.ceil(m / columns)
    return Accesses(a_reads, b_reads, m * n * passes, m * n * (passes - 1))
