"""Runs the kinds of a manifest over its rows and collects statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import InputError, UsageError, unknown_name
from archsim.validation.manifest import Dataset, Manifest, read_manifest, read_rows, result_files
from archsim.validation.registry import Rows, find_kind
from archsim.validation.statistics import (
    DatasetResult,
    ValidationReport,
    column_statistics,
    compare_column,
    group_statistics,
)

Advance = Callable[[str], None]
_DESCRIBING_COLUMNS = 4
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class _File:
    """One results file; `numbers` are the 1-based row numbers that `rows` had before sampling."""

    name: str
    rows: Rows
    numbers: list[int]


def validate(
    dirs: Iterable[str | Path],
    kinds: Iterable[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    advance: Advance | None = None,
) -> ValidationReport:
    """Compare archsim with every dataset of the folders `dirs`.

    kinds    only datasets of these kinds (default: all)
    limit    about this many rows of each dataset, drawn with `seed`
    advance  told `reference: kind` before each dataset, for progress
    Raises InputError or ConfigError for reference data that cannot be read, UsageError if no dataset is of `kinds`.
    """
    manifests = [read_manifest(Path(folder)) for folder in dirs]
    wanted = None if kinds is None else set(kinds)
    there = {dataset.kind for manifest in manifests for dataset in manifest.datasets}
    if wanted is not None and not wanted <= there:
        raise UsageError(unknown_name("kind of dataset", sorted(wanted - there)[0], there))
    results = []
    for manifest in manifests:
        for dataset in manifest.datasets:
            if wanted is None or dataset.kind in wanted:
                if advance is not None:
                    advance(f"{manifest.name}: {dataset.kind}")
                results.append(_run(manifest, dataset, limit, np.random.default_rng(seed)))
    return ValidationReport(", ".join(manifest.name for manifest in manifests), tuple(results))


def _run(manifest: Manifest, dataset: Dataset, limit: int | None, random: np.random.Generator) -> DatasetResult:
    kind = find_kind(dataset.kind)
    truth = dataset.truth or tuple(getattr(kind, "truth", ())) or _first_known(manifest, dataset, kind)
    files = _sample(_read_files(manifest, dataset, truth), getattr(kind, "sample_by", ()), limit, random)
    count = sum(len(file.rows) for file in files)
    if kind is None or not truth:
        reason = f"no model for kind {dataset.kind!r}" if kind is None else "the manifest names no truth columns"
        reasons = {reason: count} if count else {}
        return DatasetResult(manifest.name, dataset.kind, dataset.results, count, count, reasons)
    predicted, skips = _predict(kind(), files, manifest, dataset, truth)
    return _collect(kind, files, predicted, skips, manifest, dataset)


def _first_known(manifest: Manifest, dataset: Dataset, kind: Any) -> tuple[str, ...]:
    """The first of the kind's `truth_any` columns that the first results file has."""
    for path in result_files(manifest, dataset)[:1] if hasattr(kind, "truth_any") else ():
        header, _ = read_rows(path)
        return tuple(column for column in kind.truth_any if column in header)[:1]
    return ()


def _read_files(manifest: Manifest, dataset: Dataset, truth: Sequence[str]) -> list[_File]:
    """All files of a dataset; of a pattern, only those that have the truth columns (others are tables beside them)."""
    is_pattern = isinstance(dataset.results, str) and any(sign in dataset.results for sign in "*?[")
    files = []
    for path in result_files(manifest, dataset):
        header, rows = read_rows(path)
        lacking = [column for column in truth if column not in header and not _in_other_unit(column, header, rows)]
        if lacking and is_pattern:
            continue
        if lacking:
            raise InputError(f"{path}:1: {unknown_name('column', lacking[0], header)}")
        name = path.relative_to(manifest.folder).as_posix()
        files.append(_File(name, rows, list(range(1, len(rows) + 1))))
    return files


def _in_other_unit(column: str, header: Sequence[str], rows: Rows) -> bool:
    """Fill a time `column` from the same quantity in another unit, if the table has that; says whether it did."""
    name, _, unit = column.rpartition("_")
    found = [other for other in _SECONDS if unit in _SECONDS and f"{name}_{other}" in header]
    for row in rows if found else ():
        text = row[f"{name}_{found[0]}"]
        row[column] = repr(float(text) * _SECONDS[found[0]] / _SECONDS[unit]) if text else ""
    return bool(found)


def _sample(files: list[_File], together: Sequence[str], limit: int | None, random: np.random.Generator) -> list[_File]:
    """About `limit` rows over all files, in file order; rows equal in the columns `together` come all or none."""
    if limit is None or sum(len(file.rows) for file in files) <= limit:
        return files
    bundles: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for at, file in enumerate(files):
        for position, row in enumerate(file.rows):
            key: tuple[Any, ...] = tuple(file.name if name == "results" else row.get(name) for name in together)
            bundles.setdefault(key or (at, position), []).append((at, position))
    chosen: set[tuple[int, int]] = set()
    names = list(bundles)
    for number in random.permutation(len(names)):
        if len(chosen) >= limit:
            break
        chosen.update(bundles[names[number]])
    sampled = []
    for at, file in enumerate(files):
        kept = [position for position in range(len(file.rows)) if (at, position) in chosen]
        if kept:
            sampled.append(_File(file.name, [file.rows[p] for p in kept], [file.numbers[p] for p in kept]))
    return sampled


def _predict(
    kind: Any, files: list[_File], manifest: Manifest, dataset: Dataset, truth: Sequence[str]
) -> tuple[dict[str, list[Any]], list[str | None]]:
    """Predictions of all files one after the other; a column the kind leaves out is None throughout."""
    predicted: dict[str, list[Any]] = {column: [] for column in truth}
    skips: list[str | None] = []
    for file in files:
        entry = {**dataset.options, "kind": dataset.kind, "truth": list(truth), "results": file.name}
        columns, reasons = kind.predict(file.rows, manifest.folder, entry)
        for column in truth:
            values = columns.get(column) or [None] * len(file.rows)
            if len(values) != len(file.rows) or len(reasons) != len(file.rows):
                raise ValueError(f"kind {dataset.kind!r} answered {len(values)} of {len(file.rows)} rows")
            predicted[column] += values
        skips += reasons
    return predicted, skips


def _collect(
    kind: Any,
    files: list[_File],
    predicted: dict[str, list[Any]],
    skips: list[str | None],
    manifest: Manifest,
    dataset: Dataset,
) -> DatasetResult:
    rows = [row for file in files for row in file.rows]
    identities = _identities(kind, files, tuple(predicted))
    reasons = Counter(reason for reason in skips if reason is not None)
    columns, comparisons = {}, []
    for column, values in predicted.items():
        kept = [None if skip is not None else value for value, skip in zip(values, skips, strict=True)]
        silent = sum(
            value is None and skip is None and row[column] != ""
            for value, skip, row in zip(kept, skips, rows, strict=True)
        )
        if silent:
            reasons[f"no prediction of {column}"] += silent
        comparison = compare_column([row[column] for row in rows], kept)
        comparisons.append(comparison)
        columns[column] = column_statistics(comparison, identities)
    by = [name for name in getattr(kind, "group_by", ()) if rows and name in rows[0]]
    keys = [{name: row[name] for name in by} for row in rows]
    if hasattr(kind, "group_of"):
        keys = [kind.group_of(row) for row in rows]
    groups = group_statistics(comparisons[0], keys) if any(keys) else ()
    skipped = sum(skip is not None for skip in skips)
    return DatasetResult(
        manifest.name, dataset.kind, dataset.results, len(rows), skipped, dict(reasons), columns, groups
    )


def _identities(kind: Any, files: list[_File], truth: Sequence[str]) -> list[dict[str, Any]]:
    """For every row what tells it apart: its file, number and a few columns."""
    identities: list[dict[str, Any]] = []
    for file in files:
        names = list(getattr(kind, "describe", ()) or getattr(kind, "group_by", ()))
        if not names and file.rows:
            names = [name for name in file.rows[0] if name not in truth][:_DESCRIBING_COLUMNS]
        for number, row in zip(file.numbers, file.rows, strict=True):
            of = {name: row[name] for name in names if name in row}
            identities.append({"row": number, "file": file.name, "of": of})
    return identities
