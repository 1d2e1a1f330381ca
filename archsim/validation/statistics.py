"""How far predictions are from the truth, column by column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.results import VALIDATION_SCHEMA

WORST_ROWS = 5
_DIGITS_FOR_EXACT = 6


@dataclass(frozen=True)
class ColumnStatistics:
    """One truth column. Percentage errors are None where no row could be compared.

    exact  rows that are equal: whole numbers and text literally; a decimal written with six or more digits, to its
           last digit
    worst  rows with the largest error: {row, file, truth, predicted, ape_pct, of{column: value}}; row counts from 1
    """

    rows: int
    exact: int
    mape_pct: float | None
    median_ape_pct: float | None
    p95_ape_pct: float | None
    max_ape_pct: float | None
    bias_pct: float | None
    worst: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class GroupStatistics:
    """Rows that share the values `by`; errors of the first truth column."""

    by: dict[str, str]
    rows: int
    mape_pct: float | None
    bias_pct: float | None


@dataclass(frozen=True)
class DatasetResult:
    """One dataset of a manifest. `reasons`: why rows were skipped, or a column not predicted -> how many rows."""

    reference: str
    kind: str
    results: str | list[str]
    rows: int
    skipped: int
    reasons: dict[str, int] = field(default_factory=dict)
    columns: dict[str, ColumnStatistics] = field(default_factory=dict)
    groups: tuple[GroupStatistics, ...] = ()


@dataclass(frozen=True)
class ValidationReport:
    """All datasets of one or more folders of reference data."""

    reference: str
    datasets: tuple[DatasetResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"schema": VALIDATION_SCHEMA, **asdict(self)}


@dataclass(frozen=True)
class Comparison:
    """Truth and prediction of the rows of one column that have both.

    index            row numbers among all rows of the dataset
    error            (rows,) signed relative error; a zero truth met by something else counts as 1, and so does
                     text that differs
    equal            (rows,) whether the row counts as exact
    """

    index: list[int]
    truth: list[str]
    predicted: list[Any]
    error: NDArray[np.float64]
    equal: NDArray[np.bool_]


def compare_column(truth: Sequence[str], predicted: Sequence[Any]) -> Comparison:
    """Compare one column; rows without a truth (empty, NaN) or without a prediction (None) are left out."""
    numeric = all(_number(text) is not None for text in truth if text)
    index, errors, equals = [], [], []
    for row, (text, value) in enumerate(zip(truth, predicted, strict=True)):
        if not text or value is None:
            continue
        if numeric:
            wanted = _number(text)
            if wanted is None or not math.isfinite(wanted):
                continue
            errors.append(_relative_error(float(value), wanted))
            equals.append(_same_number(float(value), wanted, text))
        else:
            errors.append(0.0 if str(value) == text else 1.0)
            equals.append(str(value) == text)
        index.append(row)
    return Comparison(
        index, [truth[row] for row in index], [predicted[row] for row in index],
        np.array(errors, dtype=np.float64), np.array(equals, dtype=np.bool_),
    )  # fmt: skip


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _relative_error(value: float, truth: float) -> float:
    if value == truth:
        return 0.0
    if not math.isfinite(value):
        return math.copysign(1e6, value) if value == value else 1e6  # a prediction that is no number is wrong, visibly
    return (value - truth) / abs(truth) if truth else math.copysign(1.0, value)


def _same_number(value: float, truth: float, text: str) -> bool:
    if value == truth:
        return True
    mantissa = text.lower().partition("e")[0]
    digits = sum(sign.isdigit() for sign in mantissa.lstrip("+-0."))
    if "." not in mantissa or digits < _DIGITS_FOR_EXACT:
        return False
    return f"{value:.{digits - 1}e}" == f"{truth:.{digits - 1}e}"


def column_statistics(comparison: Comparison, describe: Sequence[Mapping[str, Any]]) -> ColumnStatistics:
    """Statistics of one column; `describe` holds for every row of the dataset what identifies it."""
    absolute_pct = np.abs(comparison.error) * 100.0
    if not absolute_pct.size:
        return ColumnStatistics(0, 0, None, None, None, None, None)
    order = np.argsort(-absolute_pct, kind="stable")[:WORST_ROWS]
    worst = tuple(
        {
            **describe[comparison.index[position]],
            "truth": comparison.truth[position],
            "predicted": comparison.predicted[position],
            "ape_pct": float(absolute_pct[position]),
        }
        for position in order
        if absolute_pct[position] > 0
    )
    return ColumnStatistics(
        rows=int(absolute_pct.size),
        exact=int(comparison.equal.sum()),
        mape_pct=float(absolute_pct.mean()),
        median_ape_pct=float(np.median(absolute_pct)),
        p95_ape_pct=float(np.percentile(absolute_pct, 95)),
        max_ape_pct=float(absolute_pct.max()),
        bias_pct=float(comparison.error.mean() * 100.0),
        worst=worst,
    )


def group_statistics(comparison: Comparison, keys: Sequence[Mapping[str, str]]) -> tuple[GroupStatistics, ...]:
    """Mean error of each group of rows with equal `keys`, in order of first appearance."""
    members: dict[tuple[tuple[str, str], ...], list[float]] = {}
    for position, row in enumerate(comparison.index):
        members.setdefault(tuple(keys[row].items()), []).append(float(comparison.error[position]))
    return tuple(
        GroupStatistics(dict(by), len(errors), float(np.abs(errors).mean() * 100), float(np.mean(errors) * 100))
        for by, errors in members.items()
    )
