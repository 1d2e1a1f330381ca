"""Products on one systolic array, counted as SCALE-Sim v2 counts them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.compute.scalesim.report_kernels import first_fault, report_all, share_all
from archsim.compute.scalesim.stall_kernels import simulate_all
from archsim.errors import UsageError, unknown_name

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DATAFLOWS = ("output-stationary", "weight-stationary", "input-stationary")
SHORT_NAMES = {"os": DATAFLOWS[0], "ws": DATAFLOWS[1], "is": DATAFLOWS[2]}
NOT_MODELLED = -1
_LARGEST = 2.0**62


@dataclass(frozen=True)
class ScaleSimReport:
    """What the peer reports, as arrays of one shape. A word is one element, one byte in the peer.

    total_cycles            index of the last cycle, one less than their number: the peer prints it so
    stall_cycles            of them waiting for memory; 0 without a bandwidth
    overall_utilisation     multiply-adds / (total_cycles x cells), share
    mapping_efficiency      cells that hold an operand, mean share over the folds
    compute_utilisation     multiply-adds / (cells x cycles of a fold without stalls), mean share over the folds; for
                            stationary operands the peer takes a fold for columns - 1 cycles longer than it lasts
    *_sram_*_words          words exchanged between the array and the three buffers
    *_dram_*_words          words moved over the ports; NOT_MODELLED without a bandwidth
    """

    folds: Ints
    total_cycles: Ints
    stall_cycles: Ints
    overall_utilisation: Floats
    mapping_efficiency: Floats
    compute_utilisation: Floats
    ifmap_sram_reads_words: Ints
    filter_sram_reads_words: Ints
    ofmap_sram_writes_words: Ints
    ifmap_dram_reads_words: Ints
    filter_dram_reads_words: Ints
    ofmap_dram_writes_words: Ints


def simulate_gemms(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, *, rows: ArrayLike, columns: ArrayLike, dataflow: str | Sequence[str],
    ifmap_sram_words: ArrayLike = 0, filter_sram_words: ArrayLike = 0, ofmap_sram_words: ArrayLike = 0,
    bandwidth_words_per_cycle: ArrayLike = 0,
) -> ScaleSimReport:  # fmt: skip
    """SCALE-Sim v2's report of (m, k) x (k, n) products; all arguments are broadcast against each other.

    dataflow                   one of DATAFLOWS or os, ws, is
    *_sram_words               size of the buffers of (m, k), (k, n) and (m, n): half to work with, half to prefetch
    bandwidth_words_per_cycle  of each of the three ports (the peer's USER mode); 0: as much as it takes, no stalls
                               (its CALC mode), and then the buffers do not matter

    Raises UsageError for a dimension below one, an unknown dataflow, a bandwidth without buffers of two words or
    more, and counts beyond 2**62.
    """
    given = (rows, columns, m, n, k, ifmap_sram_words, filter_sram_words, ofmap_sram_words, bandwidth_words_per_cycle)
    arrays = [np.asarray(_codes(dataflow)), *map(_whole, _NAMES, given)]
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(("dataflow", *_NAMES), arrays, strict=True))
        raise UsageError(f"arrays that do not fit together: {shapes}") from None
    cases = np.empty((math.prod(shape), len(arrays)), dtype=np.int64)
    for at, array in enumerate(arrays):
        cases[:, at] = array if array.ndim == 0 else np.broadcast_to(array, shape).reshape(-1)
    _check(cases)
    counts, shares = np.empty((len(cases), 10), dtype=np.int64), np.empty((len(cases), 3))
    report_all(cases, counts)
    if cases[:, 9].any():
        simulate_all(cases, np.zeros((64, 2), dtype=np.int64), counts[:, 5:])
    share_all(cases, counts, shares)
    count = [counts[:, at].reshape(shape) for at in range(10)]
    overall, mapping, compute = (shares[:, at].reshape(shape) for at in range(3))
    return ScaleSimReport(
        count[0], count[5], count[6], overall, mapping, compute,
        count[2], count[3], count[4], count[7], count[8], count[9],
    )  # fmt: skip


_NAMES = (
    "rows", "columns", "m", "n", "k", "ifmap_sram_words", "filter_sram_words", "ofmap_sram_words",
    "bandwidth_words_per_cycle",
)  # fmt: skip


def _codes(dataflow: str | Sequence[str]) -> int | list[int]:
    if isinstance(dataflow, str):
        name = SHORT_NAMES.get(dataflow, dataflow)
        if name not in DATAFLOWS:
            raise UsageError(unknown_name("dataflow", dataflow, (*DATAFLOWS, *SHORT_NAMES)))
        return DATAFLOWS.index(name)
    known = {name: _codes(name) for name in set(dataflow)}
    return [int(np.asarray(known[name])) for name in dataflow]


def _whole(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype == np.int64:
        return array
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and not np.all(np.mod(array, 1) == 0)):
        raise UsageError(f"{name}: found {values!r:.60}, expected whole numbers")
    if array.size and (array.max() >= _LARGEST or array.min() < -_LARGEST):
        raise UsageError(f"{name}: found {array.max()}, expected less than 2**62")
    return array.astype(np.int64)


def _check(cases: Ints) -> None:
    at, column = first_fault(cases)
    if at < 0:
        return
    if column < 0:
        raise UsageError(f"a product of {cases[at, 3]} x {cases[at, 4]} x {cases[at, 5]} overflows 2**62 cycles")
    lowest = 1 if column <= 5 else 0
    if 6 <= column <= 8 and cases[at, column] >= 0:
        raise UsageError(
            f"{_NAMES[column - 1]}: found {cases[at, column]}, expected 2 or more where a bandwidth is given"
        )
    raise UsageError(f"{_NAMES[column - 1]}: found {cases[at, column]}, expected {lowest} or more")
