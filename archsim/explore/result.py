"""The outcome of an exploration: counts, the Pareto front, and all points as one HDF5 table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.explore.pareto import front_ranks
from archsim.explore.point import ERROR, INFEASIBLE, OK
from archsim.explore.store import SCHEMA
from archsim.report.hdf5 import Column, new_file, unit_of, write_columns

if TYPE_CHECKING:
    from archsim.config.schemas.space import Space

Record = dict[str, Any]
_KEYS = {
    "index": ("1", "number of the point"), "status": ("", "ok, infeasible or error"), "reason": ("", "why not ok"),
    "system": ("", "machine"), "model": ("", "transformer"),
    "input_len": ("1", "prompt tokens"), "output_len": ("1", "generated tokens"),
}  # fmt: skip


@dataclass(frozen=True)
class FrontPoint:
    """One point that no other with the same model, input_len and output_len beats in every objective."""

    index: int
    system: str
    model: str
    batch: int | None
    input_len: int
    output_len: int
    parameters: dict[str, Any]
    objectives: dict[str, float]


@dataclass(frozen=True)
class ExploreResult:
    """An exploration: how its points ended, and the Pareto front of each work (model, input_len, output_len).

    reasons: sentence -> number of points that ended so, the most frequent first.
    notes: what a reader must know about the models of the machines, e.g. that a device is not calibrated; each once.
    """

    name: str
    points: int
    ok: int
    infeasible: int
    errors: int
    outside_constraints: int
    objectives: dict[str, str]
    front: tuple[FrontPoint, ...]
    reasons: dict[str, int] = field(default_factory=dict)
    hdf5: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"schema": SCHEMA, **asdict(self)}


def summarise(space: Space, records: list[Record], folder: Path) -> ExploreResult:
    """Rank the points, write `points.h5`, and name the front."""
    within = np.array([_within(space, record) for record in records], dtype=bool)
    ranks = _ranks(_losses(space, records, within), records)
    path = folder / "points.h5"
    _write(path, space, records, within, ranks)
    front = [_front_point(space, records[index]) for index in np.flatnonzero(ranks == 0)]
    first, sense = next(iter(space.objectives.items()))
    sign = 1 if sense == "min" else -1
    front.sort(key=lambda point: (*_work(asdict(point)), sign * point.objectives[first], point.index))
    count = [record["status"] for record in records].count
    outside = sum(record["status"] == OK for record in records) - int(within.sum())
    return ExploreResult(
        space.name, len(records), count(OK), count(INFEASIBLE), count(ERROR), outside,
        dict(space.objectives), tuple(front), _reasons(records), path.name, _notes(records),
    )  # fmt: skip


def _work(record: Record) -> tuple[str, int, int]:
    """What a point does: machines, settings and batches compete for the same work only."""
    return record["model"], record["input_len"], record["output_len"]


def _ranks(losses: NDArray[np.float64], records: list[Record]) -> NDArray[np.int64]:
    """Rank of each point among those that do the same work."""
    ranks = np.full(len(records), -1, dtype=np.int64)
    rows: dict[tuple[str, int, int], list[int]] = {}
    for row, record in enumerate(records):
        rows.setdefault(_work(record), []).append(row)
    for same in rows.values():
        ranks[same] = front_ranks(losses[same])
    return ranks


def _front_point(space: Space, record: Record) -> FrontPoint:
    chosen = {path: record["metrics"][path] for path in space.objectives}
    shared = {key: record[key] for key in ("index", "system", "model", "batch", "input_len", "output_len")}
    batch = record["metrics"].get("request.batch", record["batch"])  # the largest that fits, if none was asked for
    return FrontPoint(**(shared | {"batch": batch}), parameters=record["parameters"], objectives=chosen)


def _reasons(records: list[Record]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in records:
        if record["reason"]:
            counts[record["reason"]] = counts.get(record["reason"], 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20])


def _notes(records: list[Record]) -> tuple[str, ...]:
    """Of all points, each once; points that an older version stored have none."""
    return tuple(dict.fromkeys(note for record in records for note in record.get("notes", ())))


def _within(space: Space, record: Record) -> bool:
    if record["status"] != OK:
        return False
    values = record["metrics"]
    return all(
        path in values
        and (bounds.min is None or values[path] >= bounds.min)
        and (bounds.max is None or values[path] <= bounds.max)
        for path, bounds in space.constraints.items()
    )


def _losses(space: Space, records: list[Record], within: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(points, objectives), smaller is better; NaN where a point is no candidate."""
    losses = np.full((len(records), len(space.objectives)), np.nan)
    for column, (path, sense) in enumerate(space.objectives.items()):
        sign = 1.0 if sense == "min" else -1.0
        for row in np.flatnonzero(within):
            losses[row, column] = sign * records[row]["metrics"].get(path, np.nan)
    return losses


def _write(
    path: Path, space: Space, records: list[Record], within: NDArray[np.bool_], ranks: NDArray[np.int64]
) -> None:
    """All points as /points; a function of the records alone, so that a resumed run writes the same datasets."""
    columns: dict[str, Column] = {
        key: ([record[key] for record in records], unit, name) for key, (unit, name) in _KEYS.items()
    }
    batches = [-1 if record["batch"] is None else record["batch"] for record in records]
    columns["batch"] = (batches, "1", "requests at once; -1: the largest batch that fits")
    for name in space.parameters:
        columns[f"parameter.{name}"] = (_uniform([record["parameters"][name] for record in records]), "", name)
    columns["notes"] = (
        ["; ".join(record.get("notes", ())) for record in records],
        "",
        "about the models of the machine",
    )
    columns["within_constraints"] = (within.astype(np.int8), "1", "ok and inside all constraints")
    columns["pareto_rank"] = (ranks, "1", "0: Pareto front of its model, input_len and output_len; -1: no candidate")
    for name in sorted({name for record in records for name in record["metrics"]}):
        values = [record["metrics"].get(name, np.nan) for record in records]
        columns[f"metric.{name}"] = (np.asarray(values), unit_of(name), name.replace("_", " "))
    configuration = space.model_dump(mode="json", by_alias=True)
    with new_file(path, SCHEMA, configuration) as file:
        write_columns(file.create_group("points"), columns, "point")


def _uniform(values: list[Any]) -> list[Any]:
    """Numbers stay numbers only if all are."""
    return values if all(type(value) in (int, float) for value in values) else [str(value) for value in values]
