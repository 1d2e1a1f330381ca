"""Products on one systolic array, counted as SCALE-Sim v2 counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.compute.scalesim.report_kernels import report_all
from archsim.compute.scalesim.stall_kernels import simulate_all
from archsim.errors import UsageError, unknown_name

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DATAFLOWS = ("output-stationary", "weight-stationary", "input-stationary")
SHORT_NAMES = {"os": DATAFLOWS[0], "ws": DATAFLOWS[1], "is": DATAFLOWS[2]}
NOT_MODELLED = -1
_LARGEST = 2.0**62
_MAX_LINE_VISITS = 10**10  # folds of a run with stalls: some 10 ns each


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
    codes = np.asarray(_codes(dataflow))
    given = (rows, columns, m, n, k, ifmap_sram_words, filter_sram_words, ofmap_sram_words, bandwidth_words_per_cycle)
    arrays = [codes, *(_whole(name, value) for name, value in zip(_NAMES, given, strict=True))]
    try:
        every = np.broadcast_arrays(*arrays)
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(("dataflow", *_NAMES), arrays, strict=True))
        raise UsageError(f"arrays that do not fit together: {shapes}") from None
    shape = every[0].shape
    cases = np.ascontiguousarray(np.stack([column.ravel() for column in every], axis=1), dtype=np.int64)
    _check(cases)
    counts, shares = np.empty((len(cases), 5), dtype=np.int64), np.empty((len(cases), 2))
    report_all(cases, counts, shares)
    found = np.full((len(cases), 5), NOT_MODELLED, dtype=np.int64)
    found[:, 0], found[:, 1] = counts[:, 1], 0
    limited = cases[:, 9] > 0
    if limited.any():
        stalled = np.empty((int(limited.sum()), 5), dtype=np.int64)
        simulate_all(cases[limited], np.zeros((64, 2), dtype=np.int64), stalled)
        found[limited] = stalled
    work = cases[:, 3].astype(np.float64) * cases[:, 4] * cases[:, 5]
    # A single multiply-add on a single cell ends in cycle 0, where the peer divides by zero.
    with np.errstate(divide="ignore"):
        overall = work / (found[:, 0].astype(np.float64) * cases[:, 1] * cases[:, 2])
    whole = np.concatenate((counts, found), axis=1).T.reshape(10, *shape)
    share = np.column_stack((overall, shares)).T.reshape(3, *shape)
    return ScaleSimReport(
        whole[0], whole[5], whole[6], share[0], share[1], share[2],
        whole[2], whole[3], whole[4], whole[7], whole[8], whole[9],
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
    if array.dtype.kind not in "iuf" or (array.dtype.kind == "f" and not np.all(np.mod(array, 1) == 0)):
        raise UsageError(f"{name}: found {values!r:.60}, expected whole numbers")
    if array.size and (array.max() >= _LARGEST or array.min() < -_LARGEST):
        raise UsageError(f"{name}: found {array.max()}, expected less than 2**62")
    return array.astype(np.int64)


def _check(cases: Ints) -> None:
    for at, name in enumerate(_NAMES, start=1):
        lowest = 1 if at <= 5 else 0
        wrong = np.flatnonzero(cases[:, at] < lowest)
        if wrong.size:
            raise UsageError(f"{name}: found {cases[wrong[0], at]}, expected {lowest} or more")
    limited = cases[cases[:, 9] > 0]
    for at in (6, 7, 8):
        small = np.flatnonzero(limited[:, at] < 2)
        if small.size:
            found = limited[small[0], at]
            raise UsageError(f"{_NAMES[at - 1]}: found {found}, expected 2 or more where a bandwidth is given")
    _, rows, columns, m, n, k = (cases[:, at].astype(np.float64) for at in range(6))
    sides = (m / rows + 1) * (n / columns + 1) * (k / np.minimum(rows, columns) + 1)
    bound = np.maximum(m * n * k, sides * (m + n + k + 2 * rows + columns))
    if bound.size and bound.max() >= _LARGEST:
        at = int(bound.argmax())
        raise UsageError(f"a product of {cases[at, 3]} x {cases[at, 4]} x {cases[at, 5]} overflows 2**62 cycles")
