"""From oracles to the arrays of the compiled simulator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archsim.serving.oracle import AffineOracle, LatencyOracle, StepTables, TabulatedOracle
from archsim.serving.oracle_kernels import AFFINE, ASK, TABLES, OracleArrays

_AXES = {"batch": 0, "context": 1, "dense": 2, "chunk": 3, "before": 4, "shared_new": 5, "shared_batch": 6}
_SHAPES = {
    "batch": (0,), "context": (1,), "step_s": (0, 1), "step_j": (0, 1), "dense": (2,), "dense_s": (2,), "dense_j": (2,),
    "chunk": (3,), "before": (4,), "prompt_s": (3, 4), "prompt_j": (3, 4), "host_s": (), "host_j": (),
    "launches_s": (), "captured_tokens": (), "shared_new": (5,), "shared_batch": (6,), "shared_s": (5, 6, 1),
    "shared_j": (5, 6, 1),
}  # fmt: skip


def compile_oracles(
    oracles: Sequence[LatencyOracle], max_batch: int, longest_tokens: int, *, count_units: bool = False
) -> OracleArrays:
    """Arrays for the machines `oracles`; one that is neither affine nor tabulated is asked at every iteration.

    count_units  count which points of the tables are used, see `unit_kernels`
    """
    kinds = np.array([_kind(oracle) for oracle in oracles], dtype=np.int64)
    affine = [oracle if isinstance(oracle, AffineOracle) else None for oracle in oracles]
    longest = max(max(len(o.prompts), len(o.decodes), 1) if o else 1 for o in affine)
    rows = np.zeros((len(oracles), 3, longest, 6))
    rows[..., 0] = np.inf
    joules = np.zeros((len(oracles), 3, 1, 6))
    for m, oracle in enumerate(affine):
        if oracle is not None:
            own = oracle.rows()
            rows[m, :, : own.shape[1]] = own
            joules[m] = oracle.joules()
    tables = [
        oracle.tables(max_batch, longest_tokens) if kind == TABLES and isinstance(oracle, TabulatedOracle) else None
        for kind, oracle in zip(kinds, oracles, strict=True)
    ]
    sizes = np.array([[_length(table, axis) for axis in _AXES] for table in tables], dtype=np.int64)
    stacked = {name: _stack(tables, name, sizes) for name in _SHAPES}
    counted = {
        f"{name}_w": np.zeros((len(oracles) if count_units else 0, *phases, *stacked[f"{name}_s"].shape[1:]))
        for name, phases in {"step": (3,), "dense": (3,), "prompt": (3,), "host": (3,), "shared": ()}.items()
    }  # fmt: skip
    adapters = np.zeros((len(oracles) if count_units else 0, 3))
    return OracleArrays(kinds, rows, joules, sizes, **stacked, **counted, adapter_w=adapters)


def clear_counts(o: OracleArrays) -> None:
    """Forget what has been counted, before another run."""
    for weights in (o.step_w, o.dense_w, o.prompt_w, o.host_w, o.shared_w, o.adapter_w):
        weights[...] = 0.0


def _kind(oracle: LatencyOracle) -> int:
    if isinstance(oracle, AffineOracle):
        return AFFINE
    return TABLES if isinstance(oracle, TabulatedOracle) else ASK


def _length(table: StepTables | None, axis: str) -> int:
    return 1 if table is None else len(getattr(table, axis))


def _stack(tables: Sequence[StepTables | None], name: str, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    shape = tuple(int(sizes[:, axis].max()) for axis in _SHAPES[name])
    stacked = np.zeros((len(tables), *shape))
    for m, table in enumerate(tables):
        if table is not None:
            values = np.asarray(getattr(table, name), dtype=np.float64)
            place: tuple[int | slice, ...] = (m, *(slice(0, length) for length in values.shape))
            stacked[place] = values
    return stacked
